"""RALA: linear attention whose sum of keys and values is weighted, turned by position and gated, against low rank.

Paper   Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention, CVPR 2025, https://arxiv.org/abs/2411.07635
Agrees  with the paper's formulas, checked by a loop over pairs of tokens; parameters and multiply-accumulates equal
        those counted on the authors' code, which was not run for its output (tests/mechanisms/test_rala.py)
Differs the weights of the keys sum to 1 where the authors have N and divide by N again; the sines and cosines are made
        for the map at hand, where the authors hand in those of the stage

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n (a multiple of 4), phi(u) = elu(u) + 1:
        qkvo  b (4 n d) h w -> q, k, v, each b n (h w) d, and o b h w (n d);  q = phi(q), k = phi(k)
        w     = softmax over the tokens of (mean of q) k^T D^-1/2  [b n (h w)]
        y_i   = R_i q_i S / (q_i z) with S = sum_j w_j (R_j k_j)^T v_j  [b n d d] and z = sum_j w_j k_j  [b n d];
                R turns pairs of channels, those of the first half by the row, those of the second by the column
        output W (o (y + depthwise 5x5 of v))
Cost    multiply-accumulates per image: 5 N C^2 + 25 N C + 2 N C D + 2 N C
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.grid import per_grid
from mechanisms.linear_attention import EPSILON
from mechanisms.precision import wide


def refuses(dim: int, heads: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if dim % (4 * heads):
        return f"dim must be a multiple of 4 times heads; got dim={dim}, heads={heads}"
    return None


def macs(size: Size) -> int:
    """MACs of the projections, the convolution, the two products, the weights of the keys and the normaliser."""
    N, C = size.tokens, size.dim
    return 5 * N * C**2 + 25 * N * C + 2 * N * C * (C // size.heads) + 2 * N * C


@per_grid
def _turns(H: int, W: int, d: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cosines and sines of every token's angles, rows then columns, each angle twice: [2, H W, D]."""
    precise = torch.promote_types(dtype, torch.float32)
    speed = (10000 ** -torch.linspace(0, 1, d // 4, device=device, dtype=precise)).repeat_interleave(2)
    rows, columns = (torch.arange(side, device=device, dtype=precise)[:, None] * speed for side in (H, W))
    angle = torch.cat([rows[:, None].expand(H, W, -1), columns.expand(H, W, -1)], dim=-1).flatten(0, 1)
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)


def turned(x: Tensor, H: int, W: int) -> Tensor:
    """Turn the pairs of channels of [B,n,N,D] by the angles of their token's place."""
    cos, sin = _turns(H, W, x.shape[-1], x.device, x.dtype)
    crossed = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cos + crossed * sin


@mechanism(
    name="rala",
    display="RALA",
    title="rank-augmented linear attention",
    paper="arXiv:2411.07635",
    year=2025,
    repository="qhfan/RALA",
    macs=macs,
    refuses=refuses,
    reach="global",
    growth="linear",
    notes={"stages": "the authors' models have this layer in their first two stages, softmax attention in the others"},
)
class RALA(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkvo = nn.Conv2d(dim, 4 * dim, 1)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight and sum keys and values up, read the sums with every query, gate what was read."""
        B, H, W, C = x.shape
        qkvo = self.qkvo(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # b h w (4 n d)
        around = self.lepe(qkvo[..., 2 * C : 3 * C].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        qkv = qkvo[..., : 3 * C].reshape(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each b n (h w) d
        y = self._read(F.elu(q) + 1, F.elu(k) + 1, v, H, W).transpose(1, 2).reshape(B, H, W, C)
        gated = (y + around) * qkvo[..., 3 * C :]
        return self.proj(gated.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _read(self, q: Tensor, k: Tensor, v: Tensor, H: int, W: int) -> Tensor:
        """The values, weighted by their keys and by the place of query and key: [B,n,N,D]."""
        N, d = q.shape[-2:]
        asked = q.mean(-2, keepdim=True) * d**-0.5
        weight = wide(asked @ k.transpose(-2, -1)).softmax(dim=-1) * N**0.5  # b n 1 (h w)
        k = k * weight.to(k.dtype).transpose(-2, -1)  # neither 1/N nor sums over large maps leave float16
        sums = turned(k, H, W).transpose(-2, -1) @ v * N**-0.5  # b n d d
        norm = q @ (k.sum(-2) * N**-0.5).unsqueeze(-1)  # b n (h w) 1
        return turned(q, H, W) @ sums / (norm + EPSILON)
