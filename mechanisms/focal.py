"""Focal: a window attends to itself, to the ring of tokens around it, and to summaries of the windows near it.

Paper   Yang et al.: Focal Self-attention for Local-Global Interactions in Vision Transformers, NeurIPS 2021,
        https://arxiv.org/abs/2107.00641
Agrees  with the attention of microsoft/Focal-Transformer (v1, pooling `fc`), weights included
        (tests/mechanisms/test_focal.py)
Differs one or two levels only (published models have two); summaries beyond the map are left out exactly, where
        the authors' code subtracts 100; window and ring keep their sizes on small maps. As published, the ring of
        a window at the border goes on at the opposite border: the published accuracies and speeds depend on it.
        `wrap=false` leaves those tokens out.

Shapes  B images, N = H W tokens, C channels, n heads, D = C / n; w = window_size, e = expand_size,
        f = focal_window; the map padded with zeros to P windows, padded tokens attended to, unmasked:
        summary b p (w w) c -> b p 1 c by one weight per position, then through the same linear as all tokens
        q       b n p (w w) d
        k v     b n p m d, m = w^2 own + 4 w^2 - 4 (w - e)^2 around (four diagonal shifts by e, less the window
                itself; tokens beside an edge's middle come twice) + f^2 summaries; each group has its bias
Cost    multiply-accumulates per image, N' = P w^2: 4 N' C^2 + N' C + 3 P C^2 + 2 N' m C.
        At batch 8, 224 px, dim 768 (zen5-2c-63c9, fp32, eager) linear layers and products alone take 45 ms, 36 of them
        the linear layers, of the layer's 49: no form makes it more than 1.1 times as fast. Keys and values gathered as
        one, by head or by token, took longer than gathered apart (with the products 10.6 and 11.9 ms against 9.3)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms.attend import attend
from mechanisms.grid import crop, pad_to, per_grid

Place = tuple[int, int]


def ring(w: int, e: int) -> list[tuple[int, Place]]:
    """What the four diagonal shifts show outside the window: its index among 4 w^2, and its place from the corner."""
    shown = [(i + u * e, j + v * e) for u in (1, -1) for v in (1, -1) for i in range(w) for j in range(w)]
    return [(k, (i, j)) for k, (i, j) in enumerate(shown) if not (0 <= i < w and 0 <= j < w)]


def refuses(window_size: int, expand_size: int, focal_window: int, focal_level: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    if window_size < 1:
        return f"window_size must be at least 1; got window_size={window_size}"
    if not 0 <= expand_size <= window_size:
        return (
            f"expand_size must lie between 0 and window_size; got expand_size={expand_size}, window_size={window_size}"
        )
    if focal_window < 1 or focal_window % 2 == 0:
        return f"focal_window must be odd and positive; got focal_window={focal_window}"
    if focal_level not in (1, 2):
        return f"focal_level must be 1 or 2; got focal_level={focal_level}"
    return None


def _settings(size: Size) -> tuple[int, int, int, int]:
    at = size.settings
    return int(at["window_size"]), int(at["expand_size"]), int(at["focal_window"]), int(at["focal_level"])


def macs(size: Size) -> int:
    """MACs of the linear layers, the summaries and the two products, on the padded map."""
    w, e, f, level = _settings(size)
    (H, W), C = size.padded(w), size.dim
    keys = w**2 + (4 * w**2 - 4 * (w - e) ** 2) + (f**2 if level == 2 else 0)
    summaries = H * W * C + 3 * (H * W // w**2) * C**2 if level == 2 else 0
    return 4 * H * W * C**2 + summaries + 2 * H * W * keys * C


def reach(size: Size, y: int, x: int) -> Iterable[Place]:
    """The window of (y, x), the ring around it and the windows that are summarised for it."""
    w, e, f, level = _settings(size)
    (H, W), (Hp, Wp), top, left = size.grid, size.padded(w), y // w * w, x // w * w
    seen = {(top + i, left + j) for i in range(w) for j in range(w)}
    for _, (i, j) in ring(w, e):
        if size.settings["wrap"] or (0 <= top + i < Hp and 0 <= left + j < Wp):
            seen.add(((top + i) % Hp, (left + j) % Wp))
    if level == 2:
        far = f // 2 * w
        seen |= {(i, j) for i in range(top - far, top + far + w) for j in range(left - far, left + far + w)}
    return ((i, j) for i, j in seen if 0 <= i < H and 0 <= j < W)


@per_grid
def _keys(rows: int, columns: int, w: int, e: int, f: int, wrap: bool, device: torch.device) -> Tensor:
    """Each window's keys [2,P,m]: places among windows of w^2 tokens (and a summary, if f > 0); 1 where masked.

    Arithmetic on the device alone: a compiled layer would copy a table made of Python numbers at every call.
    """
    step = w * w + (f > 0)
    window = torch.arange(rows * columns, device=device)[:, None]
    down, right = window // columns, window % columns  # p 1
    y, x = torch.cat([_block(0, w, 0, w, device), *_ring(w, e, device)], dim=1)
    y, x = down * w + y, right * w + x  # p m, as if the map had no border
    beyond = torch.zeros_like(y) if wrap else _outside(y, x, rows * w, columns * w)
    y, x = y % (rows * w), x % (columns * w)
    index = (y // w * columns + x // w) * step + y % w * w + x % w
    if f:
        y, x = _block(0, f, 0, f, device) - f // 2
        y, x = down + y, right + x
        beyond = torch.cat([beyond, _outside(y, x, rows, columns)], dim=1)
        index = torch.cat([index, (y % rows * columns + x % columns) * step + w * w], dim=1)
    return torch.stack([index, beyond])


def _block(top: int, bottom: int, left: int, right: int, device: torch.device) -> Tensor:
    """The places of a rectangle, row by row: [2, places]."""
    y, x = torch.arange(top, bottom, device=device), torch.arange(left, right, device=device)
    return torch.stack([y[:, None].expand(-1, right - left), x.expand(bottom - top, -1)]).flatten(1)


def _ring(w: int, e: int, device: torch.device) -> Iterator[Tensor]:
    """The places of `ring`, in its order: of each shifted window the rectangles that lie outside the window itself."""
    for u in (1, -1):
        for v in (1, -1):
            beside = (w - e, w) if v == 1 else (0, e)  # columns that a row inside the window shows outside it
            upper, lower = ((0, w - e, *beside), (w - e, w, 0, w))
            if u == -1:
                upper, lower = ((0, e, 0, w), (e, w, *beside))
            for rectangle in (upper, lower):
                y, x = _block(*rectangle, device)
                yield torch.stack([y + u * e, x + v * e])


def _outside(y: Tensor, x: Tensor, height: int, width: int) -> Tensor:
    return ((y < 0) | (y >= height) | (x < 0) | (x >= width)).long()


def _pairs(queries: int, apart: Tensor) -> Tensor:
    """Row of a bias table of `queries` x `queries` per window position and key, from one axis's differences."""
    pairs = apart[:, None, :, None] * queries + apart[None, :, None, :]
    return pairs.reshape(apart.shape[0] ** 2, apart.shape[1] ** 2)


@mechanism(
    name="focal",
    display="Focal",
    title="fine windows, their surroundings, and coarse summaries",
    paper="arXiv:2107.00641",
    year=2021,
    repository="microsoft/Focal-Transformer",
    defaults={"window_size": 7, "expand_size": 3, "focal_window": 3, "focal_level": 2, "wrap": True},
    per_stride={4: {"focal_window": 7}, 8: {"focal_window": 5}, 32: {"focal_window": 1, "expand_size": 0}},
    macs=macs,
    refuses=refuses,
    kernels=("eager", "sdpa"),
    reach=reach,
    growth="linear",
)
class Focal(ReadsKernel, nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    relative_position_index: Tensor
    relative_position_index_0: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        window_size: int,
        expand_size: int,
        focal_window: int,
        focal_level: int,
        wrap: bool,
    ) -> None:
        super().__init__()
        self.heads, self.wrap = heads, wrap
        self.window_size, self.expand_size = w, e = window_size, expand_size
        self.focal_window = f = focal_window if focal_level == 2 else 0
        at = torch.arange(w)
        self.relative_position_bias_table = _table((2 * w - 1) ** 2, heads)
        self.register_buffer("relative_position_index", _pairs(2 * w - 1, at[:, None] - at + w - 1))
        if e:
            self.relative_position_bias_table_to_neighbors = _table(1, heads, w * w, len(ring(w, e)))
            self.register_buffer("valid_ind_rolled", torch.tensor([k for k, _ in ring(w, e)]))
        if f:
            apart = at[:, None] - torch.arange(f) + 2 * (f // 2)
            self.register_buffer("relative_position_index_0", _pairs(w + f - 1, apart))
            self.pool_layers = nn.ModuleList([nn.Linear(w * w, 1)])
            self.relative_position_bias_table_to_windows = nn.ParameterList([_table(heads, (w + f - 1) ** 2)])
            nn.init.constant_(self._pool.weight, 1 / w**2)  # begins as the mean
            nn.init.zeros_(self._pool.bias)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    @property
    def _pool(self) -> nn.Linear:
        pool = self.pool_layers[0]
        assert isinstance(pool, nn.Linear)
        return pool

    def forward(self, x: Tensor) -> Tensor:
        """Attend from each window to three groups of keys in one softmax."""
        B, H0, W0, C = x.shape
        w, e, f, n = self.window_size, self.expand_size, self.focal_window, self.heads
        x = pad_to(x, w)
        rows, columns = x.shape[1] // w, x.shape[2] // w
        parts = x.view(B, rows, w, columns, w, C).transpose(2, 3).reshape(B, rows * columns, w * w, C)
        if f:
            weight = self._pool.weight.expand(*parts.shape[:2], 1, w * w)
            parts = torch.cat([parts, weight @ parts + self._pool.bias], dim=2)
        q, k, v = self.qkv(parts).view(*parts.shape[:3], 3, n, C // n).permute(3, 0, 4, 1, 2, 5)  # b n p r d
        index, beyond = _keys(rows, columns, w, e, f, self.wrap, x.device)
        k, v = (
            t.flatten(2, 3).index_select(2, index.flatten()).view(B, n * rows * columns, -1, C // n) for t in (k, v)
        )
        bias = self._bias()[:, None].masked_fill(beyond[:, None].bool(), float("-inf"))
        bias = bias.flatten(0, 1)[None]  # 1 (n p) (w w) m
        y = attend(q[..., : w * w, :].flatten(1, 2), k, v, bias, kernel=self.kernel)
        y = y.view(B, n, rows, columns, w, w, C // n).permute(0, 2, 4, 3, 5, 1, 6)
        return crop(self.proj(y.reshape(B, rows * w, columns * w, C)), H0, W0)

    def _bias(self) -> Tensor:
        """[n, w w, m]."""
        parts = [self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)]
        if self.expand_size:
            parts.append(self.relative_position_bias_table_to_neighbors[0])
        if self.focal_window:
            parts.append(self.relative_position_bias_table_to_windows[0][:, self.relative_position_index_0])
        return torch.cat(parts, dim=-1)


def _table(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))
