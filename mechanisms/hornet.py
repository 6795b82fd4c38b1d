"""HorNet: gnConv; neighbours are mixed by one wide convolution and multiplied in, order after order.

Paper   Rao et al.: HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions,
        NeurIPS 2022, https://arxiv.org/abs/2207.14284
Agrees  with gnconv of raoyongming/HorNet, weights included (tests/mechanisms/test_hornet.py)
Differs the global-local filter of the GF models, which takes the place of the 7x7 convolution there, is left
        out; there are no heads.

Shapes  B images, N = H W tokens, C channels, n = order; widths d_i = C / 2^(n-1-i) for i = 0 .. n-1, S their sum:
        W_in x   b h w c -> p [d_0] and r [S];  (b_0, .., b_{n-1}) = s dw7x7(r), d_i channels each
        z_0 = p b_0;  z_{i+1} = (W_i z_i) b_{i+1};  y = W_out z_{n-1}
Cost    multiply-accumulates per image: N (3 C^2 + 49 S + sum d_i d_{i+1}), S = 2 C - C / 2^(n-1).
        One image of at most SMALL tokens is computed as [C,H,W] on a CPU, where the slices r and b_i are dense: on
        zen5-2c-63c9 (dim 768) 0.88 to 0.93 of the time at 14x14, 0.97 at 24x24; from 28x28 on the form with channels
        last is the faster one, and in a batch slices of [B,C,H,W] are not dense.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism

SMALL = 576  # tokens


def widths(dim: int, order: int) -> list[int]:
    """Channels of each order, the first and narrowest to the last, which has all of them."""
    return [dim // 2**i for i in range(order - 1, -1, -1)]


def refuses(dim: int, order: int, s: float) -> str | None:
    """Why it cannot be built with these values, or None."""
    if order < 1:
        return f"order must be at least 1; got order={order}"
    if order > dim.bit_length() or dim % 2 ** (order - 1):
        return f"2^(order-1) must divide dim; got order={order}, dim={dim}"
    if s <= 0:
        return f"s must be positive; got s={s}"
    return None


def macs(size: Size) -> int:
    """MACs of the 1x1 convolutions and of 49 taps for each of S channels."""
    d = widths(size.dim, int(size.settings["order"]))
    steps = sum(a * b for a, b in pairwise(d))
    return size.tokens * (3 * size.dim**2 + 49 * sum(d) + steps)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The 7 x 7 tokens around (y, x): there is only one wide convolution, whatever the order."""
    H, W = size.grid
    return ((i, j) for i in range(H) for j in range(W) if abs(i - y) <= 3 and abs(j - x) <= 3)


@mechanism(
    name="hornet",
    display="HorNet",
    title="recursive gated convolution",
    paper="arXiv:2207.14284",
    year=2022,
    repository="raoyongming/HorNet",
    defaults={"order": 4, "s": 1 / 3},
    per_stride={4: {"order": 2}, 8: {"order": 3}, 16: {"order": 4}, 32: {"order": 5}},
    macs=macs,
    refuses=refuses,
    kind="gate",
    reach=reach,
    growth="linear",
)
class HorNet(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, order: int, s: float) -> None:
        super().__init__()
        self.scale = s
        self.dims = widths(dim, order)
        wide = sum(self.dims)
        self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
        self.dwconv = nn.Conv2d(wide, wide, 7, padding=3, groups=wide)
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.pws = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(self.dims))

    def forward(self, x: Tensor) -> Tensor:
        """Gate by the neighbourhood once per order, doubling the channels in between."""
        x = x.permute(0, 3, 1, 2)
        if len(x) == 1 and x[0, 0].numel() <= SMALL and x.device.type == "cpu":
            x = x.contiguous()
        first, rest = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        gates = (self.dwconv(rest) * self.scale).split(self.dims, dim=1)
        z = first * gates[0]
        for widen, gate in zip(self.pws, gates[1:], strict=True):
            z = widen(z) * gate
        return self.proj_out(z).permute(0, 2, 3, 1)
