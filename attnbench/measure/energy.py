"""The energy of a call: a counter read around about a second of repeated calls, and around as long an idle time.

GPUs: NVML's counter of total energy, of the whole board. CPUs: Intel's and AMD's counters (RAPL) under
/sys/class/powercap: whole processor packages and, where it has a counter of its own, their memory; they wrap around.
Neither separates our calls from what others do on the same hardware, so the idle time just before is the baseline:
energy_j_per_image = (power while called - idle power) x time / images; the gross energy is stored beside it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from attnbench.machine import linux, nvml
from attnbench.machine.devices import Device
from attnbench.measure.arm import Arm

SECONDS = 1.0
_POWERCAP = "/sys/class/powercap"


class Counter(Protocol):
    """An energy counter that never runs backwards."""

    source: str

    def read_j(self) -> float:
        """Joules since some moment that stays the same."""


@dataclass
class Domain:
    """One RAPL domain: the folder with `energy_uj`, its range, and what was read so far."""

    folder: str
    range_uj: int
    last_uj: int
    total_uj: int = 0


class Rapl:
    """The sum of the packages' and memories' counters; each wraps around at its range."""

    def __init__(self, domains: list[Domain], source: str, root: Path) -> None:
        self.source = source
        self._domains, self._root = domains, root

    def read_j(self) -> float:
        """Joules since the counter was opened; to be read more often than a domain wraps (minutes)."""
        for domain in self._domains:
            now = linux.whole(f"{domain.folder}/energy_uj", self._root)
            if now is not None:
                wrapped = domain.range_uj if now < domain.last_uj else 0
                domain.total_uj += now - domain.last_uj + wrapped
                domain.last_uj = now
        return sum(d.total_uj for d in self._domains) / 1e6


class NvmlCounter:
    """NVML's total energy of one GPU."""

    source = "NVML, total energy of the GPU"

    def __init__(self, gpu: nvml.Gpu) -> None:
        self._gpu = gpu

    def read_j(self) -> float:
        """Joules since the driver was loaded.

        Raises:
            RuntimeError: the counter gave a value before and gives none now.
        """
        used = self._gpu.energy_j()
        if used is None:
            raise RuntimeError("NVML's energy counter cannot be read any more")
        return used


def open_rapl(root: Path = linux.ROOT) -> Counter | str:
    """The processor's counters, or why none is readable. `root` is the prefix of /sys."""
    base = root / _POWERCAP.lstrip("/")
    folders = sorted(p.name for p in base.glob("intel-rapl:*")) if base.is_dir() else []
    if not folders:
        return f"{_POWERCAP} has no intel-rapl domain"
    domains, names, refused = [], [], []
    for name in folders:
        title = linux.text(f"{_POWERCAP}/{name}/name", root)
        package = bool(re.fullmatch(r"intel-rapl:\d+", name)) and title != "psys"  # psys holds the packages
        if not package and title != "dram":
            continue
        at = f"{_POWERCAP}/{name}"
        now, limit = linux.whole(f"{at}/energy_uj", root), linux.whole(f"{at}/max_energy_range_uj", root)
        if now is None or limit is None:
            refused.append(f"{at}/energy_uj")
        else:
            domains.append(Domain(at, limit, now))
            names.append(title or name)
    if refused or not domains:
        what = ", ".join(refused) or "a package's counter"
        return f"{what} cannot be read; reading it may need root's rights"
    return Rapl(domains, f"RAPL: {', '.join(names)}", root)


def open_nvml(uuid: str) -> Counter | str:
    """The GPU's counter, or why it is not readable."""
    gpu = nvml.open_gpu(uuid)
    if gpu is None:
        return nvml.why_not() or f"NVML does not list the GPU {uuid or 'without a UUID'}"
    return NvmlCounter(gpu) if gpu.energy_j() is not None else "this GPU has no counter of total energy in NVML"


def open_counter(device: Device) -> Counter | str:
    """The counter of the device, or why none is readable."""
    if device.name == "cpu":
        return open_rapl()
    uuid = getattr(device, "uuid", None)  # of the kinds that NVML can list
    return open_nvml(uuid()) if uuid else f"no counter is known for {device.name}"


def measure(device: Device, arm: Arm) -> tuple[dict[str, float | int], dict[str, str]]:
    """Joules per image and watts, and the counter that they come from; or no values, and why."""
    counter = open_counter(device)
    if isinstance(counter, str):
        return {}, {"energy_notes": f"no energy counter is readable: {counter}"}
    for _ in range(2):
        arm()
    device.synchronize()
    values = per_image(counter, arm, device.synchronize, arm.cell.batch)
    words = {"energy_source": counter.source}
    if values["energy_j_per_image"] <= 0:
        words |= {"energy_notes": "the power while called was not above idle: too little work, or others' work"}
    return values, words


def per_image(
    counter: Counter,
    call: Callable[[], object],
    synchronize: Callable[[], object],
    images: int,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, float | int]:
    """Read the counter around an idle time and around calls, each of about `seconds`.

    Args:
        counter: of the device.
        call: one call on `images` images.
        synchronize: waits until the device has finished.
        images: per call.
        seconds: of the idle time, and the least time of the calls.
        clock: gives seconds.
        sleep: waits so many seconds.
    """
    start, before = clock(), counter.read_j()
    sleep(seconds)
    idle_w = (counter.read_j() - before) / (clock() - start)
    start, before, calls = clock(), counter.read_j(), 0
    while clock() - start < seconds:
        call()
        synchronize()
        calls += 1
    used, lasted = counter.read_j() - before, clock() - start
    return {
        "energy_j_per_image": (used - idle_w * lasted) / (calls * images),
        "energy_gross_j_per_image": used / (calls * images),
        "active_power_w": used / lasted,
        "idle_power_w": idle_w,
    }
