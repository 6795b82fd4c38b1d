"""Generalized neighborhood attention (GNA): a block of neighboring queries shares the square of keys around its leader.

Paper   Hassani et al.: Generalized Neighborhood Attention, 2025, https://arxiv.org/abs/2504.16922
Agrees  with NeighborhoodAttention2D of NATTEN 0.21.7.dev1 (its form for CPUs), weights included, in float64
        (tests/mechanisms/test_neighborhood_stride.py)
Differs keys and values are gathered once per block, where the authors' kernels gather nothing; blocks at the border
        that are not full are filled with copies of their last query, which is counted. A side that kernel_size x
        dilation does not fit into has a smaller square, and a block not wider than that: the authors refuse such a
        map. The authors' `stride` is `window_stride` here, because `stride` is the number of pixels per token. No bias
        table, as in the authors' library of 2025.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, k = kernel_size, s = window_stride, G blocks; along an
        axis of L tokens block g holds tokens s g to s g + s - 1, its leader is token s g + floor(s/2), moved inwards by
        the border; the keys are floor(k/2) tokens before the leader, itself, floor((k-1)/2) after it; with dilation r
        the rule holds among every r-th token:
        qkv  b h w (3 n d) -> q [b (n g) (s s) d], k v [b (n g) (k k) d];  y = softmax(q k^T D^-1/2) v -> b h w (n d)
Cost    multiply-accumulates per image: 4 N C^2 + 2 G s^2 k^2 C, where G s^2 = N if s divides H and W (and r is 1)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid


class Axis(NamedTuple):
    """One side of the map, cut into `dilation` runs of every dilation-th token, and each run into blocks.

    `keys`: of a block; `queries`: in a block; `blocks`: in a run.
    """

    side: int
    dilation: int
    keys: int
    queries: int
    blocks: int

    @property
    def runs(self) -> int:
        """Runs that hold a token."""
        return min(self.dilation, self.side)


def axis(side: int, kernel_size: int, window_stride: int, dilation: int) -> Axis:
    """The blocks of an axis; the shortest run decides how many keys there are."""
    keys = min(kernel_size, max(side // dilation, 1))
    queries = min(window_stride, keys)
    longest = (side - 1) // dilation + 1
    return Axis(side, dilation, keys, queries, (longest - 1) // queries + 1)


def block_keys(place: int, along: Axis) -> range:
    """The tokens along one axis that the token at `place` attends to."""
    first, here = place % along.dilation, place // along.dilation
    last = (along.side - 1 - first) // along.dilation
    leader = min(here // along.queries * along.queries + along.queries // 2, last)
    start = min(max(leader - along.keys // 2, 0), last + 1 - along.keys)
    return range(first + start * along.dilation, first + (start + along.keys) * along.dilation, along.dilation)


def _tables(along: Axis, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of every block [blocks, s], its keys [blocks, k], and where each token is among the queries [side]."""
    side, dilation, k, s, blocks = along
    arange = torch.arange
    first = arange(along.runs, device=device)[:, None, None]
    last = (side - 1 - first) // dilation
    begin = arange(blocks, device=device)[:, None] * s
    queries = first + torch.minimum(begin + arange(s, device=device), last) * dilation  # runs blocks s
    start = (torch.minimum(begin + s // 2, last) - k // 2).clamp_min(0)
    keys = first + (torch.minimum(start, last + 1 - k) + arange(k, device=device)) * dilation
    place = arange(side, device=device)
    here = place // dilation
    return queries.flatten(0, 1), keys.flatten(0, 1), (place % dilation * blocks + here // s) * s + here % s


@per_grid
def gathered(vertical: Axis, horizontal: Axis, device: torch.device) -> Tensor:
    """Places in the map of all blocks' queries, then of their keys, then each token's place among the queries: [T].

    Arithmetic on the device alone: a compiled layer would copy a table made of Python numbers at every call.
    """
    (qy, ky, y), (qx, kx, x) = _tables(vertical, device), _tables(horizontal, device)
    queries, keys = (
        (rows[:, None, :, None] * horizontal.side + columns[None, :, None, :]).flatten()
        for rows, columns in ((qy, qx), (ky, kx))
    )
    (sy, sx), blocks = (vertical.queries, horizontal.queries), len(qx)
    slots = ((y // sy)[:, None] * blocks + x // sx) * sy * sx + (y % sy)[:, None] * sx + x % sx
    return torch.cat([queries, keys, slots.flatten()])


def refuses(kernel_size: int, window_stride: int, dilation: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if kernel_size < 1:
        return f"kernel_size must be at least 1; got kernel_size={kernel_size}"
    if not 1 <= window_stride <= kernel_size:
        return (
            f"window_stride must be from 1 to kernel_size; got window_stride={window_stride}, kernel_size={kernel_size}"
        )
    if dilation < 1:
        return f"dilation must be at least 1; got dilation={dilation}"
    return None


def _axes(size: Size) -> tuple[Axis, Axis]:
    k, s, r = (int(size.settings[name]) for name in ("kernel_size", "window_stride", "dilation"))
    H, W = size.grid
    return axis(H, k, s, r), axis(W, k, s, r)


def macs(size: Size) -> int:
    """MACs of the projections and the two products."""
    C, (vertical, horizontal) = size.dim, _axes(size)
    queries, keys = (
        math.prod(counts)
        for counts in zip(*((a.runs * a.blocks * a.queries, a.keys) for a in (vertical, horizontal)), strict=True)
    )
    return 4 * size.tokens * C**2 + 2 * queries * keys * C


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The square of the block of (y, x)."""
    vertical, horizontal = _axes(size)
    return ((i, j) for i in block_keys(y, vertical) for j in block_keys(x, horizontal))


@mechanism(
    name="neighborhood_stride",
    display="GNA",
    title="neighborhood attention with a stride (GNA)",
    paper="arXiv:2504.16922",
    year=2025,
    repository="SHI-Labs/NATTEN",
    defaults={"kernel_size": 7, "window_stride": 2, "dilation": 1},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach=reach,
    growth="linear",
    notes={"memory": "keys and values are gathered, (kernel_size / window_stride)^2 copies of each"},
)
class NeighborhoodStride(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, heads: int, *, kernel_size: int, window_stride: int, dilation: int) -> None:
        super().__init__()
        self.heads = heads
        self.kernel_size, self.window_stride, self.dilation = kernel_size, window_stride, dilation
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every block of queries to the square around its leader."""
        B, H, W, C = x.shape
        N, n, d = H * W, self.heads, C // self.heads
        vertical, horizontal = (axis(side, self.kernel_size, self.window_stride, self.dilation) for side in (H, W))
        s2, k2 = vertical.queries * horizontal.queries, vertical.keys * horizontal.keys
        blocks = vertical.runs * vertical.blocks * horizontal.runs * horizontal.blocks
        places = gathered(vertical, horizontal, x.device)
        queries, keys, slots = torch.split(places, [blocks * s2, blocks * k2, N])
        q, k, v = self.qkv(x).view(B, N, 3, n, d).permute(2, 0, 3, 1, 4)  # each b n (h w) d
        q = q.index_select(2, queries).view(B, n * blocks, s2, d)
        k, v = (t.index_select(2, keys).view(B, n * blocks, k2, d) for t in (k, v))
        y = attend(q, k, v, kernel=self.kernel).reshape(B, n, blocks * s2, d)  # b n (g s s) d
        return self.proj(y.transpose(1, 2).index_select(1, slots).view(B, H, W, C))
