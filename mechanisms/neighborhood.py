"""Neighborhood attention: every token attends to the square of tokens nearest to it.

Paper   Hassani et al.: Neighborhood Attention Transformer, CVPR 2023, https://arxiv.org/abs/2204.07143;
        Hassani, Shi: Dilated Neighborhood Attention Transformer, 2022, https://arxiv.org/abs/2209.15001
Agrees  with the papers' definition, checked by a loop over tokens (tests/mechanisms/test_neighborhood.py); the
        authors' native kernels were not run
Differs keys and values are copied, once for all the queries that share a square, a few squares at a time, where the
        authors' kernels copy nothing: the figures of speed are those of a plain PyTorch form. A side that
        kernel_size x dilation does not fit into has a smaller square: of as many tokens as the shortest run of
        tokens at distance `dilation` has (on a 4 x 14 map a kernel of 7 is 4 x 7); of the authors' library, version
        0.14.6 pads such a map with zeros, and those of 2025 refuse it.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n, k = kernel_size; at the borders the square moves
        inwards, so that each token has k^2 keys; with dilation r only every r-th token counts. m tokens share a
        square: 1 inside of the map, (k+1)/2 at its sides and the square of that in its corners; w squares of one m:
        qkv  b h w (3 n d) -> q [b (n w) m d], k v [b (n w) (k k) d]
        bias from a table of (2k-1)^2 offsets per head -> 1 (n w) m (k k)
Cost    multiply-accumulates per image: 4 N C^2 + 2 N k^2 C; copied keys and values, at most 4 N C at a time
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import per_grid

COPIES = 2  # of the map's keys (and of its values) that are held at a time


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


class Runs(NamedTuple):
    """Runs of keys along one axis, each `dilation` further than the one before and shared by as many queries.

    Attributes:
        queries: that share a run. `number`: of runs.
        first_query, first_key: places of the first run's first query and key.
    """

    queries: int
    number: int
    first_query: int
    first_key: int


def shared(side: int, kernel_size: int, dilation: int) -> Iterator[Runs]:
    """Every run of keys along an axis: the first and the last serve half of the square's queries, the others one."""
    k = fitting(side, kernel_size, dilation)
    half = k // 2
    for first in range(min(dilation, side)):
        last = (side - 1 - first) // dilation + 1 - k  # the last run's start
        if last == 0:
            yield Runs(k, 1, first, first)
            continue
        yield Runs(half + 1, 1, first, first)
        if last > 1:
            yield Runs(1, last - 1, first + (half + 1) * dilation, first + dilation)
        yield Runs(k - half, 1, first + (last + half) * dilation, first + last * dilation)


def sharing(side: int, kernel_size: int, dilation: int) -> list[int]:
    """How many queries share a run of keys along an axis: each number that occurs."""
    return list(dict.fromkeys(runs.queries for runs in shared(side, kernel_size, dilation)))


def along(side: int, kernel_size: int, dilation: int, queries: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places along an axis of the runs that so many queries share: the queries [runs, queries], the keys [runs, k]."""
    asking, asked = [], []
    each, step = (torch.arange(n, device=device) for n in (queries, fitting(side, kernel_size, dilation)))
    for runs in shared(side, kernel_size, dilation):
        if runs.queries == queries:
            at = torch.arange(runs.number, device=device)[:, None]
            asking.append(runs.first_query + (at * queries + each) * dilation)
            asked.append(runs.first_key + (at + step) * dilation)
    return torch.cat(asking), torch.cat(asked)


@per_grid
def squares(H: int, W: int, kernel_size: int, dilation: int, down: int, right: int, device: torch.device) -> Tensor:
    """The squares of keys that down x right = m queries share: [w, m + k k + m k k].

    Of each square the queries' places in the map, its keys' places, and for each query its keys' rows in the bias
    table. Arithmetic on the device alone: a compiled layer would copy a table made of Python numbers at every call.
    """
    rows, key_rows = along(H, kernel_size, dilation, down, device)
    columns, key_columns = along(W, kernel_size, dilation, right, device)
    queries = (rows[:, None, :, None] * W + columns[None, :, None]).flatten(2).flatten(0, 1)
    keys = (key_rows[:, None, :, None] * W + key_columns[None, :, None]).flatten(2).flatten(0, 1)
    below, beside = (  # from 0 to 2k-2, of each run's queries and keys
        (asked[:, None] - asking[:, :, None]) // dilation + kernel_size - 1
        for asking, asked in ((rows, key_rows), (columns, key_columns))
    )
    offsets = below[:, None, :, None, :, None] * (2 * kernel_size - 1) + beside[None, :, None, :, None]
    return torch.cat([queries, keys, offsets.flatten(2).flatten(0, 1)], dim=1)


@per_grid
def reading_order(H: int, W: int, kernel_size: int, dilation: int, device: torch.device) -> Tensor:
    """Where in the order of all squares' queries each token of the map stands: [N]."""
    order = [
        squares(H, W, kernel_size, dilation, down, right, device)[:, : down * right].flatten()
        for down in sharing(H, kernel_size, dilation)
        for right in sharing(W, kernel_size, dilation)
    ]
    return torch.cat(order).argsort()


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
    display="NA",
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
        "memory": "keys and values are copied, some squares at a time; a native kernel has no copies",
        "natten": "with rel_pos_bias=false and a map of at least kernel_size x dilation: the package has no bias",
        "sdpa": "inside of the map every token has keys of its own: a fused block has one query and shares nothing",
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
        N, n, d = H * W, self.heads, C // self.heads
        q, k, v = self.qkv(x).view(B, N, 3, n, d).permute(2, 0, 3, 1, 4).reshape(3, -1, d)  # each (b n h w) d
        first = torch.arange(0, B * n * N, N, device=x.device)[:, None]  # row of each head's first token
        parts = []
        for queries, keys, offsets in self._squares(H, W, x.device):
            w, m = queries.shape
            asking, asked = ((first + places.flatten()).flatten() for places in (queries, keys))
            bias = None if self.rpb is None else self.rpb.flatten(1)[:, offsets].view(1, n * w, m, -1)
            y = attend(
                q.index_select(0, asking).view(B, n * w, m, d),
                k.index_select(0, asked).view(B, n * w, -1, d),
                v.index_select(0, asked).view(B, n * w, -1, d),
                bias,
                kernel=self.kernel,
            )
            parts.append(y.view(B, n, w * m, d).transpose(1, 2))
        order = reading_order(H, W, self.kernel_size, self.dilation, x.device)
        return self.proj(torch.cat(parts, dim=1).view(B, N, C).index_select(1, order).view(B, H, W, C))

    def _squares(self, H: int, W: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Queries [w,m], keys [w,k k] and bias rows [w,m k k] of all squares, some of them at a time."""
        settings = (self.kernel_size, self.dilation)
        each = fitting(H, *settings) * fitting(W, *settings)
        for down in sharing(H, *settings):
            for right in sharing(W, *settings):
                table = squares(H, W, *settings, down, right, device)
                m = down * right
                for some in torch.split(table, max(COPIES * H * W // each, 1)):
                    queries, keys, offsets = torch.split(some, [m, each, m * each], dim=1)
                    yield queries, keys, offsets

    def _native(self, x: Tensor) -> Tensor:
        from natten.functional import na2d

        q, k, v = self.qkv(x).view(*x.shape[:3], 3, self.heads, -1).unbind(3)  # each b h w n d
        y: Tensor = na2d(q, k, v, kernel_size=self.kernel_size, dilation=self.dilation)
        return self.proj(y.reshape(x.shape))
