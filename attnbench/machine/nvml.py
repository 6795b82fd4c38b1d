"""NVIDIA's management library (NVML): clocks, temperature, throttle reasons, other processes.

Optional: without `nvidia-ml-py` (module `pynvml`) or a driver, `why_not()` gives the reason. A value that the
driver does not provide is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

# The bits of NVML's clocks-event reasons. The first two do not slow the work down.
GOOD = {0x1: "idle", 0x2: "application_clocks"}
BAD = {
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "thermal_software",
    0x40: "thermal_hardware",
    0x80: "power_brake",
    0x100: "display_clocks",
}


def reasons(bits: int) -> tuple[str, ...]:
    """Names of the reasons that throttle the clock, from their bits; an unknown bit is named `unknown_0x...`."""
    known = {**GOOD, **BAD}
    set_bits = [1 << i for i in range(64) if bits >> i & 1]
    return tuple(known.get(bit, f"unknown_{bit:#x}") for bit in set_bits if bit not in GOOD)


@cache
def library() -> ModuleType | None:
    """The initialised `pynvml` module; None without the package or the driver. The first answer is kept."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the package or the driver's library is absent
        return None
    module: ModuleType = pynvml
    return module


def why_not() -> str:
    """The reason why `library()` returns None; empty if it does not."""
    if library() is not None:
        return ""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except Exception as error:
        return f"NVML does not start: {error}"
    return "NVML failed at the first attempt and started at the second"


class Gpu:
    """One GPU in NVML, found by its UUID because the order of NVML differs from CUDA's.

    A slice of a GPU (MIG) has processes of its own; clocks, temperature, power and throttling are its board's.
    """

    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = _handle(nvml, uuid)
        self._board = _board(nvml, self._handle)

    def facts(self) -> dict[str, str | float]:
        """Constant properties: driver, power caps in watts, maximum clocks in MHz, modes."""
        n, h = self._nvml, self._board
        return _answers(
            {
                "driver": lambda: _word(n.nvmlSystemGetDriverVersion()),
                "power_cap_w": lambda: n.nvmlDeviceGetEnforcedPowerLimit(h) / 1000,
                "power_cap_default_w": lambda: n.nvmlDeviceGetPowerManagementDefaultLimit(h) / 1000,
                "sm_clock_max_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
                "memory_clock_max_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_MEM),
                "persistence": lambda: str(n.nvmlDeviceGetPersistenceMode(h)),
                "ecc": lambda: str(n.nvmlDeviceGetEccMode(h)[0]),
                "mig": lambda: str(n.nvmlDeviceGetMigMode(h)[0]),
            }
        )

    def state(self, own: frozenset[int]) -> dict[str, str | float]:
        """Properties that change: clock, temperature, power, throttle bits, and the number of other compute processes.

        Args:
            own: process ids that do not count as others.
        """
        n, h = self._nvml, self._board
        return _answers(
            {
                "sm_clock_mhz": lambda: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
                "temperature_c": lambda: n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
                "power_w": lambda: n.nvmlDeviceGetPowerUsage(h) / 1000,
                "throttle_bits": lambda: _throttle_bits(n, h),
                "other_gpu_processes": lambda: _others(n.nvmlDeviceGetComputeRunningProcesses(self._handle), own),
            }
        )

    def energy_j(self) -> float | None:
        """Joules that the GPU has used since its driver was loaded; None where it has no such counter."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._board)) / 1000
        except Exception:  # NVML's own error class: this GPU, or its binding, has no such counter
            return None


def open_gpu(uuid: str) -> Gpu | None:
    """The GPU with this UUID; None without NVML, or where NVML does not list it."""
    nvml = library()
    if nvml is None:
        return None
    try:
        return Gpu(nvml, uuid)
    except Exception:  # NVML's own error class: the GPU is not visible to it (a container, a MIG slice)
        return None


def _handle(nvml: Any, uuid: str) -> Any:
    """The handle of a GPU or of a slice of one; torch gives both UUIDs without their prefix.

    Raises:
        Exception: NVML's own error class: neither is visible.
    """
    names = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    for name in names[:-1]:
        try:
            return _by_uuid(nvml, name)
        except Exception:  # NVML's own error class: no whole GPU has this UUID
            continue
    return _by_uuid(nvml, names[-1])


def _by_uuid(nvml: Any, name: str) -> Any:
    try:
        return nvml.nvmlDeviceGetHandleByUUID(name)
    except TypeError:  # older bindings take bytes alone
        return nvml.nvmlDeviceGetHandleByUUID(name.encode())


def _board(nvml: Any, handle: Any) -> Any:
    """The handle of the whole GPU that a slice belongs to; the handle itself where it is no slice."""
    try:
        if nvml.nvmlDeviceIsMigDeviceHandle(handle):
            return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    except Exception:  # NVML's own error class, or a binding without these functions: no slices here
        return handle
    return handle


def _throttle_bits(nvml: Any, handle: Any) -> int:
    """The reasons by their newer name; by the older one where the bindings or the driver lack the newer."""
    newer = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    if newer is not None:
        try:
            return int(newer(handle))
        except Exception:  # NVML's own error class: the driver is older than the bindings
            pass
    return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _others(processes: list[Any], own: frozenset[int]) -> int:
    """The number of other compute processes. In a container, this process may appear with its id of the host."""
    pids = {p.pid for p in processes}
    return len(pids - own) if pids & own else max(0, len(pids) - 1)


def _answers(queries: Mapping[str, Callable[[], Any]]) -> dict[str, str | float]:
    answers: dict[str, str | float] = {}
    for name, ask in queries.items():
        try:
            value = ask()
        except Exception:  # NVML's own error class: this GPU does not support it, or this user may not read it
            continue
        answers[name] = value if isinstance(value, str) else float(value)
    return answers


def _word(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
