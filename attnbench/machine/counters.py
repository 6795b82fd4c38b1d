"""What went on while a turn was timed: CPU time, switches, faults, steal, throttling, pressure, clock. No torch.

Every counter is left out where the system does not provide it. `root` stands before the paths of /proc and /sys, for
tests. A reading costs about 0.2 ms on a small machine, outside the timed calls.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnbench.machine import linux
from attnbench.machine.linux import ROOT


@dataclass(frozen=True)
class Counters:
    """Counters at one instant; None where the system does not provide one.

    Attributes:
        busy_s: CPU seconds that our CPUs worked for anyone on this system. `steal_s`: for another virtual machine.
        throttled: periods in which a CPU quota stopped us. `throttled_s`: for how long.
        pressure_s: seconds in which some task of the system waited for a CPU.
        clock_mhz: the mean clock of our CPUs, at this instant.
    """

    wall_s: float
    own_cpu_s: float
    cpus: tuple[int, ...]
    busy_s: float | None = None
    steal_s: float | None = None
    involuntary: int | None = None
    major_faults: int | None = None
    throttled: int | None = None
    throttled_s: float | None = None
    swap_ins: int | None = None
    pressure_s: float | None = None
    clock_mhz: float | None = None

    @classmethod
    def read(cls, root: Path = ROOT) -> Counters:
        """Read all counters now."""
        cpus = linux.affinity()
        involuntary = faults = None
        if sys.platform != "win32":
            import resource

            usage = resource.getrusage(resource.RUSAGE_SELF)
            involuntary, faults = usage.ru_nivcsw, usage.ru_majflt
        busy, steal = busy_and_steal_s(cpus, root)
        periods, seconds = throttling(root)
        return cls(
            wall_s=time.perf_counter(), own_cpu_s=time.process_time(), cpus=cpus, busy_s=busy, steal_s=steal,
            involuntary=involuntary, major_faults=faults, throttled=periods, throttled_s=seconds,
            swap_ins=linux.fields("/proc/vmstat", root).get("pswpin"), pressure_s=cpu_pressure_s(root),
            clock_mhz=clock_mhz(cpus, root),
        )  # fmt: skip

    def until(self, end: Counters) -> dict[str, float | str]:
        """The conditions between this instant and `end`, by name; a counter that one end lacks is left out."""
        own = end.own_cpu_s - self.own_cpu_s
        conditions: dict[str, float | str] = {
            "wall_s": end.wall_s - self.wall_s,
            "own_cpu_s": own,
            "cpus": float(len(end.cpus)),
        }
        if self.busy_s is not None and end.busy_s is not None:
            conditions["other_cpu_s"] = max(0.0, end.busy_s - self.busy_s - own)
        pairs: dict[str, tuple[float | None, float | None]] = {
            "steal_s": (self.steal_s, end.steal_s),
            "involuntary_switches": (self.involuntary, end.involuntary),
            "major_faults": (self.major_faults, end.major_faults),
            "throttled_periods": (self.throttled, end.throttled),
            "throttled_s": (self.throttled_s, end.throttled_s),
            "swap_ins": (self.swap_ins, end.swap_ins),
            "cpu_pressure_s": (self.pressure_s, end.pressure_s),
        }
        conditions |= {name: float(b - a) for name, (a, b) in pairs.items() if a is not None and b is not None}
        if end.clock_mhz is not None:
            conditions["cpu_clock_mhz"] = end.clock_mhz
        return conditions


class HostReading:
    """The change of the host's counters over one turn, which begins when this is made."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._start = Counters.read(root)

    def finish(self) -> Mapping[str, float | str]:
        """End the turn; return its conditions by name."""
        return self._start.until(Counters.read(self._root))


def busy_and_steal_s(cpus: tuple[int, ...], root: Path = ROOT) -> tuple[float | None, float | None]:
    """Seconds since boot that these CPUs worked for this system's processes, and that others stole from it."""
    busy = stolen = 0
    present = False
    for number, line in re.findall(r"^cpu(\d+)\s+(.+)$", linux.text("/proc/stat", root), re.MULTILINE):
        if int(number) in cpus:
            user, nice, system, _idle, _wait, irq, softirq, steal = (*map(int, line.split()[:8]), *[0] * 8)[:8]
            busy, stolen, present = busy + user + nice + system + irq + softirq, stolen + steal, True
    return (busy / linux.TICKS, stolen / linux.TICKS) if present else (None, None)


def throttling(root: Path = ROOT) -> tuple[int | None, float | None]:
    """Periods and seconds so far in which the CPU quota of a control group stopped its processes, over all groups."""
    periods: list[int] = []
    seconds: list[float] = []
    for path in linux.cgroup_files("cpu", "cpu.stat", "cpu.stat", root):
        stat = linux.fields(path, root)
        if "nr_throttled" in stat:
            periods.append(stat["nr_throttled"])
        if "throttled_usec" in stat:
            seconds.append(stat["throttled_usec"] / 1e6)
        elif "throttled_time" in stat:  # control groups of version 1 count nanoseconds
            seconds.append(stat["throttled_time"] / 1e9)
    return (sum(periods) if periods else None), (sum(seconds) if seconds else None)


def cpu_pressure_s(root: Path = ROOT) -> float | None:
    """Seconds since boot in which some task waited for a CPU (pressure stall information)."""
    total = re.search(r"^some .*total=(\d+)", linux.text("/proc/pressure/cpu", root), re.MULTILINE)
    return int(total[1]) / 1e6 if total else None


def clock_mhz(cpus: tuple[int, ...], root: Path = ROOT) -> float | None:
    """The mean clock of these CPUs now, as the frequency driver gives it; None on most virtual machines."""
    clocks = [linux.whole(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", root) for cpu in cpus[:8]]
    known = [clock for clock in clocks if clock]
    return sum(known) / len(known) / 1e3 if known else None


def load_1min() -> float | None:
    """The load of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
