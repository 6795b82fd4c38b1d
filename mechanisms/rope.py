"""Self-attention with rotary positions: queries and keys are rotated by angles of their row and column.

Paper   Siméoni et al.: DINOv3, 2025, https://arxiv.org/abs/2508.10104; rotary positions on a map: Heo et al.: Rotary
        Position Embedding for Vision Transformer, ECCV 2024, https://arxiv.org/abs/2403.13298
Agrees  with the authors' attention and its rotary embedding, weights and names included
        (tests/mechanisms/test_rope.py)
Differs class and register tokens, which the authors leave unrotated, are not inside. The periods are always base^(4k/D)
        in float32 or better: the buffer `rope_embed.periods`, which released weights hold rounded to bfloat16, is
        loaded and not read. The random scaling of the coordinates while training is left out. Angles are made once
        per grid; the authors make them once per model.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n (a multiple of 4):
        qkv     b h w (3 n d) -> 3 x [b n (h w) d]; the bias of the keys is multiplied by 0 (`bias_mask`)
        angles  2 pi (y / p_0 .. y / p_(D/4-1), x / p_0 .. x / p_(D/4-1)) with p_k = base^(4k/D),
                y = 2 (i + 1/2) / H - 1 and x = 2 (j + 1/2) / W - 1; with normalize_coords=max (min), H and W are
                both the longer (shorter) side there
        rotated channels m and m + D/2 of q and k form a pair (u, w), which becomes
                (u cos a_m - w sin a_m, w cos a_m + u sin a_m)
        y = softmax(q k^T D^-1/2) v -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N^2 C; the rotation, 6 N C multiplications and additions, is
        element-wise
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid
from mechanisms.msa import macs, merge_heads, split_heads

NORMALIZE_COORDS = ("separate", "max", "min")


def refuses(dim: int, heads: int, base: float, normalize_coords: str) -> str | None:
    """Why it cannot be built with these values, or None."""
    if dim % (4 * heads):
        return f"dim must be a multiple of 4 times heads; got dim={dim}, heads={heads}"
    if base <= 0:
        return f"base must be above 0; got base={base}"
    if normalize_coords not in NORMALIZE_COORDS:
        return f"normalize_coords must be one of {', '.join(NORMALIZE_COORDS)}; got normalize_coords={normalize_coords}"
    return None


def periods(base: float, D: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Map lengths per turn, half-lengths of the map being 1: [D/4]."""
    return base ** (torch.arange(D // 4, device=device, dtype=dtype) * (4 / D))


@per_grid
def rotations(
    H: int, W: int, D: int, base: float, normalize_coords: str, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Cosines, and sines signed for `rotate`, of every token's angles: [2, H W, D]."""
    precise = torch.promote_types(dtype, torch.float32)
    sides = {"separate": (H, W), "max": (max(H, W),) * 2, "min": (min(H, W),) * 2}[normalize_coords]
    turns = 2 * math.pi / periods(base, D, device, precise)
    rows, columns = (
        ((torch.arange(length, device=device, dtype=precise) + 0.5) * (2 / side) - 1)[:, None] * turns
        for length, side in zip((H, W), sides, strict=True)
    )
    angle = torch.cat([rows[:, None].expand(H, W, -1), columns.expand(H, W, -1)], dim=-1).flatten(0, 1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)]).to(dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the channel pairs (m, m + D/2) of [...,N,D]; the result is contiguous, as the products want it."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(torch.cat([second, first], dim=-1) * sin, x, cos)


class _LinearWithMaskedBias(nn.Linear):
    """The projection to q, k and v whose bias is multiplied by `bias_mask`: 1 for q and v, 0 for k."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim)
        self.register_buffer("bias_mask", torch.cat([torch.ones(dim), torch.zeros(dim), torch.ones(dim)]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias * self.get_buffer("bias_mask"))


class _Periods(nn.Module):
    """The periods under the name that the authors' checkpoints give them."""

    def __init__(self, base: float, D: int) -> None:
        super().__init__()
        self.register_buffer("periods", periods(base, D))


@mechanism(
    name="rope",
    display="RoPE",
    title="self-attention with rotary positions (DINOv3)",
    paper="arXiv:2508.10104",
    year=2025,
    repository="facebookresearch/dinov3",
    defaults={"base": 100.0, "normalize_coords": "separate"},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach="global",
    growth="quadratic",
    notes={"fvcore": "on the authors' layer it prints 462.42 M at 14x14: it does not see the fused attention in it"},
)
class RotaryAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, base: float, normalize_coords: str) -> None:
        super().__init__()
        self.heads, self.base, self.normalize_coords = heads, base, normalize_coords
        self.qkv = _LinearWithMaskedBias(dim)
        self.proj = nn.Linear(dim, dim)
        self.rope_embed = _Periods(base, dim // heads)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate queries and keys, then attend from every token to every token."""
        H, W = x.shape[1:3]
        qkv = split_heads(self.qkv(x), self.heads)  # 3 b n (h w) d
        rotation = rotations(H, W, qkv.shape[-1], self.base, self.normalize_coords, qkv.device, qkv.dtype)
        q, k = rotate(qkv[:2], rotation)
        y = attend(q, k, qkv[2], kernel=self.kernel)
        return self.proj(merge_heads(y, H, W))
