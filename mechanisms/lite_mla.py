"""LiteMLA: ReLU linear attention on tokens and on tokens mixed with their surroundings, side by side.

Paper   Cai et al.: EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction, ICCV 2023,
        https://arxiv.org/abs/2205.14756
Agrees  with the paper's formula, checked by a loop over pairs of tokens, and with timm's LiteMLA given the authors'
        constant beside the sum, 1e-15 (timm's own is 1e-5), weights and parameter names included
        (tests/mechanisms/test_lite_mla.py); the authors' code was not run
Differs channels that dim_head does not divide make floor(C / dim_head) heads, as with the authors, but one at
        least. `heads` has no meaning here: the width of a head is fixed.

Shapes  B images, N = H W tokens, C channels, d = dim_head, n = C / d heads, T = n d:
        qkv    b h w (n 3 d); aggreg: depthwise scales x scales, then each of q, k, v of a head is mixed on its own
        q k v  of both, b (h w) (2 n) 3 d -> 3 x [b (2 n) (h w) d], ReLU on q and k
        y      = q (k^T [v, 1]), all but the last column divided by it, in float32 at least
        output 1x1 convolution from 2 T to C, batch normalisation
Cost    multiply-accumulates per image, scales 5:  N (5 C T + 75 T + 3 T d) + 4 N T (d + 1).
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) convolutions and products alone take 28 ms, 24 of them
        the convolutions, of the layer's 33: no form of the rest (ReLU, copies and the division) makes it more than 1.2
        times as fast
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism

EPSILON = 1e-15  # a query whose features all vanish gets zero


def refuses(dim_head: int, scales: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if dim_head < 1:
        return f"dim_head must be at least 1; got dim_head={dim_head}"
    if scales < 1 or scales % 2 == 0:
        return f"scales must be odd and at least 1; got scales={scales}"
    return None


def _settings(size: Size) -> tuple[int, int]:
    return int(size.settings["dim_head"]), int(size.settings["scales"])


def width(dim: int, dim_head: int) -> int:
    """Channels of the queries, over all heads."""
    return max(dim // dim_head, 1) * dim_head


def macs(size: Size) -> int:
    """MACs of the convolutions and of the products of both branches."""
    d, scales = _settings(size)
    N, C, T = size.tokens, size.dim, width(size.dim, d)
    return N * (5 * C * T + 3 * scales**2 * T + 3 * T * d) + 4 * N * T * (d + 1)


@mechanism(
    name="lite_mla",
    display="LiteMLA",
    title="multi-scale ReLU linear attention (EfficientViT)",
    paper="arXiv:2205.14756",
    year=2023,
    repository="mit-han-lab/efficientvit",
    defaults={"dim_head": 32, "scales": 5},
    macs=macs,
    refuses=refuses,
    reach="global",
    growth="linear",
    notes={"training": "batch normalisation couples the images of a batch while training"},
)
class LiteMLA(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, dim_head: int, scales: int) -> None:
        super().__init__()
        self.dim_head = dim_head
        T = width(dim, dim_head)
        wide, parts = 3 * T, 3 * T // dim_head
        self.qkv = nn.Sequential()
        self.qkv.add_module("conv", nn.Conv2d(dim, wide, 1, bias=False))
        mix = nn.Sequential(
            nn.Conv2d(wide, wide, scales, padding=scales // 2, groups=wide, bias=False),
            nn.Conv2d(wide, wide, 1, groups=parts, bias=False),
        )
        self.aggreg = nn.ModuleList([mix])
        self.proj = nn.Sequential()
        self.proj.add_module("conv", nn.Conv2d(2 * T, dim, 1, bias=False))
        self.proj.add_module("norm", nn.BatchNorm2d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Attend at both scales, then project."""
        qkv = self.qkv(x.permute(0, 3, 1, 2))
        y = torch.cat([self._scale(qkv), self._scale(self.aggreg[0](qkv))], dim=3).flatten(3)  # b h w (2 n d)
        return self.proj(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _scale(self, qkv: Tensor) -> Tensor:
        """Attend at one scale: b (n 3 d) h w -> b h w n d."""
        B, _, H, W = qkv.shape
        q, k, v = qkv.permute(0, 2, 3, 1).reshape(B, H * W, -1, 3, self.dim_head).permute(3, 0, 2, 1, 4)
        y = self._attend(q.relu(), k.relu(), v)  # b n (h w) d
        return y.transpose(1, 2).reshape(B, H, W, *y.shape[1::2])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        precise = torch.promote_types(v.dtype, torch.float32)
        with nullcontext() if v.is_meta else torch.autocast(v.device.type, enabled=False):  # meta has no autocast
            ones = F.pad(v.to(precise), (0, 1), value=1.0)
            y = q.to(precise) @ (k.to(precise).transpose(-2, -1) @ ones)  # b n (h w) (d + 1)
            return (y[..., :-1] / (y[..., -1:] + EPSILON)).to(v.dtype)
