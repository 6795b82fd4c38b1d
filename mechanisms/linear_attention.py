"""Linear attention: the softmax gives way to a product of features, so that keys and values are summed up once.

Paper   Katharopoulos, Vyas, Pappas, Fleuret: Transformers are RNNs, ICML 2020, https://arxiv.org/abs/2006.16236
Agrees  with the paper's formula and the authors' constant beside the sum, checked by a loop over pairs of tokens
        (tests/mechanisms/test_linear_attention.py); the names are those of the authors' attention layer, whose code
        was not run
Differs the mask is none (the paper's language models see only earlier tokens); the features of the keys and the
        constant are divided by sqrt N, which cancels, so that sums over large maps stay inside float16

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, phi(u) = elu(u) + 1:
        q k v  each b h w (n d) -> b n (h w) d;  y_i = phi(q_i) S / (phi(q_i) z + 1e-6) with
        S = sum_j phi(k_j)^T v_j [b n d d] and z = sum_j phi(k_j) [b n d];  -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N C D + N C
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.precision import wide

EPSILON = 1e-6  # keeps a query whose features all vanish from dividing by zero


def macs(size: Size) -> int:
    """MACs of the projections, the two products and the normaliser."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 2 * N * C * (C // size.heads) + N * C


@mechanism(
    name="linear_attention",
    display="Linear attention",
    title="linear attention with elu + 1 features",
    paper="arXiv:2006.16236",
    year=2020,
    repository="idiap/fast-transformers",
    macs=macs,
    reach="global",
    growth="linear",
)
class LinearAttention(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_projection = nn.Linear(dim, dim)
        self.key_projection = nn.Linear(dim, dim)
        self.value_projection = nn.Linear(dim, dim)
        self.out_projection = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Sum keys and values up once, then read the sums with every query."""
        B, H, W, C = x.shape
        N = H * W
        q, k, v = self.query_projection(x), self.key_projection(x), self.value_projection(x)
        q, k = F.elu(q) + 1, (F.elu(k) + 1) * N**-0.5
        q, k, v = (t.view(B, N, self.heads, -1).transpose(1, 2) for t in (q, k, v))  # each b n (h w) d
        sums = v.transpose(-2, -1) @ k  # b n d d; k^T v gives elu a transposed gradient, which torch.compile mishandles
        norm = q @ k.sum(-2).unsqueeze(-1)  # b n (h w) 1
        y = (q @ sums.transpose(-2, -1)) / (wide(norm) + EPSILON * N**-0.5)  # below what float16 can hold
        return self.out_projection(y.to(v.dtype).transpose(1, 2).reshape(B, H, W, C))
