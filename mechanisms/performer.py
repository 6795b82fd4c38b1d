"""Performer: softmax attention by random features, so that keys and values meet before the queries come.

Paper   Choromanski et al.: Rethinking Attention with Performers, ICLR 2021, https://arxiv.org/abs/2009.14794
Agrees  with lucidrains/performer-pytorch, weights renamed, and by stabiliser="batch" with the layer that the
        LITv2 authors' benchmark times (tests/mechanisms/test_performer.py)
Differs the factor m^-1/2 of the features is left out, as it cancels. The benchmark subtracts one maximum from the
        keys of the whole batch, which makes an image's result depend on the others; by default here each image
        and head has its own. Half precision takes exponentials and the normaliser in float32.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, m = nb_features; P [m, d] is random, in blocks of
        d orthogonal rows, each row as long as a normal vector:
        qkv  b h w (3 n d) -> 3 x [b n (h w) d];  u = q or k times D^-1/4
        f(u) = exp(P u - |u|^2 / 2 - max P u) + 1e-4: the maximum over m for a query, over N and m for keys
        y    = f(q) (f(k)^T v) / (f(q) . sum of f(k)) -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 4 N m C + N m n.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) linear layers and products alone take 51 ms, 35 of them
        the linear layers; the layer takes 57, and 61 with all images at once, of which the bound is 1.2 times the
        speed. On a CPU the batch is taken in 8 pieces. Adding the features' constant to the products rather than to
        each feature (a pass less) was no faster
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.pieces import pieces
from mechanisms.precision import wide

STABILISERS = ("sample", "batch")
PIECES = 8  # of a batch, one after the other


def random_features(m: int, d: int) -> Tensor:
    """Rows of length chi(d), orthogonal in blocks of d: [m, d]."""
    blocks = []
    for _ in range(-(-m // d)):
        q, r = torch.linalg.qr(torch.randn(d, d))
        blocks.append((q * r.diagonal().sign()).t())  # uniform over rotations
    return torch.cat(blocks)[:m] * torch.linalg.vector_norm(torch.randn(m, d), dim=1, keepdim=True)


def refuses(nb_features: int, stabiliser: str) -> str | None:
    """Why it cannot be built with these values, or None."""
    if nb_features < 1:
        return f"nb_features must be at least 1; got nb_features={nb_features}"
    if stabiliser not in STABILISERS:
        return f"stabiliser must be {' or '.join(STABILISERS)}; got stabiliser={stabiliser}"
    return None


def coupling(size: Size) -> str:
    """Why images are coupled: the published stabiliser is one maximum over all images of a batch."""
    return "the stabiliser is the largest key feature of the batch" if size.settings["stabiliser"] == "batch" else ""


def macs(size: Size) -> int:
    """MACs of the linear layers, the features, the normaliser and the two products."""
    N, C, n, m = size.tokens, size.dim, size.heads, int(size.settings["nb_features"])
    products = ((C // n, 2 * N * m * C), (m, N * m * n), (N, N * m * C), (m, N * m * C))
    # einsum multiplies element by element, which no counter counts, where it has one term to sum
    return 4 * N * C**2 + sum(cost for terms, cost in products if terms > 1)


@mechanism(
    name="performer",
    display="Performer",
    title="linear attention by orthogonal random features (FAVOR+)",
    paper="arXiv:2009.14794",
    year=2021,
    repository="google-research/google-research",
    defaults={"nb_features": 256, "stabiliser": "sample"},
    macs=macs,
    refuses=refuses,
    reach="global",
    growth="linear",
    approximates="msa",
    batch_coupled=coupling,
    notes={
        "published": "617.24 M is fvcore's total: it rounds einsums and counts an element-wise product",
        "stabiliser": "batch is the published benchmark's and makes an image depend on its batch",
    },
)
class Performer(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, nb_features: int, stabiliser: str) -> None:
        super().__init__()
        self.heads, self.stabiliser = heads, stabiliser
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fast_attention = nn.Module()
        self.fast_attention.register_buffer("projection_matrix", random_features(nb_features, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        """Join keys and values, then let every query read the result."""
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each b n (h w) d
        number = pieces(x, PIECES) if self.stabiliser == "sample" else 1
        parts = [self._attend(*some) for some in zip(*(t.chunk(number) for t in (q, k, v)), strict=True)]
        return self.proj(torch.cat(parts).to(x.dtype).transpose(1, 2).reshape(B, H, W, C))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each query reads, [b,n,h w,d], in float32 at least."""
        q, k = self._features(q, (-1,)), self._features(k, (-2, -1) if self.stabiliser == "sample" else (0, 1, 2, 3))
        share = torch.einsum("bhnm,bhm->bhn", q, k.sum(dim=-2)).reciprocal()
        memory = wide(torch.einsum("bhnm,bhnd->bhmd", k.to(v.dtype), v))
        return torch.einsum("bhmd,bhnm,bhn->bhnd", memory, q, share)

    def _features(self, u: Tensor, over: tuple[int, ...]) -> Tensor:
        u = u * u.shape[-1] ** -0.25
        seen = wide(torch.einsum("bhnd,md->bhnm", u, self.fast_attention.get_buffer("projection_matrix")))
        half_square = wide(u).square().sum(dim=-1, keepdim=True) / 2
        return (seen - (half_square + seen.amax(dim=over, keepdim=True))).exp_() + 1e-4
