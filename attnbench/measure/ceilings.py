"""What a device reaches at best, here and now: a matrix product, a 1x1 convolution, a packed linear layer, a copy.

Measured, never taken from a data sheet; a layer's share of its roofline refers to these, and two machines of one name
are told apart by them. Which library serves a projection is part of the answer: on one CPU the three differ by 30 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from attnbench.machine.devices import Device

_LARGEST_SIDE = 16384
_LARGEST_COPY = 1 << 28  # bytes
_CHANNELS, _TOKENS = 768, 28 * 28  # of the convolution and of the linear layer


@dataclass(frozen=True)
class Rates:
    """The best rates of a device; None where a form does not exist there.

    Attributes:
        macs_per_s: multiply-accumulates per second of a large square matrix product.
        conv_macs_per_s: of a 1x1 convolution of a channels_last map.
        linear_macs_per_s: of a linear layer whose weights oneDNN has packed (CPU).
        bytes_per_s: bytes per second of a large copy, read and written bytes added.
        libraries: what executes `linear` and `convolution`: the innermost operators that PyTorch's profiler names.
    """

    macs_per_s: float
    bytes_per_s: float
    conv_macs_per_s: float | None = None
    linear_macs_per_s: float | None = None
    libraries: tuple[tuple[str, str], ...] = ()

    def best_of(self, other: Rates) -> Rates:
        """Each form's greater rate of the two."""
        return Rates(
            max(self.macs_per_s, other.macs_per_s),
            max(self.bytes_per_s, other.bytes_per_s),
            _greater(self.conv_macs_per_s, other.conv_macs_per_s),
            _greater(self.linear_macs_per_s, other.linear_macs_per_s),
            self.libraries,
        )


def _greater(a: float | None, b: float | None) -> float | None:
    return max((rate for rate in (a, b) if rate is not None), default=None)


def measure_ceilings(device: Device, dtype: torch.dtype, seconds: float = 0.4) -> Rates:
    """Time the four forms, with the precision and the threads that are set now.

    Args:
        device: the device; at most an eighth of its free memory is used for an operand.
        dtype: what `device.set_precision` returned.
        seconds: about how long to measure.
    """
    room, each = device.free_bytes() // 8, seconds / 4
    with torch.inference_mode():
        return Rates(
            macs_per_s=product_rate(device, dtype, each, room),
            bytes_per_s=_bytes_per_s(device, room, each),
            conv_macs_per_s=conv_rate(device, dtype, each),
            linear_macs_per_s=_packed_linear_rate(device, dtype, each),
            libraries=_libraries(device, dtype),
        )


def product_rate(device: Device, dtype: torch.dtype, seconds: float, room: int = 1 << 30) -> float:
    """Double the side [side, side] until one product takes a fifth of `seconds` or the memory limits it; MACs/s."""
    where, side = device.torch_device(), 512
    while True:
        a, b = (torch.randn(side, side, device=where).to(dtype) for _ in range(2))
        product = _bind(torch.mm, a, b, out=torch.empty_like(a))
        best = _best_s(device, product, 2)
        if best >= seconds / 5 or 2 * side > _LARGEST_SIDE or 16 * side**2 * a.element_size() > room:
            break
        side *= 2
    return side**3 / min(best, _best_s(device, product, _calls(best, seconds)))


def conv_rate(device: Device, dtype: torch.dtype, seconds: float) -> float:
    """Time a 1x1 convolution of a channels_last map; MACs/s."""
    layer = nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False).to(device.torch_device(), dtype)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    x = torch.randn(4, _CHANNELS, 28, 28, device=device.torch_device()).to(dtype, memory_format=torch.channels_last)
    return _rate(device, _bind(layer, x), 4 * _TOKENS * _CHANNELS**2, seconds)


def _packed_linear_rate(device: Device, dtype: torch.dtype, seconds: float) -> float | None:
    """OneDNN's own layout of the weights, as `torch.compile` with freezing uses it; None where there is none."""
    if device.torch_device().type != "cpu":
        return None
    x = torch.randn(4 * _TOKENS, _CHANNELS).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.randn(_CHANNELS, _CHANNELS).to(dtype), len(x))

        def call() -> Tensor:
            made: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            return made

        call()
    except (AttributeError, RuntimeError):
        return None
    return _rate(device, call, 4 * _TOKENS * _CHANNELS**2, seconds)


def _libraries(device: Device, dtype: torch.dtype) -> tuple[tuple[str, str], ...]:
    """The innermost operator that computed a linear layer and a 1x1 convolution of this size."""
    where = device.torch_device()
    layers: dict[str, tuple[nn.Module, Tensor]] = {
        "linear": (nn.Linear(_CHANNELS, _CHANNELS), torch.randn(_TOKENS, _CHANNELS)),
        "convolution": (
            nn.Conv2d(_CHANNELS, _CHANNELS, 1).to(memory_format=torch.channels_last),  # type: ignore[call-overload]  # torch's own stub lacks it
            torch.randn(1, _CHANNELS, 28, 28).to(memory_format=torch.channels_last),
        ),
    }
    found = []
    for name, (layer, x) in layers.items():
        moved, given = layer.to(where, dtype), x.to(where, dtype)
        moved(given)
        with torch.autograd.profiler.profile() as trace:
            moved(given)
        names = [e.name for e in trace.function_events if any(word in e.name for word in ("mm", "conv", "linear"))]
        found.append((name, names[-1] if names else "unknown"))
    return tuple(found)


def _rate(device: Device, call: Callable[[], object], macs: int, seconds: float) -> float:
    best = _best_s(device, call, 3)
    return macs / min(best, _best_s(device, call, _calls(best, seconds)))


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
