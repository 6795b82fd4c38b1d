"""W-MSA: the map is cut into windows, every token attends inside its own.

Paper   Liu et al.: Swin Transformer, ICCV 2021, https://arxiv.org/abs/2103.14030
Agrees  with the layer that the LITv2 authors' benchmark times, with and without the bias table; its keys are
        Swin's (tests/mechanisms/test_window.py)
Differs use_rel_pos is off by default, as where the published figures were made; Swin has the table on. A map
        that the window does not divide is padded with zeros at the right and the bottom (padded tokens are
        attended to, unmasked), where Swin's classification code refuses it or shrinks the window.

Shapes  B images, N = H W tokens after padding, C channels, n heads, D = C / n, s = window_size:
        qkv  b (h s1) (w s2) (3 n d) -> 3 x [(b h w) n (s1 s2) d]
        bias from a table of (2s-1)^2 offsets per head -> 1 n (s s) (s s)
Cost    multiply-accumulates per image on the padded map: 4 N C^2 + 2 N s^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to

NOTE_SDPA = (
    "a window's logits stay in cache either way: nothing is saved there, and in a small batch the fused call's fixed "
    "cost can show"
)


def windows(qkv: Tensor, window_size: int, heads: int) -> Tensor:
    """Queries, keys and values by window: [B,H,W,3C] -> [3, B windows, heads, s s, D] in one copy."""
    B, H, W, _ = qkv.shape
    s = window_size
    qkv = qkv.view(B, H // s, s, W // s, s, 3, heads, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
    return qkv.reshape(3, B * (H // s) * (W // s), heads, s * s, -1)


def from_windows(y: Tensor, window_size: int, H: int, W: int) -> Tensor:
    """Back to the map: [B windows, heads, s s, D] -> [B,H,W,C]."""
    s, heads = window_size, y.shape[1]
    y = y.view(-1, H // s, W // s, heads, s, s, y.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(y.shape[0], H, W, -1)


def relative_position_index(window_size: int) -> Tensor:
    """Row of the bias table for each pair of a window's tokens: [s s, s s]."""
    place = torch.arange(window_size)
    offset = place[:, None] - place + window_size - 1  # from 0 to 2s-2
    rows = offset[:, None, :, None] * (2 * window_size - 1)
    return (rows + offset[None, :, None, :]).reshape(window_size**2, window_size**2)


def relative_position_bias(table: Tensor, index: Tensor) -> Tensor:
    """Look the biases up: [(2s-1)^2, heads] -> [1, heads, s s, s s]."""
    return table[index].permute(2, 0, 1).contiguous()[None]


def refuses(window_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 1:
        return f"window_size must be at least 1; got window_size={window_size}"
    return None


def attention_macs(size: Size, side: int) -> int:
    """MACs of the projections and the two products; each token of the padded map attends to side x side tokens."""
    H, W = size.padded(side)
    return 4 * H * W * size.dim**2 + 2 * H * W * side**2 * size.dim


def macs(size: Size) -> int:
    """MACs of the projections and the two products, on the padded map."""
    return attention_macs(size, int(size.settings["window_size"]))


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The window of (y, x)."""
    return window_of(size.grid, int(size.settings["window_size"]), y, x)


def window_of(grid: tuple[int, int], s: int, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The tokens of a map that share the s x s window of (y, x)."""
    (H, W), top, left = grid, y // s * s, x // s * s
    return ((i, j) for i in range(top, min(top + s, H)) for j in range(left, min(left + s, W)))


class Windowed(ReadsKernel, nn.Module):
    """What plain and shifted windows share: the projections and, with use_rel_pos, the table of biases.

    Args:
        dim: channels.
        heads: attention heads.
        window_size: side of a window in tokens.
        use_rel_pos: whether a bias per head and offset is learned.
    """

    def __init__(self, dim: int, heads: int, *, window_size: int, use_rel_pos: bool) -> None:
        super().__init__()
        self.heads, self.window_size, self.use_rel_pos = heads, window_size, use_rel_pos
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        if use_rel_pos:
            self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, heads))
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
            self.register_buffer("relative_position_index", relative_position_index(window_size))

    def attended(self, qkv: Tensor) -> Tensor:
        """Attention inside each window: [B,H,W,3C] -> [B,H,W,C], H and W divisible."""
        q, k, v = windows(qkv, self.window_size, self.heads)
        y = attend(q, k, v, self.bias(), kernel=self.kernel)  # (b h w) n (s1 s2) d
        return from_windows(y, self.window_size, *qkv.shape[1:3])

    def bias(self) -> Tensor | None:
        """The biases [1, heads, s s, s s], or None without a table."""
        if not self.use_rel_pos:
            return None
        return relative_position_bias(self.relative_position_bias_table, self.get_buffer("relative_position_index"))


@mechanism(
    name="window",
    display="W-MSA",
    title="self-attention inside windows (W-MSA)",
    paper="arXiv:2103.14030",
    year=2021,
    repository="microsoft/Swin-Transformer",
    defaults={"window_size": 7, "use_rel_pos": False},
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
class WindowAttention(Windowed):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside each window of the padded map."""
        H, W = x.shape[1:3]
        x = pad_to(x, self.window_size)
        return crop(self.proj(self.attended(self.qkv(x))), H, W)
