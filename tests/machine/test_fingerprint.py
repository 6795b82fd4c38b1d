"""Invented files of /proc and /sys -> fingerprints, differences and names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attnbench.machine import linux
from attnbench.machine.fingerprint import (
    Fingerprint,
    Processor,
    differences,
    machine_name,
    microarchitecture,
    processor,
)

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
microcode\t: 0xa101148
flags\t\t: fpu sse2 avx2 avx512f

processor\t: 1
vendor_id\t: GenuineIntel
"""
ARM = """processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd sve bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""
ZEN4 = Fingerprint(
    architecture="x86_64", cpu_model="AMD EPYC", vendor="AuthenticAMD", family=25, model=17, stepping="1",
    microcode="0xa101148", cache_bytes={"L1d": 32768, "L3": 1 << 25}, isa_sha256="ab", kernel="6.1", cpus=4, cores=2,
    torch="2.13",
)  # fmt: skip


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


def test_an_x86_processor_is_read_from_its_first_cpu(tmp_path):
    found = processor(write(tmp_path, {"proc/cpuinfo": X86}))
    assert found[:5] == ("AuthenticAMD", 25, 17, "1", "0xa101148")
    assert found.flags == {"fpu", "sse2", "avx2", "avx512f"}
    assert len(found.isa_sha256) == 64


def test_an_arm_processor_has_an_implementer_and_a_part_and_no_microcode(tmp_path):
    found = processor(write(tmp_path, {"proc/cpuinfo": ARM}))
    assert found[:5] == ("0x41", 8, 0xD40, "r1p1", "")
    assert microarchitecture(found) == "neoverse-v1"


def test_a_system_that_says_nothing_gives_an_empty_processor_and_a_name(tmp_path):
    found = processor(tmp_path)
    assert found == Processor()
    assert found.isa_sha256 == ""
    assert machine_name(Fingerprint(architecture="arm64", kernel="23.1", cpus=8)).startswith("arm64-8c-")


def test_the_hash_of_the_flags_does_not_depend_on_their_order(tmp_path):
    one = processor(write(tmp_path / "a", {"proc/cpuinfo": "flags : b a"}))
    assert one.isa_sha256 == processor(write(tmp_path / "b", {"proc/cpuinfo": "flags : a b"})).isa_sha256


@pytest.mark.parametrize(
    ("vendor", "family", "model", "stepping", "flags", "name"),
    [
        ("AuthenticAMD", 23, 1, "2", "avx2", "zen1"),
        ("AuthenticAMD", 23, 49, "0", "avx2", "zen2"),
        ("AuthenticAMD", 25, 1, "1", "avx2", "zen3"),
        ("AuthenticAMD", 25, 17, "1", "avx512f", "zen4"),
        ("AuthenticAMD", 26, 2, "1", "avx512f avx_vnni", "zen5"),
        ("GenuineIntel", 6, 85, "4", "avx512f", "skylake-sp"),
        ("GenuineIntel", 6, 85, "7", "avx512f avx512_vnni", "cascadelake"),
        ("GenuineIntel", 6, 106, "6", "avx512f avx512_vnni", "icelake-sp"),
        ("GenuineIntel", 6, 143, "8", "avx512f amx_tile", "sapphirerapids"),
        ("GenuineIntel", 6, 207, "2", "amx_tile", "emeraldrapids"),
        ("GenuineIntel", 6, 173, "1", "amx_tile amx_fp16", "graniterapids"),
        ("GenuineIntel", 6, 151, "2", "avx2", "alderlake"),
        ("GenuineIntel", 6, 167, "1", "avx512f", "rocketlake"),
        ("GenuineIntel", 6, 167, "1", "avx512f amx_tile", "intel6m167"),  # a hypervisor's invention
        ("AuthenticAMD", 25, 1, "1", "avx2 avx512f", "amd25m1"),
        ("GenuineIntel", 6, 999, "1", "", "intel6m999"),
        ("0x41", 8, 0xD0C, "r3p1", "", "neoverse-n1"),
        ("0x41", 8, 0x123, "r0p0", "", "arm8m291"),
    ],
)
def test_a_model_has_its_microarchitecture_unless_its_flags_contradict_it(vendor, family, model, stepping, flags, name):
    assert microarchitecture(Processor(vendor, family, model, stepping, "", frozenset(flags.split()))) == name


def test_the_name_is_short_and_names_the_cores_that_may_be_used():
    name = machine_name(ZEN4, ["avx512f"])
    word, cores, digits = name.split("-")
    assert (word, cores, len(digits)) == ("zen4", "2c", 4)
    assert int(digits, 16) >= 0


@pytest.mark.parametrize("change", [{"torch": "2.14"}, {"kernel": "6.2"}, {"devices": {"cuda:0": "H100"}}])
def test_software_and_gpus_are_no_part_of_the_name(change):
    assert machine_name(replace(ZEN4, **change)) == machine_name(ZEN4)


@pytest.mark.parametrize(
    "change", [{"microcode": "0x2"}, {"stepping": "2"}, {"isa_sha256": "cd"}, {"cache_bytes": {}}, {"cpu_quota": 1.5}]
)
def test_what_identifies_the_processor_is_part_of_the_name(change):
    assert machine_name(replace(ZEN4, **change)) != machine_name(ZEN4)


def test_fingerprints_that_differ_name_the_field_and_both_values():
    assert differences(ZEN4, replace(ZEN4)) == []
    other = replace(ZEN4, microcode="0x2", torch="2.5")
    assert differences(ZEN4, other) == ["microcode: '0xa101148' against '0x2'", "torch: '2.13' against '2.5'"]
    assert differences(ZEN4, replace(ZEN4, family=None)) == ["family: 25 against None"]
    assert differences(ZEN4, replace(ZEN4, family=None), only_stored=True) == []


def test_only_devices_that_both_runs_measured_on_are_compared():
    one, other = replace(ZEN4, devices={"cpu": "A"}), replace(ZEN4, devices={"cpu": "A", "cuda:0": "B"})
    assert differences(one, other) == []
    assert differences(other, replace(one, devices={"cuda:0": "C"})) == ["devices: cuda:0 'B' against 'C'"]


def test_of_caches_those_are_named_that_differ_and_of_a_digest_its_first_digits():
    one = replace(ZEN4, cache_bytes={"L1": 1, "L2": 2}, isa_sha256="a" * 64)
    other = replace(ZEN4, cache_bytes={"L1": 1, "L2": 3, "L3": 4}, isa_sha256="b" * 64)
    assert differences(one, other) == [
        "cache_bytes: L2 2 against 3, L3 None against 4",
        "isa_sha256: 'aaaaaaaaaaaa' against 'bbbbbbbbbbbb'",
    ]


def test_caches_are_named_by_level_and_the_last_is_the_largest(tmp_path):
    caches = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M"), ("3", "Unified", "60M")]
    names = ("level", "type", "size")
    files = {
        f"sys/devices/system/cpu/cpu0/cache/index{i}/{name}": word
        for i, words in enumerate(caches)
        for name, word in zip(names, words, strict=True)
    }
    write(tmp_path, files)
    assert linux.cache_bytes(tmp_path) == {"L1d": 48 << 10, "L1i": 32 << 10, "L2": 2 << 20, "L3": 60 << 20}
    assert linux.last_level_cache_bytes(tmp_path) == 60 << 20
    assert linux.cache_bytes(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("file", "word", "turbo"),
    [
        ("intel_pstate/no_turbo", "1", False),
        ("intel_pstate/no_turbo", "0", True),
        ("cpufreq/boost", "1", True),
        ("cpufreq/boost", "0", False),
        ("cpufreq/other", "1", None),
    ],
)
def test_turbo_is_read_from_either_driver(tmp_path, file, word, turbo):
    assert linux.turbo(write(tmp_path, {f"sys/devices/system/cpu/{file}": word})) is turbo


def test_numa_nodes_are_listed_in_their_order_with_their_cpus(tmp_path):
    files = {f"sys/devices/system/node/node{n}/cpulist": f"{8 * n}-{8 * n + 7}" for n in (10, 0, 1)}
    assert linux.numa_nodes(write(tmp_path, files)) == ("0-7", "8-15", "80-87")
    assert linux.numa_nodes(tmp_path / "nowhere") == ()


def test_the_boot_has_an_identifier_where_the_system_gives_one(tmp_path):
    assert linux.boot_id(write(tmp_path, {"proc/sys/kernel/random/boot_id": "4d25"})) == "4d25"
    assert linux.boot_id(tmp_path / "nowhere") == ""


def test_the_cpus_and_memory_nodes_of_a_bound_process_are_read(tmp_path):
    status = "Name:\tpython\nCpus_allowed_list:\t0-3,8\nMems_allowed_list:\t1\n"
    assert linux.bound_to(write(tmp_path, {"proc/self/status": status})) == ("0-3,8", "1")
    assert linux.bound_to(tmp_path / "nowhere") == ("", "")
