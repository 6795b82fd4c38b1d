"""Differential attention: each head is the difference of two softmax maps, so that what both attend to cancels.

Paper   Ye et al.: Differential Transformer, ICLR 2025, https://arxiv.org/abs/2410.05258
Agrees  with timm's DiffAttention, weights and names included, which without bias is the authors' layer without its
        causal mask and rotation (tests/mechanisms/test_diff.py)
Differs the authors halve the number of heads of the model that they compare with, to keep the maps' width: `heads` here
        counts differences, each of two maps. timm's form with two scalars instead of four vectors (dual_lambda) is
        left out.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, E = D / 2:
        q k    b h w (n 2 e) -> b (n 2) (h w) e, two maps a head;  v  b h w (n d) -> b n (h w) d
        lambda = exp(lambda_q1 lambda_k1) - exp(lambda_q2 lambda_k2) + l, with l = 0.8 - 0.6 exp(-0.3 depth)
        y      = (softmax(q_1 k_1^T E^-1/2) - lambda softmax(q_2 k_2^T E^-1/2)) v  [b n (h w) d]
        output W ((1 - l) y / rms(y) * g), rms over the D channels of a head, g [d] shared by the heads
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C; a fused kernel multiplies both maps by the values,
        4 N C^2 + 3 N^2 C
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, mechanism
from mechanisms.attend import attend
from mechanisms.msa import macs, merge_heads
from mechanisms.precision import wide

EPSILON = 1e-5  # of the normalisation


def refuses(dim: int, heads: int, depth: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if dim % (2 * heads):
        return f"dim must be a multiple of 2 times heads; got dim={dim}, heads={heads}"
    if depth < 0:
        return f"depth must be at least 0, the first layer's; got depth={depth}"
    return None


@mechanism(
    name="diff",
    display="Diff",
    title="differential attention: the difference of two softmax maps",
    paper="arXiv:2410.05258",
    year=2025,
    repository="microsoft/unilm",
    defaults={"depth": 0},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach="global",
    growth="quadratic",
    notes={
        "sdpa": "the fused call multiplies each of the two maps by the values, N^2 C more than is counted; values are "
        "twice as wide as keys, and PyTorch's fused call on the CPU wants equal widths, so its composite form runs",
        "depth": "the number of the layer in its model, from 0; it sets a constant and costs nothing",
    },
)
class DifferentialAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, depth: int) -> None:
        super().__init__()
        D = dim // heads
        self.heads, self.lambda_init = heads, 0.8 - 0.6 * math.exp(-0.3 * depth)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(0.1 * torch.randn(D // 2)) for _ in range(4)
        )
        self.sub_norm = nn.RMSNorm(D, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the second map's answer from the first's, then normalise each head."""
        B, H, W, C = x.shape
        n, N = self.heads, H * W
        qk, v = self.qkv(x).view(B, N, 3 * C).split([2 * C, C], dim=-1)
        q, k = qk.view(B, N, 2, 2 * n, -1).permute(2, 0, 3, 1, 4)  # each b (n 2) (h w) e
        y = self._difference(q, k, v.view(B, N, n, -1).transpose(1, 2))
        gain = self.sub_norm.weight * (1 - self.lambda_init)
        return self.proj(merge_heads(F.rms_norm(y, [len(gain)], gain, EPSILON), H, W))

    def _difference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(A_1 - lambda A_2) v: the maps are subtracted before the product, or, by a fused kernel, after it."""
        if self.kernel == "eager":
            maps = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
            return self._subtract(maps) @ v
        return self._subtract(attend(q, k, v.repeat_interleave(2, dim=1), kernel=self.kernel))

    def _subtract(self, pairs: Tensor) -> Tensor:
        """First minus lambda times second: [B, 2 heads, N, M] -> [B, heads, N, M]."""
        return torch.addcmul(pairs[:, ::2], pairs[:, 1::2], self._lambda().to(pairs.dtype), value=-1)

    def _lambda(self) -> Tensor:
        """How much of the second map is subtracted, in float32 or better: a scalar."""
        first, second = (
            (wide(q) * wide(k)).sum().exp()
            for q, k in ((self.lambda_q1, self.lambda_k1), (self.lambda_q2, self.lambda_k2))
        )
        return first - second + self.lambda_init
