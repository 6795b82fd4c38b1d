"""The description of the machine that a run stores: everything that figures depend on, without personal data.

No user name, no path; the host name as a hash only. torch is imported when it is described, not before.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.machine import linux, nvml

PACKAGE_DIR = Path(__file__).resolve().parent.parent
PACKAGES = ("attnbench", "torch", "numpy", "fvcore", "timm", "transformers", "triton", "nvidia-ml-py")
VARIABLES = (
    "OMP_", "MKL_", "KMP_", "GOMP_", "ONEDNN_", "DNNL_", "OPENBLAS_", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "MALLOC_",
    "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "GLIBC_TUNABLES", "LD_PRELOAD", "ATEN_CPU_CAPABILITY",
)  # fmt: skip
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16", "i8mm")


def default_threads() -> int:
    """The default number of CPU threads: all CPUs that this process may use, within the quota of its control groups."""
    quota = linux.cpu_quota()
    cpus = len(linux.affinity())
    return cpus if quota is None else max(1, min(cpus, math.floor(quota)))


def describe(devices: Sequence[str]) -> dict[str, Any]:
    """Describe this machine as plain values for run.json.

    Args:
        devices: names of the devices that the run measures on; one that cannot be opened has an empty title.
    """
    titles = {name: _title(name) for name in devices}
    gpus = {name: _gpu(name) for name in devices if name.startswith("cuda") and titles[name]}
    host = _host()
    torch_facts, cpu = _torch(), _cpu()
    return {
        "machine_label": f"host {host[:6]}",
        "host": host,
        "os": platform.system(),
        "distribution": _distribution(),
        "kernel": platform.release().partition("-")[0],
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "container": linux.in_container(),
        "python": platform.python_version(),
        "versions": _versions(),
        "code": code_version(),
        "torch": torch_facts,
        "threads": default_threads(),
        "cpu": cpu,
        "memory": _memory(),
        "devices": titles,
        "gpus": gpus,
        "variables": _variables(os.environ),
        "fingerprint": {
            "architecture": platform.machine(),
            "cpu_model": cpu["model"],
            "cpus": cpu["usable"],
            "cpu_quota": cpu["quota"],
            "cpu_capability": torch_facts["cpu_capability"],
            "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
            "devices": titles,
            "power_caps_w": {name: facts.get("power_cap_w") for name, facts in gpus.items()},
            "torch": torch_facts["version"],
            "cuda": torch_facts["cuda"],
        },
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """List the fields of two fingerprints that differ, with both values.

    Absolute figures of two runs are comparable only if the list is empty.
    """
    return [
        f"{name}: {one.get(name)!r} against {other.get(name)!r}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def code_version() -> dict[str, Any]:
    """`commit` and `dirty` (uncommitted changes) of the checkout that holds this package; {} if it is installed."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".", "../mechanisms")
    return {"commit": commit, "dirty": bool(changes)} if commit and changes is not None else {}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE_DIR), *words],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _title(name: str) -> str:
    from attnbench.machine.devices import open_device

    try:
        return open_device(name).title()
    except AttnbenchError:
        return ""


def _gpu(name: str) -> dict[str, str | float]:
    import torch

    properties = torch.cuda.get_device_properties(torch.device(name))
    facts: dict[str, str | float] = {
        "capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
    }
    gpu = nvml.open_gpu(str(getattr(properties, "uuid", "")))
    return {**facts, **gpu.facts()} if gpu else {**facts, "nvml": nvml.why_not() or "NVML does not list this GPU"}


def _host() -> str:
    salt = linux.text("/etc/machine-id")
    return hashlib.sha256(f"attnbench {salt} {platform.node()}".encode()).hexdigest()[:12]


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> dict[str, Any]:
    cpus = linux.affinity()
    flags = set(re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", linux.text("/proc/cpuinfo"), re.MULTILINE)[:1])
    words = set(" ".join(flags).split())
    return {
        "model": linux.cpu_model(),
        "logical": os.cpu_count(),
        "usable": len(cpus),
        "usable_cores": linux.physical_cores(cpus),
        "quota": linux.cpu_quota(),
        "last_level_cache_bytes": linux.last_level_cache_bytes(),
        "features": [name for name in _FEATURES if name in words],
        "governor": linux.governor(),
        "smt": linux.text("/sys/devices/system/cpu/smt/control") or None,
        "hypervisor": "hypervisor" in words,
    }


def _memory() -> dict[str, Any]:
    import psutil

    return {
        "total_bytes": psutil.virtual_memory().total,
        "limit_bytes": linux.memory_limit(),
        "swap_bytes": psutil.swap_memory().total,
        "huge_pages": "".join(re.findall(r"\[(\w+)\]", linux.text("/sys/kernel/mm/transparent_hugepage/enabled"))),
    }


def _torch() -> dict[str, Any]:
    import torch

    build = torch.__config__.show()
    patterns = {
        "onednn": r"MKL-DNN v(\S+)",
        "mkl": r"Math Kernel Library Version (\S+)",
        "openmp": r"OpenMP (\d+)",
        "blas": r"BLAS_INFO=(\w+)",
    }
    backends: Any = torch.backends
    return {
        "version": str(torch.__version__),
        "commit": torch.version.git_version,
        "cuda": torch.version.cuda or "",
        "hip": torch.version.hip or "",
        "cudnn": backends.cudnn.version() if torch.version.cuda else None,
        "cpu_capability": backends.cpu.get_cpu_capability(),
        "mkldnn": bool(backends.mkldnn.is_available() and backends.mkldnn.enabled),
        "cudnn_benchmark": backends.cudnn.benchmark,
        "reduced_precision_sums": {
            "bf16": bool(backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
            "fp16": bool(backends.cuda.matmul.allow_fp16_reduced_precision_reduction),
        },
        "sdpa": {
            "flash": backends.cuda.flash_sdp_enabled(),
            "efficient": backends.cuda.mem_efficient_sdp_enabled(),
            "math": backends.cuda.math_sdp_enabled(),
            "cudnn": backends.cuda.cudnn_sdp_enabled(),
        },
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "interop_threads": torch.get_num_interop_threads(),
        **{name: match[1] for name, pattern in patterns.items() if (match := re.search(pattern, build))},
    }


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that affect speed; a value that contains a path becomes `(a path)`."""
    return {
        name: "(a path)" if "/" in value or "\\" in value else value
        for name, value in sorted(environ.items())
        if name.startswith(VARIABLES)
    }
