"""CPU, memory, control groups and counters, read from the files of Linux. No torch.

A function returns None, or an empty value, where the system does not provide it. Tests set `root`, the prefix of
the paths /proc and /sys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path("/")
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_NO_LIMIT = 1 << 60  # cgroup v1 writes 2**63 rounded down to pages for "no limit"


def text(path: str, root: Path = ROOT) -> str:
    """Read a small file, stripped; empty if it cannot be read."""
    try:
        return (root / path.lstrip("/")).read_text(errors="replace").strip()
    except OSError:
        return ""


def fields(path: str, root: Path = ROOT) -> dict[str, int]:
    """Read lines such as `VmHWM:  1234 kB` or `nr_throttled 3` as numbers by name; kB become bytes."""
    found = re.findall(r"^(\S+?):?\s+(\d+)(?:\s+(kB))?\s*$", text(path, root), re.MULTILINE)
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in found}


def whole(path: str, root: Path = ROOT) -> int | None:
    """Read a file that holds one whole number; None for any other content."""
    content = text(path, root)
    return int(content) if re.fullmatch(r"-?\d+", content) else None


def affinity() -> tuple[int, ...]:
    """The numbers of the CPUs that this process may run on, sorted."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def physical_cores(cpus: tuple[int, ...], root: Path = ROOT) -> int | None:
    """The number of physical cores behind these CPUs; hardware threads of one core count once."""
    cores = set()
    for cpu in cpus:
        siblings = text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", root)
        if not siblings:
            return None
        cores.add(siblings)
    return len(cores)


def governor(root: Path = ROOT) -> str:
    """The frequency governor of CPU 0; empty where there is none, as in most virtual machines."""
    return text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", root)


def in_container(root: Path = ROOT) -> bool:
    """Whether a marker file, or the name of the control group, shows a container."""
    marked = any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))
    return marked or bool(re.search(r"docker|kubepods|containerd|lxc|libpod", text("/proc/self/cgroup", root)))


def cpu_model(root: Path = ROOT) -> str:
    """The model name of the processor."""
    info = text("/proc/cpuinfo", root)
    for word in ("model name", "Model", "Hardware", "cpu model"):
        found = re.search(rf"^{word}\s*:\s*(.+)$", info, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    import platform

    return platform.processor() or platform.machine()


def turbo(root: Path = ROOT) -> bool | None:
    """Whether the clock may rise above its nominal rate; None where neither driver says so."""
    no_turbo = whole("/sys/devices/system/cpu/intel_pstate/no_turbo", root)
    if no_turbo is not None:
        return no_turbo == 0
    boost = whole("/sys/devices/system/cpu/cpufreq/boost", root)
    return None if boost is None else boost == 1


def numa_nodes(root: Path = ROOT) -> tuple[str, ...]:
    """The CPUs of each NUMA node, such as `0-15`, in the nodes' order; empty where the system lists no node."""
    folder = root / "sys/devices/system/node"
    numbers = sorted(int(p.name[4:]) for p in folder.glob("node[0-9]*") if p.name[4:].isdigit())
    return tuple(text(f"/sys/devices/system/node/node{number}/cpulist", root) for number in numbers)


def bound_to(root: Path = ROOT) -> tuple[str, str]:
    """The CPUs and the memory nodes that this process is bound to, such as `0-15` and `0`; empty where unknown."""
    status = text("/proc/self/status", root)
    cpus, nodes = (re.search(rf"^{name}_allowed_list:\s*(\S+)$", status, re.MULTILINE) for name in ("Cpus", "Mems"))
    return (cpus[1] if cpus else ""), (nodes[1] if nodes else "")


def boot_id(root: Path = ROOT) -> str:
    """The identifier of this boot of the system; empty where there is none."""
    return text("/proc/sys/kernel/random/boot_id", root)


def cache_bytes(root: Path = ROOT) -> dict[str, int]:
    """Bytes of each cache of CPU 0: `L1d`, `L1i`, `L2`, `L3`; empty where the system does not list them."""
    sizes = {}
    for index in range(8):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        found = re.fullmatch(r"(\d+)([KMG]?)", text(f"{folder}/size", root))
        if found:
            kind = {"Data": "d", "Instruction": "i"}.get(text(f"{folder}/type", root), "")
            level = text(f"{folder}/level", root) or str(index)
            sizes[f"L{level}{kind}"] = int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]]
    return sizes


def last_level_cache_bytes(root: Path = ROOT) -> int | None:
    """Bytes of the largest cache of CPU 0."""
    return max(cache_bytes(root).values(), default=None)


def cgroup_files(controller: str, name_v1: str, name_v2: str, root: Path = ROOT) -> Iterator[str]:
    """Paths of a control file for the group of this process and for all its parents, nearest first.

    `name_v1` and `name_v2` are the file's names under version 1 and 2 of control groups.
    """
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
    """The CPU time per wall time that the control groups allow, e.g. 2.5 CPUs; the smallest of all groups."""
    quotas = []
    for path in cgroup_files("cpu", "cpu.cfs_quota_us", "cpu.max", root):
        if path.endswith("cpu.max"):
            quota, _, period = text(path, root).partition(" ")
        else:
            quota, period = text(path, root), text(path.replace("quota", "period"), root)
        if re.fullmatch(r"\d+", quota) and re.fullmatch(r"[1-9]\d*", period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the control groups allow; the smallest of all groups."""
    return min((limit for limit, _ in _memory_groups(root)), default=None)


def memory_free(root: Path = ROOT) -> int | None:
    """Bytes that this process can still allocate: what the system has available, within the control groups' limits."""
    available = fields("/proc/meminfo", root).get("MemAvailable")
    free = [] if available is None else [available]
    free += [max(0, limit - used) for limit, used in _memory_groups(root)]
    return min(free, default=None)


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


@cache
def family() -> frozenset[int]:
    """The process ids of this process and of all its ancestors."""
    import psutil

    own = psutil.Process()
    return frozenset({own.pid, *(parent.pid for parent in own.parents())})
