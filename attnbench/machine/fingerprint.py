"""What a machine is, by what its system says of the processor, and the short name made of it. No torch.

A name such as "AMD EPYC" does not identify a processor: two of one name ranked layers the other way round. What does
is its family, model, stepping, microcode, caches and instruction sets, and what it was measured to reach
(`attnbench.analysis.machines` compares both).

Families and models: https://github.com/torvalds/linux/blob/master/arch/x86/include/asm/intel-family.h,
https://github.com/torvalds/linux/blob/master/arch/x86/kernel/cpu/amd.c and
https://github.com/torvalds/linux/blob/master/arch/arm64/include/asm/cputype.h.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from attnbench.machine import linux


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What figures depend on; two that differ are two machines. Empty or None: the system does not provide it.

    Attributes:
        cpu_model: the name that the processor gives itself. `vendor`: x86: `GenuineIntel`; Arm: the implementer.
        family, model, stepping: x86: of CPUID; Arm: architecture, part, and `r1p1` of variant and revision.
        cache_bytes: by level, of CPU 0. `isa_sha256`: of the sorted flags of the instruction set.
        cpus: hardware threads that the process may use. `cores`: the physical cores behind them.
        cpu_quota: CPUs of time that the control groups allow; None: no quota.
        devices: title by device. `power_caps_w`: by GPU.
    """

    architecture: str = ""
    cpu_model: str = ""
    vendor: str = ""
    family: int | None = None
    model: int | None = None
    stepping: str = ""
    microcode: str = ""
    cache_bytes: Mapping[str, int] = field(default_factory=dict)
    isa_sha256: str = ""
    kernel: str = ""
    cpus: int | None = None
    cores: int | None = None
    cpu_quota: float | None = None
    cpu_capability: str = ""
    onednn_max_cpu_isa: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)
    power_caps_w: Mapping[str, float | None] = field(default_factory=dict)
    torch: str = ""
    cuda: str = ""

    @property
    def known(self) -> bool:
        """Whether it says more of the processor than its name; fingerprints before 21 November 2026 do not."""
        return bool(self.kernel)


_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")  # of a field, whose first digits tell it from another
_OF_DEVICES = ("devices", "power_caps_w")  # by device: only those that both runs measured on are compared
_IN_NAME = (
    "architecture", "cpu_model", "vendor", "family", "model", "stepping", "microcode", "cache_bytes", "isa_sha256",
    "cpus", "cores", "cpu_quota",
)  # fmt: skip


def differences(one: Fingerprint, other: Fingerprint, *, only_stored: bool = False) -> list[str]:
    """The fields in which two fingerprints differ, with both values: `microcode: '0x1' against '0x2'`.

    A device that only one of them names is not compared.

    Args:
        one: a fingerprint.
        other: another.
        only_stored: leave out the fields that one of them does not have.
    """
    found = []
    for name in sorted(f.name for f in fields(Fingerprint)):
        mine, yours = getattr(one, name), getattr(other, name)
        if name in _OF_DEVICES:
            shared = sorted(mine.keys() & yours.keys())
            mine, yours = ({key: of[key] for key in shared} for of in (mine, yours))
        lacking = only_stored and (mine in ("", None) or yours in ("", None))
        if mine != yours and not lacking:
            found.append(f"{name}: {_against(mine, yours)}")
    return found


def _against(mine: object, yours: object) -> str:
    """Both values; of two mappings the keys alone whose values differ."""
    if not isinstance(mine, Mapping) or not isinstance(yours, Mapping):
        return _DIGEST.sub(r"\1", f"{mine!r} against {yours!r}")
    keys = [key for key in {**mine, **yours} if mine.get(key) != yours.get(key)]
    return ", ".join(f"{key} {mine.get(key)!r} against {yours.get(key)!r}" for key in keys)


class Processor(NamedTuple):
    """The processor as /proc/cpuinfo describes its first CPU."""

    vendor: str = ""
    family: int | None = None
    model: int | None = None
    stepping: str = ""
    microcode: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def isa_sha256(self) -> str:
        """The hash of the sorted flags; empty without flags."""
        return hashlib.sha256(" ".join(sorted(self.flags)).encode()).hexdigest() if self.flags else ""


def processor(root: Path = linux.ROOT) -> Processor:
    """Read the processor from /proc/cpuinfo; everything is empty where there is none (macOS, Windows)."""
    first = linux.text("/proc/cpuinfo", root).partition("\n\n")[0]
    lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}

    def word(*names: str) -> str:
        return next((lines[name] for name in names if lines.get(name)), "")

    variant, revision = _number(word("CPU variant")), word("CPU revision")
    return Processor(
        vendor=word("vendor_id", "CPU implementer"),
        family=_number(word("cpu family", "CPU architecture")),
        model=_number(word("model", "CPU part")),
        stepping=word("stepping") or ("" if variant is None else f"r{variant}p{revision}"),
        microcode=word("microcode"),
        flags=frozenset(word("flags", "Features").split()),
    )


def _number(text: str) -> int | None:
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]+|0|[1-9]\d*", text) else None


def machine_name(found: Fingerprint, flags: Iterable[str] = ()) -> str:
    """The machine's short name, such as `zen4-2c-3f9a`: microarchitecture, usable cores, hash of the identity.

    The kernel, torch and the GPUs, which change on the same machine, are no part of the name.

    Args:
        found: what identifies the machine.
        flags: of the instruction set; they tell whether the model is true.
    """
    identity = {name: getattr(found, name) for name in _IN_NAME}
    digits = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:4]
    chip = Processor(found.vendor, found.family, found.model, found.stepping, found.microcode, frozenset(flags))
    return f"{microarchitecture(chip, found.architecture)}-{found.cores or found.cpus or 0}c-{digits}"


class _Design(NamedTuple):
    """A microarchitecture: its models, and the flags that no processor of it has."""

    name: str
    models: tuple[range, ...]
    lacks: frozenset[str]
    steppings: range = range(256)


def _design(name: str, *models: int | range, lacks: str = "", steppings: range = range(256)) -> _Design:
    spans = tuple(m if isinstance(m, range) else range(m, m + 1) for m in models)
    return _Design(name, spans, frozenset(lacks.split()), steppings)


_NO_AMX = "amx_tile"
_NO_AVX512 = "avx512f amx_tile"
_X86: Mapping[tuple[str, int], tuple[_Design, ...]] = {
    ("AuthenticAMD", 23): (
        _design("zen1", range(0x30), lacks=_NO_AVX512),
        _design("zen2", range(0x30, 0x50), range(0x60, 0x80), range(0x90, 0xB0), lacks=_NO_AVX512),
    ),
    ("AuthenticAMD", 25): (
        _design("zen3", range(0x10), range(0x20, 0x60), lacks=_NO_AVX512),
        _design("zen4", range(0x10, 0x20), range(0x60, 0x80), range(0xA0, 0xB0), lacks="avx_vnni amx_tile"),
    ),
    ("AuthenticAMD", 26): (_design("zen5", range(0x30), range(0x40, 0x50), range(0x60, 0x80), lacks=_NO_AMX),),
    ("GenuineIntel", 6): (
        _design("haswell", 60, 69, 70, lacks=_NO_AVX512),
        _design("haswell-sp", 63, lacks=_NO_AVX512),
        _design("broadwell", 61, 71, lacks=_NO_AVX512),
        _design("broadwell-sp", 79, 86, lacks=_NO_AVX512),
        _design("skylake", 78, 94, lacks=_NO_AVX512),
        _design("skylake-sp", 85, lacks="avx512_vnni amx_tile", steppings=range(5)),
        _design("cascadelake", 85, lacks="avx512_bf16 amx_tile", steppings=range(5, 10)),
        _design("cooperlake", 85, lacks=_NO_AMX, steppings=range(10, 16)),
        _design("kabylake", 142, 158, lacks=_NO_AVX512),
        _design("icelake", 125, 126, lacks=_NO_AMX),
        _design("icelake-sp", 106, 108, lacks="avx512_bf16 amx_tile"),
        _design("tigerlake", 140, 141, lacks=_NO_AMX),
        _design("rocketlake", 167, lacks="avx512_bf16 amx_tile"),
        _design("alderlake", 151, 154, lacks=_NO_AMX),
        _design("raptorlake", 183, 186, 191, lacks=_NO_AVX512),
        _design("sapphirerapids", 143, lacks="amx_fp16"),
        _design("emeraldrapids", 207, lacks="amx_fp16"),
        _design("graniterapids", 173, 174),
        _design("sierraforest", 175, lacks=_NO_AVX512),
        _design("meteorlake", 170, 172, lacks=_NO_AVX512),
        _design("arrowlake", 181, 197, 198, lacks=_NO_AVX512),
        _design("lunarlake", 189, lacks=_NO_AVX512),
    ),
}
_ARM: Mapping[tuple[str, int], str] = {
    ("0x41", 0xD08): "cortex-a72", ("0x41", 0xD0B): "cortex-a76", ("0x41", 0xD0C): "neoverse-n1",
    ("0x41", 0xD40): "neoverse-v1", ("0x41", 0xD49): "neoverse-n2", ("0x41", 0xD4F): "neoverse-v2",
    ("0x41", 0xD84): "neoverse-v3", ("0x41", 0xD8E): "neoverse-n3", ("0xc0", 0xAC3): "ampere1",
    ("0xc0", 0xAC4): "ampere1a",
}  # fmt: skip
_VENDORS: Mapping[str, str] = {
    "GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon", "0x41": "arm", "0xc0": "ampere",
    "0x48": "hisilicon", "0x46": "fujitsu", "0x4e": "nvidia", "0x51": "qualcomm", "0x61": "apple",
}  # fmt: skip


def microarchitecture(chip: Processor, architecture: str = "") -> str:
    """The microarchitecture's name, such as `zen4`; where it is not known, vendor, family and model: `intel6m167`.

    A hypervisor may report any model. One whose processors lack a flag that this one has is not believed.
    """
    if chip.family is None or chip.model is None:
        return re.sub(r"\W+", "", architecture or platform.machine()).lower() or "machine"
    for design in _X86.get((chip.vendor, chip.family), ()):
        alike = any(chip.model in span for span in design.models)
        stepping = _number(chip.stepping)
        if alike and (stepping is None or stepping in design.steppings) and not design.lacks & chip.flags:
            return design.name
    arm = _ARM.get((chip.vendor, chip.model))
    vendor = _VENDORS.get(chip.vendor) or re.sub(r"\W+", "", chip.vendor).lower()
    return arm or f"{vendor}{chip.family}m{chip.model}"
