"""SW-MSA: windows that are moved by half their width, so that neighbouring windows meet.

Paper   Liu et al.: Swin Transformer, ICCV 2021, https://arxiv.org/abs/2103.14030
Agrees  with the layer that the LITv2 authors' benchmark times, with and without the bias table; its keys are
        Swin's (tests/mechanisms/test_shifted_window.py)
Differs use_rel_pos is off by default, as where the published figures were made. Along an axis that one window
        covers nothing is shifted, as in Swin where the shorter side fits in a window; the benchmark shifts
        there too and cuts the one window into four. Pairs that were not adjacent get -inf where the authors
        add -100. The mask is made once per grid, not on every call. Padding as in window.py.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = window_size:
        the map is rolled by -shift_size, then
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(h w n) b (s1 s2) d]
        mask (h w) (s s) (s s) + bias n (s s) (s s) -> (h w n) 1 (s s) (s s), the same for all images
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from attnbench.registry.declaration import Size, mechanism
from mechanisms import window
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, per_grid
from mechanisms.window import NOTE_SDPA, Windowed, macs


def shifts(H: int, W: int, window_size: int, shift_size: int) -> tuple[int, int]:
    """How far rows and columns move: not at all along an axis that one window covers."""
    return shift_size if window_size < H else 0, shift_size if window_size < W else 0


@per_grid
def shift_mask(
    H: int, W: int, window_size: int, shift_size: int, heads: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Minus infinity between tokens of a rolled window that were not adjacent: [windows heads, 1, s s, s s]."""
    s = window_size
    down, right = shifts(H, W, s, shift_size)
    rows, columns = torch.arange(H) >= H - down, torch.arange(W) >= W - right  # came round from the other side
    region = (2 * rows[:, None] + columns).view(H // s, s, W // s, s).transpose(1, 2).reshape(-1, 1, s * s)
    apart = region[..., :, None] != region[..., None, :]  # (h w) 1 (s s) (s s)
    mask = torch.zeros(apart.shape, dtype=dtype).masked_fill(apart, -torch.inf)
    return mask.expand(-1, heads, -1, -1).reshape(-1, 1, s * s, s * s).to(device)


def refuses(window_size: int, shift_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if not 0 <= shift_size < max(window_size, 1):
        return f"shift_size must lie between 0 and window_size - 1; got {shift_size=}, {window_size=}"
    return window.refuses(window_size)


def _settings(size: Size) -> tuple[int, int]:
    return int(size.settings["window_size"]), int(size.settings["shift_size"])


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The tokens of the rolled window of (y, x) that came from the same side."""
    s, shift = _settings(size)
    H, W = size.padded(s)
    down, right = shifts(H, W, s, shift)

    def part(i: int, length: int, by: int) -> tuple[int, bool]:
        return (i - by) % length // s, i < by

    rows = [i for i in range(size.grid[0]) if part(i, H, down) == part(y, H, down)]
    columns = [j for j in range(size.grid[1]) if part(j, W, right) == part(x, W, right)]
    return ((i, j) for i in rows for j in columns)


@mechanism(
    name="shifted_window",
    display="SW-MSA",
    title="self-attention inside shifted windows (SW-MSA)",
    paper="arXiv:2103.14030",
    year=2021,
    repository="microsoft/Swin-Transformer",
    defaults={"window_size": 7, "shift_size": 3, "use_rel_pos": False},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="linear",
    notes={
        "published": "the layer benchmark ran without the relative position table, so 2.36 M has none",
        "sdpa": NOTE_SDPA,
    },
)
class ShiftedWindowAttention(Windowed):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, window_size: int, shift_size: int, use_rel_pos: bool) -> None:
        super().__init__(dim, heads, window_size=window_size, use_rel_pos=use_rel_pos)
        self.shift_size = shift_size

    def forward(self, x: Tensor) -> Tensor:
        """Roll the padded map, attend inside each window's regions, roll back."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.window_size)
        down, right = shifts(x.shape[1], x.shape[2], self.window_size, self.shift_size)
        if not down and not right:
            return crop(self.proj(self.attended(self.qkv(x))), H, W)
        y = self.proj(self._masked(self.qkv(x.roll((-down, -right), (1, 2)))))
        return crop(y.roll((down, right), (1, 2)), H, W)

    def _masked(self, qkv: Tensor) -> Tensor:
        B, H, W, _ = qkv.shape
        s, n = self.window_size, self.heads
        # images take the place of heads, so that one mask is enough for all of them
        qkv = qkv.view(B, H // s, s, W // s, s, 3, n, -1).permute(5, 1, 3, 6, 0, 2, 4, 7)
        q, k, v = qkv.reshape(3, (H // s) * (W // s) * n, B, s * s, -1)
        mask, table = shift_mask(H, W, s, self.shift_size, n, q.device, q.dtype), self.bias()
        if table is not None:
            mask = (mask.view(-1, n, s * s, s * s) + table.to(mask.dtype)).view(mask.shape)
        y = attend(q, k, v, mask, kernel=self.kernel)  # (h w n) b (s1 s2) d
        y = y.view(H // s, W // s, n, B, s, s, -1).permute(3, 0, 4, 1, 5, 2, 6)
        return y.reshape(B, H, W, -1)
