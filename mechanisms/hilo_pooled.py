"""HiLo with pooled queries: the Lo-Fi heads work on the pooled map alone, which is enlarged at the end.

Paper   Pan, Cai, Zhuang: Fast Vision Transformers with HiLo Attention, NeurIPS 2022, appendix D,
        https://arxiv.org/abs/2205.13213
Agrees  with the appendix's text and, by its closed formula, with the 3.5 GFLOPs that it prints for LITv2-S; there
        is no public code (tests/mechanisms/test_hilo_pooled.py)
Differs what the text leaves open is chosen: Lo-Fi projects before it enlarges (only so do the published GFLOPs come
        out; `projection=after` is the other way), bilinear enlargement takes pixel centres (align_corners=False),
        and a grid that the window does not divide is padded with zeros, unmasked, as HiLo is.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, s = window_size; the first
        int(n alpha) heads are Lo-Fi (C_lo channels), the others Hi-Fi (C_hi):
        Hi-Fi  q k v  b (h s1) (w s2) (3 n d) -> (b h w) n (s1 s2) d
        Lo-Fi  q k v  from the mean over each s x s window, b n (h w) d; then b h w (n d) -> b (h s) (w s) (n d)
        output b h w (hi lo); window_size 1 is plain attention with all heads in Lo-Fi, whatever alpha says
Cost    multiply-accumulates per image on the padded map, M = N / s^2:
        Hi-Fi 3 N C C_hi + 2 N s^2 C_hi + N C_hi^2,  Lo-Fi 3 M C C_lo + 2 M^2 C_lo + M C_lo^2
        (N C_lo^2 with the projection after)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from attnbench.registry.declaration import Size, mechanism
from mechanisms import hilo
from mechanisms.attend import attend
from mechanisms.grid import pool_mean


def refuses(window_size: int, alpha: float, projection: str) -> str | None:
    """Why it cannot be built with these values, or None."""
    if projection not in ("before", "after"):
        return f"projection must be before or after (the enlargement); got projection={projection}"
    return hilo.refuses(window_size, alpha)


def _settings(size: Size) -> tuple[int, float, str]:
    at = size.settings
    return int(at["window_size"]), float(at["alpha"]), str(at["projection"])


def macs(size: Size) -> int:
    """MACs of both branches, on the padded map."""
    s, alpha, projection = _settings(size)
    low, high = hilo.split(size.dim, size.heads, s, alpha)
    H, W = size.padded(s)
    N, M, C, D = H * W, H * W // s**2, size.dim, size.dim // size.heads
    Cl, Ch = low * D, high * D
    fine = 3 * N * C * Ch + 2 * N * s**2 * Ch + N * Ch**2
    coarse = 3 * M * C * Cl + 2 * M**2 * Cl + (M if projection == "before" else N) * Cl**2
    return fine + coarse


@mechanism(
    name="hilo_pooled",
    display="HiLo pooled",
    title="HiLo whose low-frequency queries are pooled too",
    paper="arXiv:2205.13213",
    year=2022,
    defaults={"window_size": 2, "alpha": 0.9, "projection": "before"},
    per_stride={32: {"window_size": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=hilo.reach,
    growth="quadratic",
    notes={
        "published": "appendix D prints LITv2-S with it, 3.5 GFLOPs; no layer figure and no code were published",
        "sdpa": "both branches see few tokens: nothing is saved there, and in a small batch the fused call's fixed "
        "cost shows",
    },
)
class HiLoPooled(hilo.Branches):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, alpha: float, projection: str) -> None:
        super().__init__(dim, heads, window_size=window_size, alpha=alpha)
        self.project_first = projection == "before"

    def forward(self, x: Tensor) -> Tensor:
        """Attend finely inside windows and, on the pooled map, everywhere."""
        return self.side_by_side(x, self._low)

    def _low(self, x: Tensor) -> Tensor:
        pooled = pool_mean(x, self.window_size) if self.window_size > 1 else x
        B, H, W, _ = pooled.shape
        n = self.low_heads
        q = self.l_q(pooled).view(B, H * W, n, -1).transpose(1, 2)
        k, v = self.l_kv(pooled).view(B, H * W, 2, n, q.shape[-1]).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, kernel=self.kernel).transpose(1, 2).reshape(B, H, W, -1)
        return self._enlarge(self.l_proj(y)) if self.project_first else self.l_proj(self._enlarge(y))

    def _enlarge(self, y: Tensor) -> Tensor:
        if self.window_size == 1:
            return y
        wide = F.interpolate(y.permute(0, 3, 1, 2), scale_factor=self.window_size, mode="bilinear")
        return wide.permute(0, 2, 3, 1)
