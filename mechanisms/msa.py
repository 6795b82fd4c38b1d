"""MSA: every token attends to every token.

Paper   Dosovitskiy et al.: An Image is Worth 16x16 Words, ICLR 2021, https://arxiv.org/abs/2010.11929
Agrees  with the ViT layer as the LITv2 authors' layer benchmark times it (tests/mechanisms/test_msa.py)
Differs nothing

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n:
        qkv  b h w (3 n d) -> 3 x [b n (h w) d];  y = softmax(q k^T D^-1/2) v -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C
"""

from __future__ import annotations

from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def macs(size: Size) -> int:
    """MACs of the projections and the two products."""
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 2 * N**2 * C


def split_heads(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values of the whole map, as views: [B,H,W,3C] -> [3, B, heads, H W, D]."""
    B, H, W, C = qkv.shape
    return qkv.view(B, H * W, 3, heads, C // (3 * heads)).permute(2, 0, 3, 1, 4)


def merge_heads(y: Tensor, H: int, W: int) -> Tensor:
    """Back to the map: [B, heads, H W, D] -> [B,H,W,C]."""
    return y.transpose(1, 2).reshape(y.shape[0], H, W, -1)


@mechanism(
    name="msa",
    display="MSA",
    title="multi-head self-attention",
    paper="arXiv:2010.11929",
    year=2021,
    repository="google-research/vision_transformer",
    macs=macs,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="quadratic",
)
class MSA(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token."""
        q, k, v = split_heads(self.qkv(x), self.heads)
        y = attend(q, k, v, kernel=self.kernel)  # b n (h w) d
        return self.proj(merge_heads(y, *x.shape[1:3]))
