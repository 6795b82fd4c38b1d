"""The description of the machine that a run stores: everything that figures depend on, without personal data.

No user name, no path; the host name as a hash only. torch is imported when it is described, not before. Every field
has a default, so that what an older attnbench stored can be read; an unknown value is None or empty.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.machine import linux
from attnbench.machine.devices import facts_of
from attnbench.machine.fingerprint import Fingerprint, Processor, machine_name, processor

PACKAGE_DIR = Path(__file__).resolve().parent.parent
PACKAGES = (
    "attnbench", "torch", "numpy", "fvcore", "timm", "transformers", "triton", "nvidia-ml-py",
    "onnx", "onnxscript", "onnxruntime", "openvino",
)  # fmt: skip
VARIABLES = (
    "OMP_", "MKL_", "KMP_", "GOMP_", "ONEDNN_", "DNNL_", "OPENBLAS_", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "MALLOC_",
    "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "GLIBC_TUNABLES", "LD_PRELOAD", "ATEN_CPU_CAPABILITY",
    "ORT_", "OV_", "TBB_",
)  # fmt: skip
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16", "i8mm")


@dataclass(frozen=True, kw_only=True)
class Code:
    """The checkout that holds this package; empty if it is installed. `dirty`: with uncommitted changes."""

    commit: str = ""
    dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The processor and what of it this process may use.

    Attributes:
        logical: hardware threads of the machine; `usable`: of this process; `usable_cores`: cores behind those.
        quota: CPUs of time that the control groups allow. `turbo`: the clock may rise above its nominal rate.
        smt: the state of hardware threading. `numa_nodes`: the CPUs of each node, such as `0-15`.
        bound_cpus: what this process may run on, such as `0-7`. `bound_nodes`: where its memory may lie.
        denormals: whether arithmetic keeps numbers below the least normal one (`kept`) or takes them for 0 (`flushed`).
    """

    model: str = ""
    logical: int | None = None
    usable: int = 0
    usable_cores: int | None = None
    quota: float | None = None
    last_level_cache_bytes: int | None = None
    features: tuple[str, ...] = ()
    governor: str = ""
    turbo: bool | None = None
    smt: str | None = None
    numa_nodes: tuple[str, ...] = ()
    bound_cpus: str = ""
    bound_nodes: str = ""
    denormals: str = ""
    hypervisor: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of memory; `limit_bytes`: what the control groups allow. `huge_pages`: transparent ones, the mode."""

    total_bytes: int = 0
    limit_bytes: int | None = None
    swap_bytes: int = 0
    huge_pages: str = ""


@dataclass(frozen=True, kw_only=True)
class Torch:
    """PyTorch: its build, its libraries, and the switches that change what runs."""

    version: str = ""
    commit: str | None = None
    cuda: str = ""
    hip: str = ""
    cudnn: int | None = None
    cpu_capability: str = ""
    mkldnn: bool | None = None
    cudnn_benchmark: bool | None = None
    reduced_precision_sums: Mapping[str, bool] = field(default_factory=dict)
    sdpa: Mapping[str, bool] = field(default_factory=dict)
    deterministic: bool | None = None
    interop_threads: int | None = None
    onednn: str = ""
    mkl: str = ""
    openmp: str = ""
    blas: str = ""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: what torch says, and what NVML says (watts, MHz, modes); `nvml`: why that is not known."""

    capability: str = ""
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    driver: str = ""
    power_cap_w: float | None = None
    power_cap_default_w: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_max_mhz: float | None = None
    persistence: str = ""
    ecc: str = ""
    mig: str = ""
    nvml: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and the software of a run.

    Attributes:
        machine_label: the machine's short name, such as `zen4-2c-3f9a`.
        host: a hash of the host's name and identifier. `boot_id`: of the boot, not of the machine.
        threads: the default number of CPU threads. `devices`: title by device, empty for one that cannot be opened.
        variables: environment variables that affect speed.
    """

    machine_label: str = ""
    host: str = ""
    boot_id: str = ""
    os: str = ""
    distribution: str = ""
    kernel: str = ""
    architecture: str = ""
    libc: str = ""
    container: bool = False
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    code: Code = Code()
    torch: Torch = Torch()
    threads: int | None = None
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    devices: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, Gpu] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    fingerprint: Fingerprint = field(default_factory=Fingerprint)


def torch_version() -> str:
    """The installed version of torch, without importing it."""
    return importlib.metadata.version("torch")


def default_threads() -> int:
    """The default number of CPU threads: one for each physical core that this process may use, within its quota.

    A core whose hardware threads are all usable counts once; where the system does not list the cores, every CPU does.
    """
    quota, cpus = linux.cpu_quota(), linux.affinity()
    cores = linux.physical_cores(cpus) or len(cpus)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def describe(devices: Sequence[str]) -> Environment:
    """Describe this machine.

    Args:
        devices: names of the devices that the run measures on; one that cannot be opened has an empty title.
    """
    titles = {name: _title(name) for name in devices}
    gpus = {name: Gpu(**facts) for name in devices if titles[name] and (facts := facts_of(name))}
    chip, torch = processor(), _torch()
    cpu = _cpu(chip)
    kernel = platform.release().partition("-")[0]
    found = Fingerprint(
        architecture=platform.machine(),
        cpu_model=cpu.model,
        vendor=chip.vendor,
        family=chip.family,
        model=chip.model,
        stepping=chip.stepping,
        microcode=chip.microcode,
        cache_bytes=linux.cache_bytes(),
        isa_sha256=chip.isa_sha256,
        kernel=kernel,
        cpus=cpu.usable,
        cores=cpu.usable_cores,
        cpu_quota=cpu.quota,
        cpu_capability=torch.cpu_capability,
        onednn_max_cpu_isa=os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        devices=titles,
        power_caps_w={name: gpu.power_cap_w for name, gpu in gpus.items()},
        torch=torch.version,
        cuda=torch.cuda,
    )
    return Environment(
        machine_label=machine_name(found, chip.flags),
        host=_host(),
        boot_id=linux.boot_id(),
        os=platform.system(),
        distribution=_distribution(),
        kernel=kernel,
        architecture=found.architecture,
        libc=" ".join(platform.libc_ver()).strip(),
        container=linux.in_container(),
        python=platform.python_version(),
        versions=_versions(),
        code=code_version(),
        torch=torch,
        threads=default_threads(),
        cpu=cpu,
        memory=_memory(),
        devices=titles,
        gpus=gpus,
        variables=_variables(os.environ),
        fingerprint=found,
    )


def code_version() -> Code:
    """The commit of the checkout that holds this package; empty if it is installed."""
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return Code()
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".", "../mechanisms")
    return Code(commit=commit, dirty=bool(changes)) if commit and changes is not None else Code()


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


def _cpu(chip: Processor) -> Cpu:
    cpus = linux.affinity()
    bound_cpus, bound_nodes = linux.bound_to()
    return Cpu(
        model=linux.cpu_model(),
        logical=os.cpu_count(),
        usable=len(cpus),
        usable_cores=linux.physical_cores(cpus),
        quota=linux.cpu_quota(),
        last_level_cache_bytes=linux.last_level_cache_bytes(),
        features=tuple(name for name in _FEATURES if name in chip.flags),
        governor=linux.governor(),
        turbo=linux.turbo(),
        smt=linux.text("/sys/devices/system/cpu/smt/control") or None,
        numa_nodes=linux.numa_nodes(),
        bound_cpus=bound_cpus,
        bound_nodes=bound_nodes,
        denormals=_denormals(),
        hypervisor="hypervisor" in chip.flags,
    )


def _denormals(least: float = 5e-324) -> str:
    return "kept" if least * 1.0 else "flushed"


def _memory() -> Memory:
    import psutil

    return Memory(
        total_bytes=psutil.virtual_memory().total,
        limit_bytes=linux.memory_limit(),
        swap_bytes=psutil.swap_memory().total,
        huge_pages="".join(re.findall(r"\[(\w+)\]", linux.text("/sys/kernel/mm/transparent_hugepage/enabled"))),
    )


def _torch() -> Torch:
    import torch

    build = torch.__config__.show()
    patterns = {
        "onednn": r"MKL-DNN v(\S+)",
        "mkl": r"Math Kernel Library Version (\S+)",
        "openmp": r"OpenMP (\d+)",
        "blas": r"BLAS_INFO=(\w+)",
    }
    backends: Any = torch.backends
    return Torch(
        version=str(torch.__version__),
        commit=torch.version.git_version,
        cuda=torch.version.cuda or "",
        hip=torch.version.hip or "",
        cudnn=backends.cudnn.version() if torch.version.cuda else None,
        cpu_capability=backends.cpu.get_cpu_capability(),
        mkldnn=bool(backends.mkldnn.is_available() and backends.mkldnn.enabled),
        cudnn_benchmark=backends.cudnn.benchmark,
        reduced_precision_sums={
            "bf16": bool(backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
            "fp16": bool(backends.cuda.matmul.allow_fp16_reduced_precision_reduction),
        },
        sdpa={
            "flash": backends.cuda.flash_sdp_enabled(),
            "efficient": backends.cuda.mem_efficient_sdp_enabled(),
            "math": backends.cuda.math_sdp_enabled(),
            "cudnn": backends.cuda.cudnn_sdp_enabled(),
        },
        deterministic=torch.are_deterministic_algorithms_enabled(),
        interop_threads=torch.get_num_interop_threads(),
        **{name: match[1] for name, pattern in patterns.items() if (match := re.search(pattern, build))},
    )


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that affect speed; a value that contains a path becomes `(a path)`."""
    return {
        name: "(a path)" if "/" in value or "\\" in value else value
        for name, value in sorted(environ.items())
        if name.startswith(VARIABLES)
    }
