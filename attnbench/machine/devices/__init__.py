"""Devices behind one interface: clock, memory, precision, counters, errors.

Each kind of device is one module of this package without a leading underscore in its name: its `names()` lists the
devices that are present, its `open_device(index)` opens one. It may also have `facts(name)` and `disturbances(names)`.
docs/devices.md shows how a kind is added. Importing this package imports no torch and opens no device.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from attnbench.errors import AttnbenchError
from attnbench.inputs import brief

if TYPE_CHECKING:
    import torch


class CaptureError(AttnbenchError):
    """A call cannot be captured as a graph; the text is the reason."""


@dataclass(frozen=True)
class Turn:
    """The times of one turn, all in seconds.

    Attributes:
        device_s: time of each call on the device.
        host_s: wall time of the host per call, until the device has finished.
        queue_s: wall time of the host per call, until all calls are queued; near `host_s` if the calls are
            launch-bound.
    """

    device_s: tuple[float, ...]
    host_s: float
    queue_s: float


class Reading(Protocol):
    """Counters that were read at the begin of a round."""

    def finish(self) -> Mapping[str, float | str]:
        """End the round; return its conditions by name. A counter that the machine lacks is left out."""


class Device(Protocol):
    """A device that layers are measured on. `name` is its spelling in a cell: `cpu`, `cuda:0`."""

    name: str

    def title(self) -> str:
        """The model name, for people."""

    def torch_device(self) -> torch.device:
        """The device to create tensors on."""

    def refuses(self, precision: str) -> str:
        """Why the device does not support the precision, in words; empty if it does. Nothing is switched."""

    def set_precision(self, precision: str) -> torch.dtype:
        """Switch TF32 on or off for matrix products and convolutions; return the dtype to compute in.

        Raises:
            ValueError: the device does not support the precision.
        """

    def set_threads(self, threads: int) -> None:
        """Set the CPU threads of one operator; on a GPU, those of the host."""

    def synchronize(self) -> None:
        """Wait until all queued work has finished."""

    def time_calls(self, call: Callable[[], object], calls: int, *, cold: bool = False) -> Turn:
        """Time `calls` calls, one after the other; `cold` flushes the caches before each call, untimed."""

    def capture(self, call: Callable[[], object]) -> Callable[[], object]:
        """Record what a call queues as a graph; what is returned queues all of it at once, with the same tensors.

        Raises:
            CaptureError: the device has no graphs, or this call cannot be recorded.
        """

    def measure_memory(self, call: Callable[[], object], forget: Callable[[], object] | None = None) -> dict[str, int]:
        """Measure the peak of one call above the memory in use before it, in bytes by quantity.

        An unmeasured call comes first. `forget` frees what a call leaves behind (gradients, say); it runs before
        each measured call.
        """

    def memory_notes(self) -> tuple[str, ...]:
        """Remarks on the last result of `measure_memory`, for the record."""

    def release_memory(self) -> None:
        """Give back what nothing holds any more but an allocator's cache or Python's cycles keep."""

    def free_bytes(self) -> int:
        """Bytes that a call can still allocate."""

    def limit_memory(self, limit: int) -> None:
        """Let this process allocate `limit` bytes on the device and no more; 0: what the device can give.

        An allocation beyond the limit raises an error that `is_out_of_memory` recognises.
        """

    def start_reading(self) -> Reading:
        """Begin a round: read the counters of load, throttling and clocks."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error, or one of its causes, says that memory ran out."""

    def is_sticky(self, error: BaseException) -> bool:
        """Whether this process cannot use the device any more after the error."""


def kinds() -> list[str]:
    """The supported kinds of device, whether present or not, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def present() -> list[str]:
    """Names of the devices of this machine: `cpu`, `cuda:0`, ..."""
    return [name for kind in kinds() for name in _module(kind).names()]


def open_device(name: str) -> Device:
    """Open `cpu`, `cuda` (the current one) or `cuda:INDEX`.

    Raises:
        AttnbenchError: the kind is unknown, or the device is absent.
    """
    kind, colon, index = name.partition(":")
    if kind not in kinds() or (colon and not (index.isascii() and index.isdecimal() and len(index) <= 3)):
        raise AttnbenchError(
            f"device must be {' or '.join(kinds())}, with :INDEX where there are several; got {brief(name)}"
        )
    device: Device = _module(kind).open_device(int(index) if colon else None)
    return device


def facts_of(name: str) -> Mapping[str, Any]:
    """Constant properties of a device, for the description of a run; empty where its kind gives none."""
    ask = getattr(_module(name.partition(":")[0]), "facts", None)
    return ask(name) if ask else {}


def disturbances_of(names: Sequence[str]) -> list[str]:
    """What disturbs these devices now, a sentence each with its remedy; from the kinds that can say."""
    by_kind: dict[str, list[str]] = {}
    for name in names:
        by_kind.setdefault(name.partition(":")[0], []).append(name)
    asked = ((getattr(_module(kind), "disturbances", None), group) for kind, group in by_kind.items())
    return [line for ask, group in asked if ask for line in ask(group)]


class _Kind(Protocol):
    def names(self) -> list[str]: ...

    def open_device(self, index: int | None) -> Device: ...


def _module(kind: str) -> _Kind:
    return importlib.import_module(f"{__name__}.{kind}")
