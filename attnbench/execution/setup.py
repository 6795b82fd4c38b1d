"""What every job of a worker begins and ends with: a device within its memory limit, and what an error amounts to."""

from __future__ import annotations

from attnbench.errors import AttnbenchError
from attnbench.machine.devices import Device, open_device
from attnbench.measure.arm import ContractError
from attnbench.planning.cell import Cell
from attnbench.results.events import Failure
from attnbench.runtimes import UnsupportedError


def open_limited(cell: Cell, memory_limit: int) -> Device:
    """The cell's device with its threads, and no more of its memory than `memory_limit` bytes; 0: what is free."""
    device = open_device(cell.device)
    device.limit_memory(memory_limit)
    device.set_threads(cell.threads)
    return device


def failure_of(error: BaseException, device: Device) -> Failure:
    """The outcome and the reason that an error amounts to."""
    if isinstance(error, SystemExit):
        return Failure(outcome="crashed", reason=f"it called sys.exit({error.code!r})")
    if device.is_out_of_memory(error):
        return Failure(outcome="oom", reason=_first_line(error))
    if isinstance(error, UnsupportedError):
        return Failure(outcome="declined", reason=str(error))
    if device.is_sticky(error):
        return Failure(outcome="crashed", reason=_first_line(error))
    if isinstance(error, ContractError | AttnbenchError):
        return Failure(outcome="failed", reason=str(error))
    return Failure(outcome="failed", reason=f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]
