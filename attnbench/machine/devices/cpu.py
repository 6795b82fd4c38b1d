"""The CPU: the host clock, resident memory, and the trace of torch's allocator."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from attnbench.errors import AttnbenchError
from attnbench.machine import counters, linux
from attnbench.machine.devices import CaptureError, Device, Reading, Turn
from attnbench.machine.devices import _torch as shared
from attnbench.machine.devices._glibc import release_immediately

_STATUS = "/proc/self/status"
_SPARE_BYTES = 256 << 20  # of the free memory, left to the rest of the system
_CLEAR = Path("/proc/self/clear_refs")
_NO_RESIDENT = (
    "the peak of resident memory cannot be measured on this system or with this malloc; the allocator's peak is used"
)


def names() -> list[str]:
    """The one CPU device, always present."""
    return ["cpu"]


def open_device(index: int | None) -> Device:
    """Open the CPU.

    Raises:
        AttnbenchError: `index` is neither None nor 0.
    """
    if index not in (None, 0):
        raise AttnbenchError(f"the only CPU device is cpu; got cpu:{index}; select cores with taskset or numactl")
    return Cpu()


class Cpu:
    """All CPUs that this process may use, as one device."""

    name = "cpu"

    def __init__(self) -> None:
        self._notes: tuple[str, ...] = ()
        self._flush: torch.Tensor | None = None

    def title(self) -> str:
        """The model name of the processor, and the number of CPUs that this process may use."""
        cores = len(linux.affinity())
        return f"{linux.cpu_model()} ({cores} {'core' if cores == 1 else 'cores'})"

    def torch_device(self) -> torch.device:
        """The device to create tensors on."""
        return torch.device("cpu")

    def refuses(self, precision: str) -> str:
        """A sentence for tf32."""
        return "tf32 is a mode of CUDA matrix units; got precision=tf32, device=cpu" if precision == "tf32" else ""

    def set_precision(self, precision: str) -> torch.dtype:
        """Compute fp32 in full precision; bf16 and fp16 select the dtype only. tf32 raises a ValueError."""
        if why := self.refuses(precision):
            raise ValueError(why)
        dtype = shared.dtype_of(precision)
        shared.switch_tf32(False)
        shared.require_fp32_on_cpu()
        return dtype

    def set_threads(self, threads: int) -> None:
        """Set the threads of one operator; those between operators stay."""
        torch.set_num_threads(threads)

    def synchronize(self) -> None:
        """Do nothing: a call on the CPU has finished when it returns."""

    def time_calls(self, call: Callable[[], object], calls: int, *, cold: bool = False) -> Turn:
        """Read the host clock before and after each call; `queue_s` equals `host_s`."""
        clock = time.perf_counter
        device_s = []
        for _ in range(calls):
            if cold:
                self._flush_caches()
            start = clock()
            call()
            device_s.append(clock() - start)
        host_s = sum(device_s) / calls
        return Turn(tuple(device_s), host_s, queue_s=host_s)

    def capture(self, call: Callable[[], object]) -> Callable[[], object]:
        """Raise a CaptureError: only a GPU queues work that could be recorded."""
        raise CaptureError("CUDA graphs need a CUDA device; got graphs=yes, device=cpu; use --graphs no")

    def measure_memory(self, call: Callable[[], object], forget: Callable[[], object] | None = None) -> dict[str, int]:
        """Measure the growth of the resident peak over one call, and the allocator's peak over another, in bytes."""
        shared.warm_up(call, forget)
        resident = resident_growth(call)
        if forget is not None:
            forget()
        traced = allocator_peak(call)
        self._notes = (_NO_RESIDENT,) if resident is None else ()
        return {"peak_growth_bytes": traced if resident is None else resident, "allocator_peak_bytes": traced}

    def memory_notes(self) -> tuple[str, ...]:
        """A note if the resident peak could not be measured."""
        return self._notes

    def release_memory(self) -> None:
        """Collect Python's cycles; malloc keeps no tensors."""
        gc.collect()

    def free_bytes(self) -> int:
        """Bytes that the system has available, within the limits of the control groups."""
        free = linux.memory_free()
        if free is None:
            import psutil

            free = int(psutil.virtual_memory().available)
        return free

    def limit_memory(self, limit: int) -> None:
        """On Linux, let allocations end at the limit, or at the free memory, and not in the kernel's hands."""
        if sys.platform != "linux":
            return
        wanted = limit or max(self.free_bytes() - _SPARE_BYTES, _SPARE_BYTES)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        total = mapped + wanted if hard == resource.RLIM_INFINITY else min(mapped + wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (total, hard))

    def start_reading(self) -> Reading:
        """Begin a round with the counters of the host."""
        return counters.HostReading()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether torch's allocator or Python could not allocate."""
        return shared.out_of_memory(error)

    def is_sticky(self, error: BaseException) -> bool:
        """False: an error on the CPU does not affect later calls."""
        return False

    def _flush_caches(self) -> None:
        if self._flush is None:
            size = 2 * (linux.last_level_cache_bytes() or 32 << 20)
            self._flush = torch.empty(max(1, min(size, self.free_bytes() // 8)), dtype=torch.uint8)
        self._flush.fill_(1)


def resident_growth(call: Callable[[], object]) -> int | None:
    """Bytes by which the resident peak grows over one call; None where the system cannot measure it."""
    with release_immediately() as exact:
        if not exact or not _reset_peak():
            return None
        before = linux.fields(_STATUS)
        if "VmRSS" not in before or "VmHWM" not in before:
            return None
        result = call()
        after = linux.fields(_STATUS)
        del result
    return max(0, after["VmHWM"] - before["VmRSS"])


def loaded_and_growth(load: Callable[[], object], call: Callable[[], object]) -> tuple[int, int] | None:
    """Resident bytes that `load` leaves, and those by which the peak then grows over one call.

    None where the system cannot measure it; both are called in any case.
    """
    with release_immediately() as exact:
        before = linux.fields(_STATUS).get("VmRSS") if exact else None
        load()
        loaded = linux.fields(_STATUS).get("VmRSS")
        known = before is not None and loaded is not None and _reset_peak()
        result = call()
        peak = linux.fields(_STATUS).get("VmHWM")
        del result
    if not known or before is None or loaded is None or peak is None:
        return None
    return max(0, loaded - before), max(0, peak - loaded)


def allocator_peak(call: Callable[[], object]) -> int:
    """The peak, over one call, of the bytes that torch's CPU allocator has handed out and not yet freed."""
    with torch.autograd.profiler.profile(profile_memory=True) as trace:
        result = call()
    del result
    events = [e for e in trace.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.device_type().name == "CPU":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _reset_peak() -> bool:
    """Reset the peak of resident memory to the present value; False if Linux does not allow it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True
