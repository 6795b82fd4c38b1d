"""What could disturb a measurement on this machine now, each line with its remedy."""

from __future__ import annotations

import platform
import time

from attnbench.machine import counters, linux, nvml
from attnbench.machine.environment import default_threads

BUSY_SHARE = 0.10  # largest accepted share of this process's CPUs that other processes use
LOAD_PER_CPU = 0.5  # largest accepted load average of the last minute, per CPU
MIN_FREE_BYTES = 2 << 30


def disturbances(watch_s: float = 0.2) -> list[str]:
    """List what could disturb a measurement now, each with its remedy.

    Args:
        watch_s: seconds for which the CPUs are watched.
    """
    return [*_cpu_disturbances(watch_s), *_memory_disturbances(), *_gpu_disturbances()]


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


def _gpu_disturbances() -> list[str]:
    from attnbench.machine.devices import present

    gpus = [name for name in present() if name.startswith("cuda")]
    if gpus and nvml.library() is None:
        return [
            f"clocks, temperature and other processes of the GPU cannot be read ({nvml.why_not()}); "
            "install NVML's bindings: pip install 'attnbench[gpu]'"
        ]
    return [line for name in gpus for line in _one_gpu(name)]


def _one_gpu(name: str) -> list[str]:
    import torch

    gpu = nvml.open_gpu(str(getattr(torch.cuda.get_device_properties(torch.device(name)), "uuid", "")))
    if gpu is None:
        return [f"NVML does not list {name}, so its clock and temperature are unknown; give this process the whole GPU"]
    lines = []
    state, facts = gpu.state(linux.family()), gpu.facts()
    if state.get("other_gpu_processes"):
        lines.append(
            f"{state['other_gpu_processes']:g} other processes compute on {name}; stop them or use another GPU"
        )
    slowed = nvml.reasons(int(state.get("throttle_bits", 0)))
    if slowed:
        lines.append(
            f"the clock of {name} is throttled now ({', '.join(slowed)}); let it cool, or check its power supply"
        )
    cap, usual = facts.get("power_cap_w"), facts.get("power_cap_default_w")
    if isinstance(cap, float) and isinstance(usual, float) and cap < usual:
        lines.append(
            f"the power of {name} is capped at {cap:g} W of {usual:g} W; raise the cap: nvidia-smi -pl {usual:g}"
        )
    return lines
