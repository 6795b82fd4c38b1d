"""Linear SRA: every token attends to a pooled map of fixed size.

Paper   Wang et al.: PVT v2, Computational Visual Media 2022, https://arxiv.org/abs/2106.13797
Agrees  with pvt_v2.py of whai362/PVT (its linear attention), weights included (tests/mechanisms/test_linear_sra.py)
Differs the pooled size is a setting, pool_size; the authors write 7.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, M = pool_size^2:
        q    b h w (n d)     -> b n (h w) d
        k v  b p p (2 n d)   -> b n (p p) d, from GELU(LayerNorm(1 x 1 convolution(adaptive mean to p x p)))
        cells of the mean overlap where p does not divide the map, and repeat where the map is smaller
Cost    multiply-accumulates per image: 2 N C^2 + 3 M C^2 + 2 N M C
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.sra import cross


def refuses(pool_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if pool_size < 1:
        return f"pool_size must be at least 1; got pool_size={pool_size}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the convolution and the two products."""
    N, M, C = size.tokens, int(size.settings["pool_size"]) ** 2, size.dim
    return 2 * N * C**2 + 3 * M * C**2 + 2 * N * M * C


@mechanism(
    name="linear_sra",
    display="Linear SRA",
    title="attention to a map pooled to a fixed size",
    paper="arXiv:2106.13797",
    year=2022,
    repository="whai362/PVT",
    defaults={"pool_size": 7},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="linear",
)
class LinearSRA(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, pool_size: int) -> None:
        super().__init__()
        self.heads, self.pool_size = heads, pool_size
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to the pooled map."""
        pooled = self.sr(F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), self.pool_size)).permute(0, 2, 3, 1)
        return self.proj(cross(self.q(x), self.kv(F.gelu(self.norm(pooled))), self.heads, self.kernel))
