"""Deformable attention of DETR: every token reads the map at a few points of its own choice and weights them.

Paper   Zhu et al.: Deformable DETR: Deformable Transformers for End-to-End Object Detection, ICLR 2021,
        https://arxiv.org/abs/2010.04159
Agrees  with the authors' MSDeformAttn with one level, weights and names included (tests/mechanisms/test_deformable.py)
Differs one map instead of a pyramid of four (n_levels); queries and values come from the same map, and queries have no
        position embedding. Points are read by grid_sample where the authors have a CUDA kernel. Positions are float32
        or better.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, P = n_points:
        value   b n' (n d) -> (b n) d h w
        offsets b (h w) (n p 2), (x, y) in tokens;  a = softmax over p of b (h w) (n p)
        y       sum over p of a_p value(token's place + offset_p), bilinear, zeros outside the map -> b h w (n d)
        output  W_o y
Cost    multiply-accumulates per image: 2 N C^2 + 3 n P N C; the interpolation (4 P N C) and the weighted sum (P N C)
        are element-wise
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.grid import per_grid


def refuses(n_points: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    return None if n_points >= 1 else f"n_points must be at least 1; got n_points={n_points}"


def macs(size: Size) -> int:
    """MACs of the four projections."""
    N, C, P = size.tokens, size.dim, int(size.settings["n_points"])
    return 2 * N * C**2 + 3 * size.heads * P * N * C


def ring(heads: int, n_points: int) -> Tensor:
    """First offsets: head by head another direction, point by point one token further: [heads n_points 2]."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    way = torch.stack([angle.cos(), angle.sin()], dim=-1)
    way = way / way.abs().amax(-1, keepdim=True)
    return (way[:, None] * torch.arange(1, n_points + 1)[:, None]).flatten()


@per_grid
def places(H: int, W: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Centres of the tokens, (x, y) in [-1, 1] from border to border, and last the size of a token: [H W + 1, 1, 2]."""

    def centres(side: int) -> Tensor:
        return (torch.arange(side, device=device, dtype=dtype) + 0.5) * (2 / side) - 1

    x, y = centres(W).repeat(H), centres(H).repeat_interleave(W)
    token = torch.stack([torch.full_like(x[:1], 2 / W), torch.full_like(x[:1], 2 / H)], dim=-1)
    return torch.cat([torch.stack([x, y], dim=-1), token])[:, None]


@mechanism(
    name="deformable",
    display="Deformable",
    title="deformable attention: every token reads a few points of its choice (Deformable DETR)",
    paper="arXiv:2010.04159",
    year=2021,
    repository="fundamentalvision/Deformable-DETR",
    defaults={"n_points": 4},
    macs=macs,
    refuses=refuses,
    reach="data-dependent",
    growth="linear",
    notes={
        "interpolation": "reading the points and weighting them is element-wise: the exact counts leave it out, fvcore "
        "counts four a value read (grid_sampler)",
        "levels": "the authors' models read four maps of a pyramid (strides 8 to 64) in each of these layers; this is "
        "the form with one",
    },
)
class DeformableAttention(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, n_points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, n_points
        self.sampling_offsets = nn.Linear(dim, heads * n_points * 2)
        self.attention_weights = nn.Linear(dim, heads * n_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        for projection in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(ring(heads, n_points))

    def forward(self, x: Tensor) -> Tensor:
        """Read the values at each token's points and add them up by its weights."""
        B, H, W, C = x.shape
        n, P, N = self.heads, self.points, H * W
        precise = torch.promote_types(x.dtype, torch.float32)
        value = self.value_proj(x).view(B, N, C).transpose(1, 2).reshape(B * n, C // n, H, W)
        a = self.attention_weights(x).view(B, N, n, P).softmax(-1).transpose(1, 2).reshape(B * n, 1, N, P)
        table = places(H, W, x.device, precise)
        offsets = self.sampling_offsets(x).view(B, N, n, P, 2).transpose(1, 2).reshape(B * n, N, P, 2)
        points = torch.addcmul(table[:-1], offsets.to(precise), table[-1:])
        read = F.grid_sample(value.to(precise), points, mode="bilinear", align_corners=False)  # (b n) d (h w) p
        y = (read.to(a.dtype) * a).sum(-1)
        return self.output_proj(y.view(B, C, N).transpose(1, 2)).view(B, H, W, C)
