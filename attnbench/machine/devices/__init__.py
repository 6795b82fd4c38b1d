"""Devices: what a measurement asks of the hardware, behind one interface.

A kind of device is one module of this package whose name has no leading underscore: `names()` lists what is
present, `open_device(index)` opens one. Importing this package imports no torch and touches no device.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Turn:
    """The clock readings of one turn.

    Attributes:
        device_s: seconds of each call on the device.
        host_s: host wall seconds per call, until the device was done.
        queue_s: host seconds per call until all were queued; near `host_s` where the device waits for the host.
    """

    device_s: tuple[float, ...]
    host_s: float
    queue_s: float


class Reading(Protocol):
    """Counters that were read when a round began."""

    def finish(self) -> Mapping[str, float | str]:
        """The conditions of the round that ends now; what the machine does not tell is left out."""


class Device(Protocol):
    """A device that layers are measured on. `name` is its spelling in a cell: `cpu`, `cuda:0`."""

    name: str

    def title(self) -> str:
        """What people call it."""

    def torch_device(self) -> torch.device:
        """For tensors."""

    def set_precision(self, precision: str) -> torch.dtype:
        """Switch TF32 for products and convolutions alike; the dtype to compute in.

        Raises:
            ValueError: the device has no such precision.
        """

    def set_threads(self, threads: int) -> None:
        """CPU threads, of the host too where the device is another."""

    def synchronize(self) -> None:
        """Wait for all work that was queued."""

    def time_calls(self, call: Callable[[], object], calls: int, *, cold: bool = False) -> Turn:
        """Time `calls` calls one after the other; `cold` flushes the caches before each, outside the time."""

    def measure_memory(self, call: Callable[[], object], forget: Callable[[], object] | None = None) -> dict[str, int]:
        """Peak of one call above what is held before it, after a call that is not measured.

        `forget` lets go of what a call leaves behind (its output, gradients); it runs before each measured call.
        """

    def memory_notes(self) -> tuple[str, ...]:
        """What a reader of `measure_memory`'s last figures must know."""

    def free_bytes(self) -> int:
        """What a call may still take."""

    def start_reading(self) -> Reading:
        """Read the counters that tell what disturbs a round."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """The error says that memory ran out."""

    def is_sticky(self, error: BaseException) -> bool:
        """The error leaves this process unable to use the device."""


def kinds() -> list[str]:
    """The kinds of device that attnbench knows, present or not."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def present() -> list[str]:
    """Names of the devices that this machine has."""
    return [name for kind in kinds() for name in _module(kind).names()]


def open_device(name: str) -> Device:
    """Open `cpu`, `cuda` (the current one) or `cuda:INDEX`.

    Raises:
        AttnbenchError: an unknown kind, or a device that is not there.
    """
    kind, colon, index = name.partition(":")
    if kind not in kinds() or (colon and not index.isdecimal()):
        raise AttnbenchError(
            f"device must be {' or '.join(kinds())}, with :INDEX where there are several; got {name!r}"
        )
    device: Device = _module(kind).open_device(int(index) if colon else None)
    return device


class _Kind(Protocol):
    def names(self) -> list[str]: ...

    def open_device(self, index: int | None) -> Device: ...


def _module(kind: str) -> _Kind:
    return importlib.import_module(f"{__name__}.{kind}")
