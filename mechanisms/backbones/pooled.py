"""HiLo with pooled queries: the Lo-Fi heads also ask from window means, and their answer is scaled up again.

Paper   Pan, Cai, Zhuang: Fast Vision Transformers with HiLo Attention, NeurIPS 2022, appendix D,
        https://arxiv.org/abs/2205.13213
Agrees  with the paper's 3.5 G for LITv2-S (tests/backbones/test_litv2.py) and with a loop over pixels
        (tests/backbones/test_pooled.py); the authors have published no code
Differs from the text in nothing that it says; it leaves open where the Lo-Fi projection stands and which
        bilinear rule is meant. The projection stands before the scaling (after it, LITv2-S would count
        3.6 G), and pixels are areas (align_corners=False).

Shapes  as in mechanisms/hilo.py; Lo-Fi queries b (h/s) (w/s) (n d), Lo-Fi output [B,H/s,W/s,C_lo] -> [B,H,W,C_lo]
Cost    multiply-accumulates per image on the padded map, M = N / s^2:
        Hi-Fi 3 N C C_hi + 2 N s^2 C_hi + N C_hi^2,  Lo-Fi 3 M C C_lo + 2 M^2 C_lo + M C_lo^2
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from attnbench.declaration import Size
from mechanisms import hilo
from mechanisms.attend import attend
from mechanisms.grid import pool_mean


def macs(size: Size) -> int:
    """Of both branches, on the padded map."""
    s, alpha = int(size.settings["window_size"]), float(size.settings["alpha"])
    low, _ = hilo.split(size.dim, size.heads, s, alpha)
    H, W = size.padded(s)
    N, M, C, Cl = H * W, H * W // s**2, size.dim, low * (size.dim // size.heads)
    spared = (N - M) * (C * Cl + Cl**2) + 2 * (N - M) * M * Cl  # queries, projection, both products
    return hilo.macs(size) - spared


class PooledHiLo(hilo.HiLo):
    """Map [B,H,W,C] to [B,H,W,C]; parameters and Hi-Fi heads are HiLo's."""

    def _low(self, x: Tensor) -> Tensor:
        B, H, W, _ = x.shape
        s, n = self.window_size, self.low_heads
        pooled = pool_mean(x, s) if s > 1 else x
        q = self.l_q(pooled).view(B, -1, n, self.l_proj.in_features // n).transpose(1, 2)
        k, v = self.l_kv(pooled).view(B, -1, 2, n, q.shape[-1]).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, kernel=self.kernel)  # b n (h/s w/s) d
        y = self.l_proj(y.transpose(1, 2).reshape(B, H // s, W // s, -1))
        if s == 1:
            return y
        large = F.interpolate(y.permute(0, 3, 1, 2), size=(H, W), mode="bilinear", align_corners=False)
        return large.permute(0, 2, 3, 1)
