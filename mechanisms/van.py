"""VAN: large kernel attention; three cheap convolutions with a wide view make a gate for the map.

Paper   Guo, Lu, Liu, Cheng, Hu: Visual Attention Network, CVMJ 2023, https://arxiv.org/abs/2202.09741
Agrees  with the attention layer of Visual-Attention-Network/VAN-Classification, weights included
        (tests/mechanisms/test_van.py)
Differs nothing; there are no heads, and x + ... belongs to the layer as in the authors' code.

Shapes  B images, N = H W tokens, C channels; the map keeps its shape b h w c throughout:
        g = GELU(W_1 x);  a = W_a dw7x7(dw5x5(g)), the second with dilation 3;  y = x + W_2 (g a)
        dw is one filter per channel; beyond the border stand zeros
Cost    multiply-accumulates per image: N (3 C^2 + 74 C)
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism

RADIUS = 2 + 3 * 3  # of the 5x5 filter and of the dilated 7x7 filter together


def macs(size: Size) -> int:
    """MACs of three 1x1 convolutions and 25 + 49 taps per channel."""
    N, C = size.tokens, size.dim
    return N * (3 * C**2 + 74 * C)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The square of 23 x 23 tokens around (y, x)."""
    H, W = size.grid
    return ((i, j) for i in range(H) for j in range(W) if abs(i - y) <= RADIUS and abs(j - x) <= RADIUS)


def dilated(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The dilated depthwise convolution of [B,C,H,W], which keeps the map's shape.

    Tokens meet only those whose rows and columns differ by multiples of the dilation d: the map is d^2 maps of every
    d-th token, and each goes through the filter without dilation. On channels_last maps the dilated call is slow.
    """
    (B, C, H, W), d = x.shape, convolution.dilation[0]
    radius, h, w = convolution.kernel_size[0] // 2, -(-H // d), -(-W // d)
    parts = []
    for i, j in product(range(d), range(d)):
        part = x[:, :, i::d, j::d]
        if part.numel():
            part = F.conv2d(part, convolution.weight, convolution.bias, padding=radius, groups=C)
        parts.append(F.pad(part, (0, w - part.shape[3], 0, h - part.shape[2])).permute(0, 2, 3, 1))
    y = torch.stack(parts, 1).view(B, d, d, h, w, C).permute(0, 3, 1, 4, 2, 5).reshape(B, h * d, w * d, C)
    return y[:, :H, :W].permute(0, 3, 1, 2)


class _LargeKernel(nn.Module):
    """Gate [B,C,H,W] by the surroundings of each pixel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, g: Tensor) -> Tensor:
        return g * self.conv1(dilated(self.conv0(g), self.conv_spatial))


@mechanism(
    name="van",
    display="VAN",
    title="large kernel attention: decomposed convolution as a gate",
    paper="arXiv:2202.09741",
    year=2022,
    repository="Visual-Attention-Network/VAN-Classification",
    macs=macs,
    kind="gate",
    reach=reach,
    growth="linear",
)
class VAN(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.spatial_gating_unit = _LargeKernel(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the gated map to the map."""
        g = F.gelu(self.proj_1(x.permute(0, 3, 1, 2)))
        return x + self.proj_2(self.spatial_gating_unit(g)).permute(0, 2, 3, 1)
