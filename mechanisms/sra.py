"""SRA: every token attends to a map that a strided convolution has made smaller.

Paper   Wang et al.: Pyramid Vision Transformer, ICCV 2021, https://arxiv.org/abs/2102.12122
Agrees  with pvt.py of whai362/PVT, weights included (tests/mechanisms/test_sra.py)
Differs a map smaller than sr_ratio is padded with zeros at the right and the bottom up to it, where the
        authors' convolution fails. Rows and columns that sr_ratio leaves over give no keys, as with the authors.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, r = sr_ratio, M = floor(H/r) floor(W/r):
        q    b h w (n d)    -> b n (h w) d
        k v  b h' w' (2 n d) -> b n (h' w') d, from LayerNorm(convolution r x r of stride r)
        sr_ratio 1 is plain attention, without convolution and norm
Cost    multiply-accumulates per image: 2 N C^2 + (r^2 + 2) M C^2 + 2 N M C;  r = 1: 4 N C^2 + 2 N^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def cross(q: Tensor, kv: Tensor, heads: int, kernel: str) -> Tensor:
    """Attend from every place of q [B,H,W,C] to every place of kv [B,H',W',2C]: [B,H,W,C]."""
    B, H, W, C = q.shape
    queries = q.view(B, H * W, heads, -1).transpose(1, 2)
    k, v = kv.view(B, -1, 2, heads, C // heads).permute(2, 0, 3, 1, 4)
    y = attend(queries, k, v, kernel=kernel)  # b n (h w) d
    return y.transpose(1, 2).reshape(B, H, W, C)


def reduction(dim: int, r: int) -> nn.Conv2d:
    """The convolution r x r of stride r, its weight stored in the memory format of the maps that it meets.

    PyTorch converts a weight of another format in every call: at batch 1 that is more traffic than the map itself.
    """
    convolution = nn.Conv2d(dim, dim, r, stride=r)
    convolution.weight = nn.Parameter(convolution.weight.detach().contiguous(memory_format=torch.channels_last))
    return convolution


def reduced(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The strided convolution of [B,H,W,C], of a map not smaller than its kernel."""
    r = convolution.kernel_size[0]
    below, right = max(r - x.shape[1], 0), max(r - x.shape[2], 0)
    if below or right:
        x = F.pad(x, (0, 0, 0, right, 0, below))
    return convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # views: channels_last


def refuses(sr_ratio: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if sr_ratio < 1:
        return f"sr_ratio must be at least 1; got sr_ratio={sr_ratio}"
    return None


def keys(size: Size) -> tuple[int, int]:
    """Rows and columns of the reduced map."""
    r, (H, W) = int(size.settings["sr_ratio"]), size.grid
    return max(H // r, 1), max(W // r, 1)


def macs(size: Size) -> int:
    """MACs of the projections, the convolution and the two products."""
    r, N, C = int(size.settings["sr_ratio"]), size.tokens, size.dim
    M = keys(size)[0] * keys(size)[1]
    return 2 * N * C**2 + 2 * M * C**2 + 2 * N * M * C + (M * r**2 * C**2 if r > 1 else 0)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """All that the convolution covers, and the token itself where its query has a choice."""
    r, (H, W), (rows, columns) = int(size.settings["sr_ratio"]), size.grid, keys(size)
    covered = {(i, j) for i in range(min(rows * r, H)) for j in range(min(columns * r, W))}
    return covered | {(y, x)} if rows * columns > 1 else covered


@mechanism(
    name="sra",
    display="SRA",
    title="spatial-reduction attention",
    paper="arXiv:2102.12122",
    year=2021,
    repository="whai362/PVT",
    defaults={"sr_ratio": 2},
    per_stride={4: {"sr_ratio": 8}, 8: {"sr_ratio": 4}, 32: {"sr_ratio": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={"published": "419.56 M holds fvcore's 188,160 for LayerNorm, which are no multiply-accumulates"},
)
class SRA(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, sr_ratio: int) -> None:
        super().__init__()
        self.heads, self.sr_ratio = heads, sr_ratio
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.sr = reduction(dim, sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to the reduced map."""
        small = self.norm(reduced(x, self.sr)) if self.sr_ratio > 1 else x
        return self.proj(cross(self.q(x), self.kv(small), self.heads, self.kernel))
