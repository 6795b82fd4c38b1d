"""XCA: channels attend to channels, through their correlation over all tokens.

Paper   El-Nouby et al.: XCiT, NeurIPS 2021, https://arxiv.org/abs/2106.09681
Agrees  with the XCA layer of facebookresearch/xcit, weights included (tests/mechanisms/test_xca.py)
Differs nothing. In XCiT's block two depthwise convolutions follow, which mix neighbouring tokens; they are not here.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n; t is a head's temperature:
        qkv  b h w (3 n d) -> 3 x [b n d (h w)];  q and k of length 1 along the tokens
        y = softmax(t q k^T) v, the map of weights being d x d -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N C^2 / n
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def inverse_length(x: Tensor) -> Tensor:
    """One over the Euclidean length along the last axis, which is kept with one element."""
    least = max(1e-12, torch.finfo(x.dtype).tiny)
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(least).reciprocal()


def macs(size: Size) -> int:
    """MACs of the projections and the two products."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 2 * N * C * (C // size.heads)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """Everything; only the token itself where a head has one channel, whose weight is always 1."""
    H, W = size.grid
    return ((i, j) for i in range(H) for j in range(W)) if size.dim > size.heads else [(y, x)]


@mechanism(
    name="xca",
    display="XCA",
    title="cross-covariance attention between channels",
    paper="arXiv:2106.09681",
    year=2021,
    repository="facebookresearch/xcit",
    macs=macs,
    kernels=("eager", "sdpa"),
    reach=reach,
    growth="linear",
)
class XCA(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every channel of a head to the channels of that head."""
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 4, 1)  # each b n d (h w)
        q, k = q * (inverse_length(q) * self.temperature), k * inverse_length(k)
        y = attend(q, k, v, scale=1.0, kernel=self.kernel)  # b n d (h w)
        return self.proj(y.permute(0, 3, 1, 2).reshape(B, H, W, C))
