"""Windows, padding and pooling of [B,H,W,C] maps, as functions; and tables that are made once per grid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

_T = TypeVar("_T", bound=Callable[..., Tensor])
_REMEMBERED = 32


def per_grid(make: _T) -> _T:
    """Remember the tensors that `make` returned for its last 32 argument lists.

    `make` is a function of plain values (sizes, a device, a dtype) that returns a constant tensor: a mask,
    an index table. What it returns must not be written to. A compiler sees `make` itself and fuses it.
    """
    kept: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    @wraps(make)
    def remembered(*key: object) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*key)
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
        with torch.inference_mode(False), torch.no_grad():
            made = make(*key)
        if type(made) is Tensor:  # not a tracer's stand-in
            kept[key] = made
            if len(kept) > _REMEMBERED:
                kept.popitem(last=False)
        return made

    return cast(_T, remembered)


def pad_to(x: Tensor, window: int | tuple[int, int]) -> Tensor:
    """Pad [B,H,W,C] with zeros at the right and the bottom to multiples of `window`; no copy where none is needed."""
    wh, ww = (window, window) if isinstance(window, int) else window
    below, right = -x.shape[1] % wh, -x.shape[2] % ww
    return F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


def crop(x: Tensor, H: int, W: int) -> Tensor:
    """The top left H x W of [B,H',W',C], contiguous."""
    return x if x.shape[1:3] == (H, W) else x[:, :H, :W].contiguous()


def pool_mean(x: Tensor, window: int) -> Tensor:
    """Mean over each window x window block: [B,H,W,C] -> [B,H/w,W/w,C] (H and W divisible)."""
    return F.avg_pool2d(x.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)
