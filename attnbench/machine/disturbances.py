"""What could disturb a measurement on this machine now, each line with its remedy."""

from __future__ import annotations

import platform
import time

from attnbench.machine import counters, linux
from attnbench.machine.environment import default_threads

BUSY_SHARE = 0.10  # largest accepted share of this process's CPUs that other processes use
LOAD_PER_CPU = 0.5  # largest accepted load average of the last minute, per CPU
MIN_FREE_BYTES = 2 << 30


def disturbances(watch_s: float = 0.2) -> list[str]:
    """List what could disturb a measurement now, each with its remedy.

    Args:
        watch_s: seconds for which the CPUs are watched.
    """
    return [*_cpu_disturbances(watch_s), *_memory_disturbances(), *_device_disturbances()]


def _cpu_disturbances(watch_s: float) -> list[str]:
    lines = []
    cpus = linux.affinity()
    reading = counters.HostReading()
    time.sleep(watch_s)
    conditions = reading.finish()
    capacity_s = max(1e-9, float(conditions["wall_s"]) * len(cpus))
    share = float(conditions.get("other_cpu_s", 0.0)) / capacity_s
    stolen = float(conditions.get("steal_s", 0.0)) / capacity_s
    load = counters.load_1min() or 0.0
    if share > BUSY_SHARE:
        lines.append(
            f"other processes use {share:.0%} of the {len(cpus)} CPUs; stop them, or bind this process to free CPUs: "
            "taskset -c LIST attnbench ..."
        )
    if stolen > BUSY_SHARE:
        lines.append(
            f"other virtual machines take {stolen:.0%} of the {len(cpus)} CPUs (steal); use another host, or wait"
        )
    if share <= BUSY_SHARE and load > LOAD_PER_CPU * len(cpus):
        lines.append(f"the load average of the last minute is {load:.2f} on {len(cpus)} CPUs; wait until it falls")
    if linux.governor() in ("powersave", "conservative"):
        lines.append(
            f"the CPU governor is {linux.governor()}, which changes the clock rate under load; "
            "set it to performance: cpupower frequency-set -g performance"
        )
    cores = linux.physical_cores(cpus)
    if cores and cores < len(cpus):
        lines.append(
            f"{len(cpus)} hardware threads share {cores} cores; --threads is {default_threads()} by default, "
            "but two of these may run on one core: bind to one hardware thread of each core with taskset"
        )
    quota, throttled = linux.cpu_quota(), counters.throttling()[0]
    if quota is not None and quota < len(cpus):
        lines.append(
            f"the control group allows {quota:g} CPUs of time on {len(cpus)} CPUs and has throttled its processes in "
            f"{throttled or 0} periods; keep --threads at {default_threads()} or below, or raise the quota"
        )
    if platform.libc_ver()[0] != "glibc":
        lines.append(
            "malloc is not glibc's, so --allocator pinned has no effect; use --allocator tcmalloc, "
            "or more processes, since times differ between processes: --protocol rigorous"
        )
    return lines


def _memory_disturbances() -> list[str]:
    free = linux.memory_free()
    if free is not None and free < MIN_FREE_BYTES:
        return [f"{free / 2**30:.1f} GiB of memory are free, below {MIN_FREE_BYTES / 2**30:g}; stop other processes"]
    return []


def _device_disturbances() -> list[str]:
    from attnbench.machine.devices import disturbances_of, present

    return disturbances_of(present())
