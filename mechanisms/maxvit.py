"""What MaxViT's block and grid attention share: all but which tokens attend to each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.window import relative_position_bias, relative_position_index


class OffsetBias(nn.Module):
    """A bias for each offset and head; its parameter has the name that timm's checkpoints give it."""

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * side - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("index", relative_position_index(side), persistent=False)

    def forward(self) -> Tensor:
        """[1, heads, s s, s s]."""
        return relative_position_bias(self.relative_position_bias_table, self.get_buffer("index"))


class PartitionAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]; `split` and `join` say how the padded map is cut into groups of side x side tokens.

    Args:
        dim: channels.
        heads: attention heads.
        side: of a group, in tokens; the map is padded to multiples of it.
        use_rel_pos: whether a bias per head and offset is learned.
    """

    def __init__(self, dim: int, heads: int, *, side: int, use_rel_pos: bool) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.rel_pos = OffsetBias(side, heads) if use_rel_pos else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each group of the padded map."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.side)
        q, k, v = self.split(self.qkv(x))  # each (b groups) n (s s) d
        bias = None if self.rel_pos is None else self.rel_pos()
        y = attend(q, k, v, bias, kernel=self.kernel)
        return crop(self.proj(self.join(y, *x.shape[1:3])), H, W)

    def split(self, qkv: Tensor) -> Tensor:
        """[B,H,W,3C] -> [3, B groups, heads, s s, D]."""
        raise NotImplementedError

    def join(self, y: Tensor, H: int, W: int) -> Tensor:
        """[B groups, heads, s s, D] -> [B,H,W,C]."""
        raise NotImplementedError
