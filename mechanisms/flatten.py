"""Focused linear attention (FLatten): features are sharpened by a power, and a convolution of the values stands beside.

Paper   Han et al.: FLatten Transformer: Vision Transformer using Focused Linear Attention, ICCV 2023,
        https://arxiv.org/abs/2308.00442
Agrees  with the paper's formulas, checked by a loop over pairs of tokens; parameters and multiply-accumulates equal
        those counted on the authors' code, which was not run for its output (tests/mechanisms/test_flatten.py)
Differs the whole map is one window, and the keys are not reduced first (the authors' sr_ratio in PVT); one linear
        makes q, k and v, as in their Swin and CSWin forms. The power is taken of channels divided by the largest, and
        it and the normaliser in float32 at least, against overflow. The table of positions belongs to the grid that
        the layer was built for: another is refused.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, p = focusing_factor, P a table [N, C]:
        qkv  b h w (3 n d) -> 3 x [b (h w) c]; k = k + P
        f(u) = |s| s^p / |s^p|, s = (relu(u) + 1e-6) / softplus(scale), a scale for each channel, lengths over all heads
        y    = f(q) (f(k)^T v) / (f(q) . sum of f(k)), f(q) f(k) v split into b n (h w) d
        output W (y + depthwise kernel_size x kernel_size of v, with one kernel [d] for all heads)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N C D + N C + kernel_size^2 N C
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.linear_attention import EPSILON
from mechanisms.linear_attention import macs as linear_attention_macs
from mechanisms.precision import wide


def refuses(focusing_factor: int, kernel_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if focusing_factor < 1:
        return f"focusing_factor must be at least 1; got focusing_factor={focusing_factor}"
    if kernel_size < 1 or kernel_size % 2 == 0:
        return f"kernel_size must be odd and at least 1; got kernel_size={kernel_size}"
    return None


def macs(size: Size) -> int:
    """MACs of linear attention and of the convolution."""
    return linear_attention_macs(size) + int(size.settings["kernel_size"]) ** 2 * size.tokens * size.dim


@mechanism(
    name="flatten",
    display="FLatten",
    title="focused linear attention (FLatten)",
    paper="arXiv:2308.00442",
    year=2023,
    repository="LeapLabTHU/FLatten-Transformer",
    defaults={"focusing_factor": 3, "kernel_size": 5},
    macs=macs,
    refuses=refuses,
    reach="global",
    growth="linear",
)
class Flatten(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C], for one H x W."""

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int], focusing_factor: int, kernel_size: int) -> None:
        super().__init__()
        self.heads, self.grid, self.focusing_factor = heads, grid, focusing_factor
        d = dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dwc = nn.Conv2d(d, d, kernel_size, padding=kernel_size // 2, groups=d)
        self.scale = nn.Parameter(torch.zeros(1, 1, dim))
        self.positional_encoding = nn.Parameter(torch.zeros(1, grid[0] * grid[1], dim))

    def forward(self, x: Tensor) -> Tensor:
        """Sum sharpened keys and values up, read the sums with every query, add the surroundings of each value."""
        B, H, W, C = x.shape
        if self.grid != (H, W):
            built = "x".join(map(str, self.grid))
            raise ValueError(
                f"the grid must be the one that flatten was built for; got grid={H}x{W}, built for {built}"
            )
        q, k, v = self.qkv(x).view(B, H * W, 3, C).unbind(2)
        shrink = F.softplus(wide(self.scale)).reciprocal()
        q = self._focused(q, shrink)
        k = self._focused(k + self.positional_encoding, shrink)
        q, k, v = (t.view(B, H * W, self.heads, -1).transpose(1, 2) for t in (q, k, v))  # each b n (h w) d
        return self.proj(self._read(q, k, v).transpose(1, 2).reshape(B, H, W, C) + self._around(v, H, W))

    def _focused(self, u: Tensor, shrink: Tensor) -> Tensor:
        """A power of every channel, brought back to the length before: [B,N,C]."""
        s = (wide(u).relu() + 1e-6) * shrink
        power = (s / s.detach().amax(-1, keepdim=True)) ** self.focusing_factor  # from 0 to 1; its length cancels
        length = torch.linalg.vector_norm
        return power * (length(s, dim=-1, keepdim=True) / length(power, dim=-1, keepdim=True))

    def _read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The weighted means of the values: [B,n,N,D]."""
        N = q.shape[-2]
        norm = q @ k.mean(-2).unsqueeze(-1)  # b n (h w) 1
        sums = (k * N**-0.5).to(v.dtype).transpose(-2, -1) @ v * N**-0.5  # b n d d
        return (q / (norm + EPSILON)).to(v.dtype) @ sums

    def _around(self, v: Tensor, H: int, W: int) -> Tensor:
        """The same convolution in every head: [B,n,N,D] -> [B,H,W,C]."""
        B, n, _, d = v.shape
        image = v.reshape(B * n, H, W, d).permute(0, 3, 1, 2)
        return self.dwc(image).permute(0, 2, 3, 1).view(B, n, H, W, d).permute(0, 2, 3, 1, 4).reshape(B, H, W, n * d)
