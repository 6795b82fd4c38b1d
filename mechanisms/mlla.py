"""MLLA: Mamba's block around linear attention: a gate beside it, a convolution before it, turns by position inside it.

Paper   Han et al.: Demystify Mamba in Vision: A Linear Attention Perspective, NeurIPS 2024,
        https://arxiv.org/abs/2405.16605
Agrees  with mlla.py of LeapLabTHU/MLLA, weights included, in float64 (tests/mechanisms/test_mlla.py)
Differs the layer is what the authors' block has between its norm and its shortcut; the block's two further depthwise
        convolutions (cpe) are not here. Pairs of channels are turned by real arithmetic, where the authors' complex
        numbers fail in half precision, for any map, where theirs has a table for one size. 1/N is put on the keys.

Shapes  B images, N = H W tokens, C channels (a multiple of 4), n heads, D = C / n, phi(u) = elu(u) + 1:
        g = SiLU(W_g x), u = SiLU(depthwise 3x3 (W_u x))  b h w (n d): u is also the value
        qk     b h w (2 n d) -> phi -> q, k, each b n (h w) d
        y_i  = R_i q_i S / (q_i z) with S = mean_j (R_j k_j)^T u_j  [b n d d] and z = mean_j k_j  [b n d]; R turns pairs
               of neighboring channels, those of the first C / 2 by the row, those of the second by the column
        output W_o (g (y + depthwise 3x3 of u))
Cost    multiply-accumulates per image: 5 N C^2 + 18 N C + 2 N C D + N C
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms.grid import per_grid
from mechanisms.linear_attention import EPSILON

BASE = 10000.0  # the slowest pair turns about this many times slower than the fastest


def refuses(dim: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    return f"dim must be a multiple of 4; got dim={dim}" if dim % 4 else None


def macs(size: Size) -> int:
    """MACs of the projections, the two convolutions, the two products and the normaliser."""
    N, C = size.tokens, size.dim
    return 5 * N * C**2 + 18 * N * C + 2 * N * C * (C // size.heads) + N * C


@per_grid
def _turns(H: int, W: int, C: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cosines and signed sines that turn queries, and keys with their 1/N: [2, H W, 2, C]."""
    precise = torch.promote_types(dtype, torch.float32)
    speed = BASE ** -(torch.arange(C // 4, device=device, dtype=precise) * 4 / C)
    rows, columns = (torch.arange(side, device=device, dtype=precise)[:, None] * speed for side in (H, W))
    angle = torch.cat([rows[:, None].expand(H, W, -1), columns.expand(H, W, -1)], dim=-1).flatten(0, 1)
    sin = angle.sin()
    table = torch.stack([angle.repeat_interleave(2, -1).cos(), torch.stack([-sin, sin], dim=-1).flatten(-2)])
    return torch.stack([table, table / (H * W)], dim=2).to(dtype)


class _Attention(nn.Module):
    """Linear attention whose values are its input, and a convolution of them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qk = nn.Linear(dim, 2 * dim)
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, u: Tensor) -> Tensor:
        """Sum turned keys and values up, read the sums with every turned query: [B,H,W,C]."""
        B, H, W, C = u.shape
        qk = F.elu(self.qk(u)) + 1
        qk = qk.view(B, H * W, 2, C)
        cos, sin = _turns(H, W, C, u.device, qk.dtype)
        crossed = qk.view(B, H * W, 2, C // 2, 2).flip(-1).view(B, H * W, 2, C)
        turned = torch.addcmul(qk * cos, crossed, sin).view(B, H * W, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = qk.view(B, H * W, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # each b n (h w) d
        v = u.view(B, H * W, self.heads, -1).transpose(1, 2)
        sums = turned[1].transpose(-2, -1) @ v  # b n d d
        norm = q @ k.mean(-2).unsqueeze(-1)  # b n (h w) 1
        y = turned[0] @ sums / (norm + EPSILON)
        return y.transpose(1, 2).reshape(B, H, W, C) + self.lepe(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@mechanism(
    name="mlla",
    display="MLLA",
    title="Mamba-like linear attention (MLLA)",
    paper="arXiv:2405.16605",
    year=2024,
    repository="LeapLabTHU/MLLA",
    macs=macs,
    refuses=refuses,
    reach="global",
    growth="linear",
)
class MLLA(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, dim)
        self.act_proj = nn.Linear(dim, dim)
        self.dwc = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.attn = _Attention(dim, heads)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, attend, gate."""
        u = F.silu(self.dwc(self.in_proj(x).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return self.out_proj(self.attn(u) * F.silu(self.act_proj(x)))
