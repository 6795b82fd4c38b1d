"""Efficient additive attention of SwiftFormer: one score per token makes one global query, which meets every key.

Paper   Shaker et al.: SwiftFormer: Efficient Additive Attention for Transformer-based Real-time Mobile Vision
        Applications, ICCV 2023, https://arxiv.org/abs/2303.15446
Agrees  with timm's additive attention with the same weights, checked where timm is installed, and with the paper's
        formula, checked by a loop over tokens (tests/mechanisms/test_swiftformer.py). Parameters have the names in
        the authors' code, which was not run.
Differs the authors multiply the scores by C^-1/2 before they give them length one, which changes nothing and is left
        out. Vectors shorter than the precision's epsilon, not than 1e-12, count as zero when they are normalised,
        or float16 would divide by zero. `heads` has no meaning here: the authors' models have one.

Shapes  B images, N = H W tokens, C channels; unit(.) has Euclidean length one along the axis named:
        q k    b h w c -> b (h w) c, unit along the channels
        a      = unit along the tokens of q w_g                     [b (h w) 1]
        g      = sum over the tokens of a q                         [b 1 c]
        output final(Proj(g k) + q)                                 [b h w c]
Cost    multiply-accumulates per image: 4 N C^2 + N C; the weighted sum is element-wise
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism


def unit(x: Tensor, axis: int) -> Tensor:
    """Length one along an axis; what is shorter than the precision's epsilon goes towards zero."""
    return F.normalize(x, dim=axis, eps=max(1e-12, torch.finfo(x.dtype).eps))


def macs(size: Size) -> int:
    """MACs of the four projections and the scores."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + N * C


@mechanism(
    name="swiftformer",
    display="SwiftFormer",
    title="efficient additive attention: one global query meets every key",
    paper="arXiv:2303.15446",
    year=2023,
    repository="Amshaker/SwiftFormer",
    macs=macs,
    reach="global",
    growth="linear",
)
class SwiftFormer(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_query = nn.Linear(dim, dim)
        self.to_key = nn.Linear(dim, dim)
        self.w_g = nn.Parameter(torch.randn(dim, 1))
        self.Proj = nn.Linear(dim, dim)
        self.final = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Sum the queries up by their scores, then let the sum meet every key."""
        tokens = x.flatten(1, 2)
        q, k = unit(self.to_query(tokens), -1), unit(self.to_key(tokens), -1)  # each b (h w) c
        a = unit(q @ self.w_g, 1)  # b (h w) 1
        g = (a * q).sum(1, keepdim=True)  # b 1 c
        return self.final(self.Proj(g * k) + q).view_as(x)
