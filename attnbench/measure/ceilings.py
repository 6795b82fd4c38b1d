"""What a device reaches at best, here and now: a large matrix product and a large copy.

Measured, never taken from a data sheet; a layer's share of its roofline refers to these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnbench.machine.devices import Device

_LARGEST_SIDE = 16384
_LARGEST_COPY = 1 << 28  # bytes


@dataclass(frozen=True)
class Rates:
    """The best rates of a device.

    Attributes:
        macs_per_s: multiply-accumulates per second of a large square matrix product.
        bytes_per_s: bytes per second of a large copy, read and written bytes added.
    """

    macs_per_s: float
    bytes_per_s: float


def measure_ceilings(device: Device, dtype: torch.dtype, seconds: float = 0.2) -> Rates:
    """Time a product and a copy, with the precision and the threads that are set now.

    Args:
        device: the device; at most an eighth of its free memory is used for an operand.
        dtype: what `device.set_precision` returned.
        seconds: about how long to measure.
    """
    room = device.free_bytes() // 8
    with torch.inference_mode():
        return Rates(_macs_per_s(device, dtype, room, seconds / 2), _bytes_per_s(device, room, seconds / 2))


def _macs_per_s(device: Device, dtype: torch.dtype, room: int, seconds: float) -> float:
    """Double the side [side, side] until one product takes a fifth of `seconds` or the memory limits it."""
    where, side = device.torch_device(), 512
    while True:
        a, b = (torch.randn(side, side, device=where).to(dtype) for _ in range(2))
        product = _bind(torch.mm, a, b, out=torch.empty_like(a))
        best = _best_s(device, product, 2)
        if best >= seconds / 5 or 2 * side > _LARGEST_SIDE or 16 * side**2 * a.element_size() > room:
            break
        side *= 2
    return side**3 / min(best, _best_s(device, product, _calls(best, seconds)))


def _bytes_per_s(device: Device, room: int, seconds: float) -> float:
    size = max(1 << 20, min(_LARGEST_COPY, room))
    source = torch.empty(size, dtype=torch.uint8, device=device.torch_device()).fill_(1)
    copy = _bind(torch.empty_like(source).copy_, source)
    best = _best_s(device, copy, 2)
    return 2 * size / min(best, _best_s(device, copy, _calls(best, seconds)))


def _bind(call: Callable[..., object], *args: object, **kwargs: object) -> Callable[[], object]:
    return lambda: call(*args, **kwargs)


def _best_s(device: Device, call: Callable[[], object], calls: int) -> float:
    return max(min(device.time_calls(call, calls).device_s), 1e-9)


def _calls(once_s: float, seconds: float) -> int:
    return max(2, min(200, int(seconds / once_s)))
