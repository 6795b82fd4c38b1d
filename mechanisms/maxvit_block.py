"""Block attention of MaxViT: inside windows, with a bias for each offset.

Paper   Tu et al.: MaxViT: Multi-Axis Vision Transformer, ECCV 2022, https://arxiv.org/abs/2204.01697
Agrees  with the block attention of timm's MaxViT, weights and parameter names included, on maps that the window
        divides (tests/mechanisms/test_maxvit_block.py; timm's layout with head_first off). The authors'
        TensorFlow code was not run.
Differs a map that the window does not divide is padded with zeros at the right and the bottom (padded tokens are
        attended to, unmasked), where timm refuses it. Heads have width dim / heads, whatever it is; the
        authors' models have 32. The normalisation, MLP and convolutions around it belong to their block.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = window_size:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d]
        bias from a table of (2s-1)^2 offsets per head -> 1 n (s s) (s s)
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to
from mechanisms.window import (
    NOTE_SDPA,
    from_windows,
    macs,
    reach,
    refuses,
    relative_position_bias,
    relative_position_index,
    windows,
)


class OffsetBias(nn.Module):
    """A bias for each offset and head; its parameter stands where timm's checkpoints have it."""

    def __init__(self, window_size: int, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("index", relative_position_index(window_size), persistent=False)

    def forward(self) -> Tensor:
        """[1, heads, s s, s s]."""
        return relative_position_bias(self.relative_position_bias_table, self.get_buffer("index"))


@mechanism(
    name="maxvit_block",
    title="MaxViT's block attention: windows with relative bias",
    paper="arXiv:2204.01697",
    year=2022,
    repository="google-research/maxvit",
    defaults={"window_size": 7, "use_rel_pos": True},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={"sdpa": NOTE_SDPA},
)
class MaxViTBlock(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, use_rel_pos: bool) -> None:
        super().__init__()
        self.heads, self.window_size = heads, window_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.rel_pos = OffsetBias(window_size, heads) if use_rel_pos else None
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each window of the padded map."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.window_size)
        q, k, v = windows(self.qkv(x), self.window_size, self.heads)
        bias = None if self.rel_pos is None else self.rel_pos()
        y = attend(q, k, v, bias, kernel=self.kernel)  # (b h w) n (s1 s2) d
        return crop(self.proj(from_windows(y, self.window_size, *x.shape[1:3])), H, W)
