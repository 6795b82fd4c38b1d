"""CSWin: half of the heads attend inside vertical stripes, half inside horizontal ones.

Paper   Dong et al.: CSWin Transformer, CVPR 2022, https://arxiv.org/abs/2107.00652
Agrees  with the layer that the LITv2 authors' benchmark times, which is that of microsoft/CSWin-Transformer,
        weights included (tests/mechanisms/test_cswin.py)
Differs a map that split_size does not divide is padded as in the authors' segmentation code (keys and values of
        zero on both sides, unmasked); their classification code refuses it. At stride 32, and where one stripe
        covers the map, there is one branch with all heads and full attention, as in their last stage.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, s = split_size; of C, n the halves c, m:
        vertical    qkv  b h (w s) (3 m d) -> 3 x [(b w) m (h s) d]
        horizontal  qkv  b (h s) w (3 m d) -> 3 x [(b h) m (s w) d]
        each adds a depthwise 3 x 3 convolution of v that stops at the stripe's edge; output b h w (vertical horizontal)
Cost    multiply-accumulates per image, N0 = H pad(W), N1 = pad(H) W: 4 N C^2 + 9 C (N0 + N1) / 2 + C s (N0 H + N1 W);
        one branch: 4 N C^2 + 9 N C + 2 N^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend


def one_branch(grid: tuple[int, int], stride: int, split_size: int) -> bool:
    """Whether all heads attend to the whole map."""
    return stride >= 32 or max(grid) <= split_size


def refuses(heads: int, grid: tuple[int, int], stride: int, split_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if split_size < 1:
        return f"split_size must be at least 1; got split_size={split_size}"
    if heads % 2 and not one_branch(grid, stride, split_size):
        shape = "x".join(map(str, grid))
        return (
            f"heads must be even for two branches of stripes; got heads={heads}, split_size={split_size}, grid={shape}"
        )
    return None


def macs(size: Size) -> int:
    """MACs of the linear layers, the convolutions and the two products, on each branch's padded map."""
    s, C, N, (H, W) = int(size.settings["split_size"]), size.dim, size.tokens, size.grid
    if one_branch(size.grid, size.stride, s):
        return 4 * N * C**2 + 9 * N * C + 2 * N**2 * C
    vertical, horizontal = H * size.padded(s)[1], size.padded(s)[0] * W
    products = 2 * vertical * H * s + 2 * horizontal * s * W
    return 4 * N * C**2 + (9 * (vertical + horizontal) + products) * (C // 2)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The two stripes of (y, x), or everything."""
    s, (H, W) = int(size.settings["split_size"]), size.grid
    top, left = -H % s // 2, -W % s // 2
    everything = one_branch(size.grid, size.stride, s)
    return (
        (i, j)
        for i in range(H)
        for j in range(W)
        if everything or (i + top) // s == (y + top) // s or (j + left) // s == (x + left) // s
    )


class _Stripes(ReadsKernel, nn.Module):
    """Attention of one branch: [B,H,W,3,c] to [B,H,W,c]; a side of None spans the map."""

    def __init__(self, channels: int, heads: int, height: int | None, width: int | None) -> None:
        super().__init__()
        self.heads, self.height, self.width = heads, height, width
        self.get_v = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, qkv: Tensor) -> Tensor:
        B, H, W, _, c = qkv.shape
        h, w = self.height or H, self.width or W
        below, right = -H % h, -W % w
        top, left = below // 2, right // 2
        if below or right:
            qkv = F.pad(qkv, (0, 0, 0, 0, left, right - left, top, below - top))
        rows, columns = (H + below) // h, (W + right) // w
        stripes = qkv.view(B, rows, h, columns, w, 3, c).permute(5, 0, 1, 3, 2, 4, 6).reshape(3, -1, h * w, c)
        q, k, v = stripes.view(3, -1, h * w, self.heads, c // self.heads).transpose(2, 3)  # each (b r l) m (h w) d
        y = attend(q, k, v, kernel=self.kernel).transpose(1, 2).reshape(-1, h, w, c)
        y = y + self.get_v(stripes[2].view(-1, h, w, c).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = y.view(B, rows, columns, h, w, c).transpose(2, 3).reshape(B, rows * h, columns * w, c)
        return y[:, top : top + H, left : left + W]


@mechanism(
    name="cswin",
    display="CSWin",
    title="cross-shaped windows: vertical and horizontal stripes",
    paper="arXiv:2107.00652",
    year=2022,
    repository="microsoft/CSWin-Transformer",
    defaults={"split_size": 7},
    per_stride={4: {"split_size": 1}, 8: {"split_size": 2}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "flex"),
    reach=reach,
    growth="quadratic",
    notes={"stride 32": "one branch with full attention whatever split_size says, as in the authors' last stage"},
)
class CSWin(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int], stride: int, split_size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        if one_branch(grid, stride, split_size):
            branches = [_Stripes(dim, heads, None, None)]
        else:
            shapes = ((None, split_size), (split_size, None))
            branches = [_Stripes(dim // 2, heads // 2, *shape) for shape in shapes]
        self.attns = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Let each branch attend inside its stripes with its share of the channels."""
        B, H, W, C = x.shape
        shares = self.qkv(x).view(B, H, W, 3, C).chunk(len(self.attns), dim=-1)
        done = [stripes(share) for stripes, share in zip(self.attns, shares, strict=True)]
        return self.proj(torch.cat(done, dim=-1) if len(done) > 1 else done[0])
