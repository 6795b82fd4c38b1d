"""HiLo: high-frequency heads attend inside small windows, low-frequency heads attend to window means.

Paper   Pan, Cai, Zhuang: Fast Vision Transformers with HiLo Attention, NeurIPS 2022,
        https://arxiv.org/abs/2205.13213
Agrees  with hilo.py of ziplab/LITv2, weights included (tests/mechanisms/test_hilo.py)
Differs a grid that the window does not divide is padded with zeros as the authors' detection code does
        (padded tokens are attended to, unmasked); their classification code refuses it.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, s = window_size; the first
        int(n alpha) heads are Lo-Fi (C_lo channels), the others Hi-Fi (C_hi):
        Hi-Fi  q k v  b (h s1) (w s2) (3 n d) -> (b h w) n (s1 s2) d
        Lo-Fi  q      b h w (n d)             -> b n (h w) d
               k v    the same from the mean over each s x s window
        output b h w (hi lo); window_size 1 is plain attention with all heads in Lo-Fi, whatever alpha says
Cost    multiply-accumulates per image on the padded map, M = N / s^2:
        Hi-Fi 3 N C C_hi + 2 N s^2 C_hi + N C_hi^2,  Lo-Fi N C C_lo + 2 M C C_lo + 2 N M C_lo + N C_lo^2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, pool_mean
from mechanisms.window import from_windows, windows


def split(dim: int, heads: int, window_size: int, alpha: float) -> tuple[int, int]:
    """Heads of the Lo-Fi and of the Hi-Fi branch."""
    low = heads if window_size == 1 else int(heads * alpha)
    return low, heads - low


def refuses(window_size: int, alpha: float) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 1:
        return f"window_size must be at least 1; got window_size={window_size}"
    if not 0 <= alpha <= 1:
        return f"alpha must lie between 0 and 1; got alpha={alpha}"
    return None


def _settings(size: Size) -> tuple[int, float]:
    return int(size.settings["window_size"]), float(size.settings["alpha"])


def macs(size: Size) -> int:
    """MACs of both branches, on the padded map."""
    s, alpha = _settings(size)
    low, high = split(size.dim, size.heads, s, alpha)
    H, W = size.padded(s)
    N, M, C, D = H * W, H * W // s**2, size.dim, size.dim // size.heads
    Cl, Ch = low * D, high * D
    fine = 3 * N * C * Ch + 2 * N * s**2 * Ch + N * Ch**2
    coarse = N * C * Cl + 2 * M * C * Cl + 2 * N * M * Cl + N * Cl**2
    return fine + coarse


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """Everything, if there is a Lo-Fi head; else the window of (y, x)."""
    s, alpha = _settings(size)
    (H, W), everywhere = size.grid, split(size.dim, size.heads, s, alpha)[0] > 0
    return ((i, j) for i in range(H) for j in range(W) if everywhere or (i // s == y // s and j // s == x // s))


class Branches(ReadsKernel, nn.Module):
    """What both forms of HiLo share: the weights, the Hi-Fi branch, and `side_by_side` for their own Lo-Fi branch.

    Args:
        dim: channels.
        heads: of both branches together.
        window_size: side of the Hi-Fi windows, and of the blocks that Lo-Fi averages.
        alpha: share of the heads in Lo-Fi.
    """

    def __init__(self, dim: int, heads: int, *, window_size: int, alpha: float) -> None:
        super().__init__()
        self.window_size = window_size
        self.low_heads, self.high_heads = split(dim, heads, window_size, alpha)
        low, high = (n * (dim // heads) for n in (self.low_heads, self.high_heads))
        if low:
            self.l_q = nn.Linear(dim, low)
            self.l_kv = nn.Linear(dim, 2 * low)
            self.l_proj = nn.Linear(low, low)
        if high:
            self.h_qkv = nn.Linear(dim, 3 * high)
            self.h_proj = nn.Linear(high, high)

    def side_by_side(self, x: Tensor, low: Callable[[Tensor], Tensor]) -> Tensor:
        """Hi-Fi and `low`, which maps [B,H,W,C] to [B,H,W,C_lo], on the same padded map: [B,H,W,C] -> [B,H,W,C]."""
        _, H, W, _ = x.shape
        x = pad_to(x, self.window_size)
        branches = [self._high(x)] if self.high_heads else []
        branches += [low(x)] if self.low_heads else []
        return crop(torch.cat(branches, dim=-1) if len(branches) > 1 else branches[0], H, W)

    def _high(self, x: Tensor) -> Tensor:
        q, k, v = windows(self.h_qkv(x), self.window_size, self.high_heads)
        y = attend(q, k, v, kernel=self.kernel)  # (b h w) n (s1 s2) d
        return self.h_proj(from_windows(y, self.window_size, *x.shape[1:3]))


@mechanism(
    name="hilo",
    display="HiLo",
    title="high-frequency windows, low-frequency pooled keys",
    paper="arXiv:2205.13213",
    year=2022,
    repository="ziplab/LITv2",
    defaults={"window_size": 2, "alpha": 0.9},
    per_stride={32: {"window_size": 1}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
)
class HiLo(Branches):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend finely inside windows and to the means of windows everywhere."""
        return self.side_by_side(x, self._low)

    def _low(self, x: Tensor) -> Tensor:
        B, H, W, _ = x.shape
        n = self.low_heads
        pooled = pool_mean(x, self.window_size) if self.window_size > 1 else x
        q = self.l_q(x).view(B, H * W, n, -1).transpose(1, 2)
        k, v = self.l_kv(pooled).view(B, -1, 2, n, q.shape[-1]).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, kernel=self.kernel)  # b n (h w) d
        return self.l_proj(y.transpose(1, 2).reshape(B, H, W, -1))
