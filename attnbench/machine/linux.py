"""What Linux tells of the machine: CPU, memory, control groups, counters. Numbers read from files, no torch.

Every function answers None (or nothing) where a system does not tell. `root` stands before the paths of
/proc and /sys, for tests.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_NO_LIMIT = 1 << 60  # cgroup v1 writes 2**63 rounded down to pages for "no limit"


def text(path: str, root: Path = ROOT) -> str:
    """A small file's text, stripped; empty when it cannot be read."""
    try:
        return (root / path.lstrip("/")).read_text(errors="replace").strip()
    except OSError:
        return ""


def fields(path: str, root: Path = ROOT) -> dict[str, int]:
    """Lines such as `VmHWM:  1234 kB` or `nr_throttled 3` as numbers; kB become bytes."""
    found = re.findall(r"^(\S+?):?\s+(\d+)(?:\s+(kB))?\s*$", text(path, root), re.MULTILINE)
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in found}


def whole(path: str, root: Path = ROOT) -> int | None:
    """A file that holds one whole number."""
    found = text(path, root)
    return int(found) if re.fullmatch(r"-?\d+", found) else None


def affinity() -> tuple[int, ...]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def physical_cores(cpus: tuple[int, ...], root: Path = ROOT) -> int | None:
    """How many cores these CPUs are, hardware threads of one core taken together."""
    cores = set()
    for cpu in cpus:
        siblings = text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", root)
        if not siblings:
            return None
        cores.add(siblings)
    return len(cores)


def governor(root: Path = ROOT) -> str:
    """How CPU 0's frequency is chosen; empty where the system does not tell (a virtual machine, mostly)."""
    return text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", root)


def in_container(root: Path = ROOT) -> bool:
    """Signs of a container: its marker files, or its control group's name."""
    marked = any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))
    return marked or bool(re.search(r"docker|kubepods|containerd|lxc|libpod", text("/proc/self/cgroup", root)))


def cpu_model(root: Path = ROOT) -> str:
    """The processor's name."""
    info = text("/proc/cpuinfo", root)
    for word in ("model name", "Model", "Hardware", "cpu model"):
        found = re.search(rf"^{word}\s*:\s*(.+)$", info, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    import platform

    return platform.processor() or platform.machine()


def last_level_cache_bytes(root: Path = ROOT) -> int | None:
    """The size of the largest cache that CPU 0 has."""
    sizes = []
    for index in range(8):
        found = re.fullmatch(r"(\d+)([KMG]?)", text(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size", root))
        if found:
            sizes.append(int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]])
    return max(sizes, default=None)


def cgroup_files(controller: str, name_v1: str, name_v2: str, root: Path = ROOT) -> Iterator[str]:
    """Paths of a control file for this process's group and all groups above it, nearest first."""
    for line in text("/proc/self/cgroup", root).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            bases, name = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], name_v2
        elif controller in controllers.split(","):
            bases, name = [f"/sys/fs/cgroup/{controllers}", f"/sys/fs/cgroup/{controller}"], name_v1
        else:
            continue
        parts = [part for part in group.split("/") if part]
        for base in dict.fromkeys(bases):
            for depth in range(len(parts), -1, -1):
                path = "/".join([base, *parts[:depth], name])
                if (root / path.lstrip("/")).is_file():
                    yield path


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the control groups allow, the tightest of them."""
    found = []
    for path in cgroup_files("cpu", "cpu.cfs_quota_us", "cpu.max", root):
        if path.endswith("cpu.max"):
            quota, _, period = text(path, root).partition(" ")
        else:
            quota, period = text(path, root), text(path.replace("quota", "period"), root)
        if re.fullmatch(r"\d+", quota) and re.fullmatch(r"[1-9]\d*", period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the control groups allow, the tightest of them."""
    return min((limit for limit, _ in _memory_groups(root)), default=None)


def memory_free(root: Path = ROOT) -> int | None:
    """Bytes that may still be taken: what the system has available, within the control groups' limits."""
    available = fields("/proc/meminfo", root).get("MemAvailable")
    found = [] if available is None else [available]
    found += [max(0, limit - used) for limit, used in _memory_groups(root)]
    return min(found, default=None)


def _memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes used that cannot be reclaimed) of each group with a limit."""
    for path in cgroup_files("memory", "memory.limit_in_bytes", "memory.max", root):
        limit = whole(path, root)
        if limit is None or limit >= _NO_LIMIT:
            continue
        folder = path.rpartition("/")[0]
        used = whole(f"{folder}/memory.current", root) or whole(f"{folder}/memory.usage_in_bytes", root) or 0
        stat = fields(f"{folder}/memory.stat", root)
        yield limit, max(0, used - stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def throttled(root: Path = ROOT) -> int | None:
    """Periods in which a control group's CPU quota stopped its processes, so far."""
    counts = [
        count
        for path in cgroup_files("cpu", "cpu.stat", "cpu.stat", root)
        if (count := fields(path, root).get("nr_throttled")) is not None
    ]
    return sum(counts) if counts else None


def busy_s(cpus: tuple[int, ...], root: Path = ROOT) -> float | None:
    """Seconds that these CPUs have worked for anyone, another virtual machine included (steal)."""
    found = re.findall(r"^cpu(\d+)\s+(.+)$", text("/proc/stat", root), re.MULTILINE)
    total, seen = 0, False
    for number, line in found:
        if int(number) in cpus:
            user, nice, system, _idle, _wait, irq, softirq, steal = (*map(int, line.split()[:8]), *[0] * 8)[:8]
            total, seen = total + user + nice + system + irq + softirq + steal, True
    return total / TICKS if seen else None


def family() -> frozenset[int]:
    """The numbers of this process and of those that it descends from."""
    import psutil

    own = psutil.Process()
    return frozenset({own.pid, *(parent.pid for parent in own.parents())})


@dataclass(frozen=True)
class Counters:
    """Counters at one instant, as far as the system tells."""

    wall_s: float
    own_cpu_s: float
    busy_s: float | None
    involuntary: int | None
    major_faults: int | None
    throttled: int | None
    swap_ins: int | None
    cpus: tuple[int, ...]

    @classmethod
    def read(cls, root: Path = ROOT) -> Counters:
        """Read them now."""
        cpus = affinity()
        involuntary = faults = None
        if sys.platform != "win32":
            import resource

            usage = resource.getrusage(resource.RUSAGE_SELF)
            involuntary, faults = usage.ru_nivcsw, usage.ru_majflt
        return cls(
            wall_s=time.perf_counter(), own_cpu_s=time.process_time(), busy_s=busy_s(cpus, root),
            involuntary=involuntary, major_faults=faults, throttled=throttled(root),
            swap_ins=fields("/proc/vmstat", root).get("pswpin"), cpus=cpus,
        )  # fmt: skip

    def until(self, end: Counters) -> dict[str, float | str]:
        """The conditions between this instant and `end`."""
        own = end.own_cpu_s - self.own_cpu_s
        found: dict[str, float | str] = {
            "wall_s": end.wall_s - self.wall_s,
            "own_cpu_s": own,
            "cpus": float(len(end.cpus)),
        }
        if self.busy_s is not None and end.busy_s is not None:
            found["other_cpu_s"] = max(0.0, end.busy_s - self.busy_s - own)
        pairs = {
            "involuntary_switches": (self.involuntary, end.involuntary),
            "major_faults": (self.major_faults, end.major_faults),
            "throttled_periods": (self.throttled, end.throttled),
            "swap_ins": (self.swap_ins, end.swap_ins),
        }
        found |= {name: float(b - a) for name, (a, b) in pairs.items() if a is not None and b is not None}
        if hasattr(os, "getloadavg"):
            found["load_1min"] = os.getloadavg()[0]
        return found


class HostReading:
    """The host's counters over one round."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._start = Counters.read(root)

    def finish(self) -> Mapping[str, float | str]:
        """The conditions of the round that ends now."""
        return self._start.until(Counters.read(self._root))
