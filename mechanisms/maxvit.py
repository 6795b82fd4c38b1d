"""What MaxViT's block and grid attention share: all but which tokens attend to each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.window import relative_position_index

Split = Callable[[Tensor, int, int], Tensor]
Join = Callable[[Tensor, int, int, int], Tensor]


class OffsetBias(nn.Module):
    """A bias per head for each offset of a key from its query, down by across: [heads, 2 side - 1, 2 side - 1].

    The table is the authors'; its name is that of their checkpoints' conversion by timm (`*_tf_*`).
    """

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty(heads, 2 * side - 1, 2 * side - 1))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("index", relative_position_index(side).T.contiguous(), persistent=False)  # key less query

    def forward(self) -> Tensor:
        """[1, heads, s s, s s]."""
        return self.relative_position_bias_table.flatten(1)[:, self.get_buffer("index")][None]


class PartitionAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]: attention inside groups of side x side tokens of the padded map.

    Args:
        dim: channels.
        heads: attention heads.
        side: of a group, in tokens; the map is padded to multiples of it.
        use_rel_pos: whether a bias per head and offset is learned.
        split: cuts [B,H,W,3C], given side and heads, into [3, B groups, heads, side side, D].
        join: puts [B groups, heads, side side, D], given side, H and W, back together to [B,H,W,C].
    """

    def __init__(self, dim: int, heads: int, *, side: int, use_rel_pos: bool, split: Split, join: Join) -> None:
        super().__init__()
        self.heads, self.side, self.split, self.join = heads, side, split, join
        self.qkv = nn.Linear(dim, 3 * dim)
        self.rel_pos = OffsetBias(side, heads) if use_rel_pos else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each group of the padded map."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.side)
        q, k, v = self.split(self.qkv(x), self.side, self.heads)  # each (b groups) n (s s) d
        bias = None if self.rel_pos is None else self.rel_pos()
        y = attend(q, k, v, bias, kernel=self.kernel)
        return crop(self.proj(self.join(y, self.side, *x.shape[1:3])), H, W)
