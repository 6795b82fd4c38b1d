"""Cascaded group attention: each head sees its own share of the channels and what the head before it found.

Paper   Liu et al.: EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention, CVPR 2023,
        https://arxiv.org/abs/2305.07027
Agrees  with timm's layer with the same weights, on the whole map and in windows, checked where timm is installed, and
        with a loop over heads and pairs of tokens (tests/mechanisms/test_cascaded_group.py). Parameters and buffers
        have the names in the authors' code, which was not run.
Differs window_size=0, the default here, attends over the whole map, for the one grid that the layer is built for;
        the authors' models cut it into windows of 7 (window_size=7). A map that the window does not divide is
        padded with zeros at the right and the bottom, smaller ones too (padded tokens are attended to, unmasked).
        The width of the values is C / n, as the cascade needs it: there is no attn_ratio, which is that over
        key_dim. All heads have one kernel_size, where some of the authors' models have 7, 5, 3, 3. Biases are read
        from their table on every call; the authors keep them in eval mode. The last normalisation starts at 1; in the
        authors' code at 0, so that their residual block starts as the identity.

Shapes  B images, N = H W tokens after padding, M tokens of a window (of the map, without windows), C channels,
        n heads, d = C / n, k = key_dim; every convolution is followed by a batch normalisation:
        x_i      share i of the channels, b d h w; from the second head on y_(i-1) is added
        q k v    1x1 convolution d -> k + k + d; q then by one 5x5 filter (kernel_size) per channel
        y_i      softmax(q k^T k^-1/2 + bias_i) v                       [b 1 m d]
        bias     one number for each (|dy|, |dx|) of two tokens, per head: table [n, m] -> [m m]
        output   1x1 convolution of ReLU(y_1 ... y_n)
Cost    multiply-accumulates per image: N (C (2 k + d) + 25 n k + C^2) + N M n (k + d)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to


def refuses(key_dim: int, kernel_size: int, window_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if key_dim < 1:
        return f"key_dim must be at least 1; got key_dim={key_dim}"
    if kernel_size < 1 or kernel_size % 2 == 0:
        return f"kernel_size must be odd and at least 1; got kernel_size={kernel_size}"
    if window_size < 0:
        return f"window_size must be at least 1, or 0 for the whole map; got window_size={window_size}"
    return None


def _settings(size: Size) -> tuple[int, int, int]:
    key_dim, kernel_size, window_size = (int(size.settings[k]) for k in ("key_dim", "kernel_size", "window_size"))
    return key_dim, kernel_size, window_size


def macs(size: Size) -> int:
    """MACs of the convolutions and of each head's two products, on the padded map."""
    (k, kernel_size, s), C, n = _settings(size), size.dim, size.heads
    H, W = size.padded(s) if s else size.grid
    N, M, d = H * W, s**2 if s else H * W, C // n
    return N * (C * (2 * k + d) + kernel_size**2 * n * k + C**2) + N * M * n * (k + d)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The window of (y, x), or everything."""
    (H, W), (_, _, s) = size.grid, _settings(size)
    h, w = (s, s) if s else size.grid
    top, left = y // h * h, x // w * w
    return ((i, j) for i in range(top, min(top + h, H)) for j in range(left, min(left + w, W)))


def offsets(H: int, W: int) -> Tensor:
    """Column of the bias table for each pair of tokens, by |dy| and |dx|: [H W, H W]."""
    down, right = (torch.arange(side)[:, None].sub(torch.arange(side)).abs() for side in (H, W))
    return (down[:, None, :, None] * W + right[None, :, None, :]).reshape(H * W, H * W)


def normalised(inputs: int, outputs: int, kernel_size: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the map's size, `c`, then a batch normalisation, `bn`."""
    both = nn.Sequential()
    padding = kernel_size // 2
    both.add_module("c", nn.Conv2d(inputs, outputs, kernel_size, padding=padding, groups=groups, bias=False))
    both.add_module("bn", nn.BatchNorm2d(outputs))
    return both


def tokens(image: Tensor) -> Tensor:
    """One head's tokens: [B,C,H,W] -> [B, 1, H W, C]."""
    return image.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)


@mechanism(
    name="cascaded_group",
    display="Cascaded group",
    title="heads in a cascade, each with its share of the channels (EfficientViT)",
    paper="arXiv:2305.07027",
    year=2023,
    repository="microsoft/Cream",
    defaults={"key_dim": 16, "kernel_size": 5, "window_size": 0},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach=reach,
    growth="quadratic",
    notes={
        "sdpa": "keys have key_dim channels, values C / heads: PyTorch's fused call on the CPU wants equal widths, so "
        "its composite form runs, which scales queries and keys apart",
        "training": "batch normalisation couples the images of a batch while training",
        "windows": "the authors' models use window_size=7, whose memory grows linearly; the default is the whole map",
    },
)
class CascadedGroupAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(
        self, dim: int, heads: int, *, grid: tuple[int, int], key_dim: int, kernel_size: int, window_size: int
    ) -> None:
        super().__init__()
        self.heads, self.key_dim, self.window_size = heads, key_dim, window_size
        self.window = (window_size, window_size) if window_size else grid
        H, W = self.window
        part = dim // heads
        self.qkvs = nn.ModuleList(normalised(part, 2 * key_dim + part) for _ in range(heads))
        self.dws = nn.ModuleList(normalised(key_dim, key_dim, kernel_size, key_dim) for _ in range(heads))
        self.proj = nn.Sequential(nn.ReLU(), normalised(dim, dim))
        self.attention_biases = nn.Parameter(torch.zeros(heads, H * W))
        self.register_buffer("attention_bias_idxs", offsets(H, W))

    def forward(self, x: Tensor) -> Tensor:
        """Run the cascade in every window, then mix the heads."""
        B, H, W, C = x.shape
        if not self.window_size and self.window != (H, W):
            built = "x".join(map(str, self.window))
            raise ValueError(
                f"without windows the grid must be the one that cascaded_group was built for; got grid={H}x{W}, "
                f"built for {built}"
            )
        h, w = self.window
        x = pad_to(x, self.window)
        rows, columns = x.shape[1] // h, x.shape[2] // w
        cut = x.view(B, rows, h, columns, w, C).transpose(2, 3).reshape(-1, h, w, C)
        y = self.proj(self._cascade(cut.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # (b rows columns) h w c
        y = y.view(B, rows, columns, h, w, C).transpose(2, 3).reshape(x.shape)
        return crop(y, H, W)

    def _cascade(self, x: Tensor) -> Tensor:
        """All heads' outputs side by side: [B,C,H,W] to the same."""
        _, C, h, w = x.shape
        index = self.get_buffer("attention_bias_idxs")
        found: list[Tensor] = []
        for i, share in enumerate(x.chunk(self.heads, dim=1)):
            qkv = self.qkvs[i](share + found[-1] if found else share)
            q, k, v = qkv.split([self.key_dim, self.key_dim, C // self.heads], dim=1)
            q, k, v = tokens(self.dws[i](q)), tokens(k), tokens(v)  # each b 1 m d
            y = attend(q, k, v, self.attention_biases[i, index], kernel=self.kernel)
            found.append(y.reshape(-1, h, w, C // self.heads).permute(0, 3, 1, 2))
        return torch.cat(found, dim=1)
