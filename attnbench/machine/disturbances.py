"""What would disturb a measurement on this machine now, each with its remedy."""

from __future__ import annotations

import platform
import time

from attnbench.machine import linux, nvml
from attnbench.machine.environment import default_threads

BUSY_SHARE = 0.10  # of our CPUs, taken by others
LOAD_EACH = 0.5  # of the last minute, per CPU
FREE_BYTES = 2 << 30


def disturbances(watch_s: float = 0.2) -> list[str]:
    """What would disturb a measurement now, each with its remedy. The CPUs are watched for `watch_s`."""
    return [*_cpu_disturbances(watch_s), *_memory_disturbances(), *_gpu_disturbances()]


def _cpu_disturbances(watch_s: float) -> list[str]:
    found = []
    cpus = linux.affinity()
    reading = linux.HostReading()
    time.sleep(watch_s)
    seen = reading.finish()
    share = float(seen.get("other_cpu_s", 0.0)) / max(1e-9, float(seen["wall_s"]) * len(cpus))
    load = float(seen.get("load_1min", 0.0))
    if share > BUSY_SHARE:
        found.append(
            f"other processes take {share:.0%} of the {len(cpus)} CPUs; end them, or bind this one to free CPUs: "
            "taskset -c LIST attnbench ..."
        )
    elif load > LOAD_EACH * len(cpus):
        found.append(f"the load of the last minute is {load:.2f} on {len(cpus)} CPUs; wait until it has fallen")
    if linux.governor() in ("powersave", "conservative"):
        found.append(
            f"the CPU governor is {linux.governor()}, which changes the clock as it goes; "
            "set it to performance: cpupower frequency-set -g performance"
        )
    cores = linux.physical_cores(cpus)
    if cores and cores < len(cpus):
        found.append(
            f"{len(cpus)} hardware threads share {cores} cores; "
            f"use --threads {cores}, or bind to one thread of each core with taskset"
        )
    quota, stopped = linux.cpu_quota(), linux.throttled()
    if quota is not None and quota < len(cpus):
        found.append(
            f"the control group allows {quota:g} CPUs' time on {len(cpus)} CPUs and has stopped its processes in "
            f"{stopped or 0} periods; keep --threads at {default_threads()} or below, or raise the quota"
        )
    if platform.libc_ver()[0] != "glibc":
        found.append(
            "malloc is not glibc's, so --allocator pinned has no effect; use --allocator tcmalloc, "
            "or give the spread between processes more processes: --protocol rigorous"
        )
    return found


def _memory_disturbances() -> list[str]:
    free = linux.memory_free()
    if free is not None and free < FREE_BYTES:
        return [f"{free / 2**30:.1f} GiB of memory are free, below {FREE_BYTES / 2**30:g}; end what holds the rest"]
    return []


def _gpu_disturbances() -> list[str]:
    from attnbench.machine.devices import present

    gpus = [name for name in present() if name.startswith("cuda")]
    if gpus and nvml.library() is None:
        return [
            f"clocks, heat and other processes on the GPU cannot be seen ({nvml.why_not()}); "
            "install it: pip install 'attnbench[gpu]'"
        ]
    return [line for name in gpus for line in _one_gpu(name)]


def _one_gpu(name: str) -> list[str]:
    import torch

    gpu = nvml.open_gpu(str(getattr(torch.cuda.get_device_properties(torch.device(name)), "uuid", "")))
    if gpu is None:
        return [f"NVML does not know {name}, so its clocks and heat cannot be seen; show the whole GPU to this process"]
    found = []
    state, facts = gpu.state(linux.family()), gpu.facts()
    if state.get("other_gpu_processes"):
        found.append(
            f"{state['other_gpu_processes']:g} other processes compute on {name}; end them or take another GPU"
        )
    slowed = nvml.reasons(int(state.get("throttle_bits", 0)))
    if slowed:
        found.append(f"{name} holds its clock down now ({', '.join(slowed)}); let it cool, or look at its power supply")
    cap, usual = facts.get("power_cap_w"), facts.get("power_cap_default_w")
    if isinstance(cap, float) and isinstance(usual, float) and cap < usual:
        found.append(f"{name} is capped at {cap:g} W of {usual:g} W; lift it with nvidia-smi -pl {usual:g}")
    return found
