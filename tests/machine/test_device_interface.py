"""The interface of devices: every kind has all of it, and no module outside the kinds names one where it could ask."""

from __future__ import annotations

import ast
import inspect
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import attnbench
from attnbench.machine import devices
from attnbench.machine.devices import cpu, cuda

KINDS = {"cpu": cpu.Cpu, "cuda": cuda.Cuda}
# Modules that name a kind for a reason, by what they name it for.
NAMED = {
    "registry/process_state.py": "switches of torch that a layer could change",
    "machine/environment.py": "the build and the backends of torch, as the run stores them",
    "report/claims.py": "the command that a reader is told",
    "commands/doctor.py": "the build of torch",
    "published/timm/__init__.py": "a column of timm's tables",
    "report/survival_sources.py": "the version of CUDA that timm's tables state",
    "measure/arm.py": "torch pins memory for CUDA alone",
    "runtimes/compile.py": "the kinds of device that it was tried on",
    "runtimes/eager.py": "the kinds of device that it was tried on",
}


def members(kind: type) -> dict[str, inspect.Signature]:
    return {n: inspect.signature(f) for n, f in vars(kind).items() if inspect.isfunction(f) and not n.startswith("_")}


def test_every_kind_of_device_is_covered_here():
    assert sorted(KINDS) == devices.kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_every_method_of_the_interface_with_its_parameters(kind):
    own = members(KINDS[kind])
    wanted = members(devices.Device)
    assert sorted(set(wanted) - set(own)) == []
    assert {n: list(own[n].parameters) for n in wanted} == {n: list(s.parameters) for n, s in wanted.items()}


def test_outside_the_kinds_no_module_names_cuda_where_the_interface_answers():
    package = Path(attnbench.__file__).parent
    found = set()
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        if name.startswith("machine/devices/"):
            continue
        tree = ast.parse(file.read_text())
        words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        asks = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "cuda"]
        if asks or any(word in ("cuda", "CUDA") or word.startswith("cuda:") for word in words):
            found.add(name)
    assert sorted(found - set(NAMED)) == [], "ask the device, or add the module to NAMED with the reason"


def test_facts_and_disturbances_come_from_the_kinds_that_can_say(monkeypatch):
    kinds = {
        "abacus": SimpleNamespace(facts=lambda name: {"beads": name}, disturbances=lambda names: [f"dust on {names}"]),
        "cpu": SimpleNamespace(),
    }
    monkeypatch.setattr(devices, "_module", kinds.__getitem__)
    assert devices.facts_of("abacus:1") == {"beads": "abacus:1"}
    assert devices.facts_of("cpu") == {}
    assert devices.disturbances_of(["cpu", "abacus:0", "abacus:1"]) == ["dust on ['abacus:0', 'abacus:1']"]


def test_a_limit_of_memory_on_a_gpu_is_a_share_of_all_it_has(monkeypatch):
    shares = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    gpu = cuda.Cuda(0)
    for limit in (0, 24 << 30, 100 << 30):
        gpu.limit_memory(limit)
    assert shares == [0.3, 1.0]


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU's memory is limited by RLIMIT_AS of Linux")
def test_a_limit_of_memory_on_the_cpu_counts_from_what_is_mapped(monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "setrlimit", lambda what, both: limits.append((what, both[0])))
    cpu.Cpu().limit_memory(1 << 30)
    cpu.Cpu().limit_memory(2 << 30)
    (one, first), (two, second) = limits
    assert one == two == resource.RLIMIT_AS
    assert second - first == pytest.approx(1 << 30, abs=64 << 20)


@pytest.mark.parametrize(
    ("words", "asked"), [("HIP error: the operation cannot be performed", True), ("shape '[3]' is invalid", False)]
)
def test_after_an_error_of_hip_the_device_is_asked_whether_it_still_works(monkeypatch, words, asked):
    def broken(device: object) -> None:
        raise RuntimeError("HIP error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert cuda.Cuda(0).is_sticky(RuntimeError(words)) is asked
