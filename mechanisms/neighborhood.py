"""Neighborhood attention: every token attends to the square of tokens nearest to it.

Paper   Hassani et al.: Neighborhood Attention Transformer, CVPR 2023, https://arxiv.org/abs/2204.07143;
        Hassani, Shi: Dilated Neighborhood Attention Transformer, 2022, https://arxiv.org/abs/2209.15001
Agrees  with the papers' definition, checked by a loop over tokens (tests/mechanisms/test_neighborhood.py); the
        authors' native kernels were not run
Differs keys and values are gathered, k^2 copies of the map each, where the authors' kernels gather nothing: the
        figures of memory and speed are those of a plain PyTorch form. A side that kernel_size x dilation does not
        fit into has a smaller square: of as many tokens as the shortest run of tokens at distance `dilation` has
        (on a 4 x 14 map a kernel of 7 is 4 x 7); of the authors' library, version 0.14.6 pads such a map with
        zeros, and those of 2025 refuse it.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, k = kernel_size; at the borders the square moves
        inwards, so that each token has k^2 keys; with dilation r only every r-th token counts:
        qkv  b h w (3 n d) -> q [b (n h w) 1 d], k v [b (n h w) (k k) d]
        bias from a table of (2k-1)^2 offsets per head -> 1 (n h w) 1 (k k)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N k^2 C
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid


def nearest(place: int, side: int, kernel_size: int, dilation: int) -> range:
    """The tokens along one axis that the token at `place` attends to."""
    first, here = place % dilation, place // dilation
    run = -(-(side - first) // dilation)  # tokens at this distance from each other
    k = fitting(side, kernel_size, dilation)
    start = min(max(here - k // 2, 0), run - k)
    return range(first + start * dilation, first + (start + k) * dilation, dilation)


def fitting(side: int, kernel_size: int, dilation: int) -> int:
    """How many keys there are along an axis: kernel_size, or as many as the shortest run has."""
    return min(kernel_size, max(side // dilation, 1))


@per_grid
def neighbors(H: int, W: int, kernel_size: int, dilation: int, device: torch.device) -> Tensor:
    """For each token its keys' places in the map, then their rows in the bias table: [2, N, k k].

    Arithmetic on the device alone: a compiled layer would copy a table made of Python numbers at every call.
    """
    reach = 2 * kernel_size - 1

    def along(side: int) -> tuple[Tensor, Tensor]:  # `nearest` of all places at once
        place, k = torch.arange(side, device=device)[:, None], fitting(side, kernel_size, dilation)
        first, here = place % dilation, place // dilation
        run = (side - 1 - first) // dilation + 1
        start = torch.minimum((here - k // 2).clamp_min(0), run - k)
        keys = first + (start + torch.arange(k, device=device)) * dilation
        return keys, (keys - place) // dilation + kernel_size - 1

    (rows, down), (columns, right) = along(H), along(W)
    places = rows[:, None, :, None] * W + columns[None, :, None, :]
    offsets = down[:, None, :, None] * reach + right[None, :, None, :]
    return torch.stack([places, offsets]).view(2, H * W, -1)


def refuses(kernel_size: int, dilation: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        return f"kernel_size must be odd and at least 1; got kernel_size={kernel_size}"
    if dilation < 1:
        return f"dilation must be at least 1; got dilation={dilation}"
    return None


def _settings(size: Size) -> tuple[int, int]:
    return int(size.settings["kernel_size"]), int(size.settings["dilation"])


def macs(size: Size) -> int:
    """MACs of the projections and the two products."""
    k, dilation = _settings(size)
    kh, kw = (fitting(side, k, dilation) for side in size.grid)
    N, C = size.tokens, size.dim
    return 4 * N * C**2 + 2 * N * kh * kw * C


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The square of (y, x)."""
    k, dilation = _settings(size)
    H, W = size.grid
    return ((i, j) for i in nearest(y, H, k, dilation) for j in nearest(x, W, k, dilation))


def kernels_at(size: Size) -> tuple[str, ...]:
    """NATTEN's kernel has no bias, and no smaller square for a map that the square does not fit into."""
    k, dilation = _settings(size)
    native = not size.settings["rel_pos_bias"] and min(size.grid) >= k * dilation
    return ("eager", "sdpa", "natten") if native else ("eager", "sdpa")


@mechanism(
    name="neighborhood",
    title="neighborhood attention: the k x k nearest tokens",
    paper="arXiv:2204.07143",
    year=2023,
    repository="SHI-Labs/NATTEN",
    defaults={"kernel_size": 7, "dilation": 1, "rel_pos_bias": True},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa", "natten"),
    kernels_at=kernels_at,
    reach=reach,
    growth="linear",
    notes={
        "memory": "keys and values are gathered, kernel_size^2 copies of each; a native kernel has none",
        "natten": "with rel_pos_bias=false and a map of at least kernel_size x dilation: the package has no bias",
        "sdpa": "every token has keys of its own, so a fused block has one query and shares nothing",
    },
)
class NeighborhoodAttention(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, kernel_size: int, dilation: int, rel_pos_bias: bool) -> None:
        super().__init__()
        self.heads, self.kernel_size, self.dilation = heads, kernel_size, dilation
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rpb: nn.Parameter | None = None
        if rel_pos_bias:
            self.rpb = nn.Parameter(torch.empty(heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to its own square."""
        if self.kernel == "natten":
            return self._native(x)
        B, H, W, C = x.shape
        N, n = H * W, self.heads
        places, offsets = neighbors(H, W, self.kernel_size, self.dilation, x.device)  # each (h w) (k k)
        q, k, v = self.qkv(x).view(B, N, 3, n, C // n).permute(2, 0, 3, 1, 4)  # each b n (h w) d
        k, v = (t.index_select(2, places.flatten()).view(B, n * N, -1, C // n) for t in (k, v))
        bias = None if self.rpb is None else self.rpb.flatten(1)[:, offsets].view(1, n * N, 1, -1)
        y = attend(q.reshape(B, n * N, 1, C // n), k, v, bias, kernel=self.kernel)  # b (n h w) 1 d
        return self.proj(y.view(B, n, N, -1).transpose(1, 2).reshape(B, H, W, C))

    def _native(self, x: Tensor) -> Tensor:
        from natten.functional import na2d

        q, k, v = self.qkv(x).view(*x.shape[:3], 3, self.heads, -1).unbind(3)  # each b h w n d
        y: Tensor = na2d(q, k, v, kernel_size=self.kernel_size, dilation=self.dilation)
        return self.proj(y.reshape(x.shape))
