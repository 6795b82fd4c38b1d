from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from attnbench.commands import doctor
from attnbench.machine import counters, disturbances, environment, fingerprint, linux, nvml
from attnbench.results.lines import decode, encode


def values(tree):
    """Every text in a tree of plain values, keys included."""
    if isinstance(tree, dict):
        return [text for key, value in tree.items() for text in (str(key), *values(value))]
    if isinstance(tree, list):
        return [text for value in tree for text in values(value)]
    return [str(tree)]


def test_it_needs_no_torch_to_be_imported():
    code = "import sys, attnbench.machine.environment, attnbench.machine.disturbances; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("quota", "threads"), [(None, 6), (0.5, 1), (2.0, 2), (3.9, 3), (6.0, 6), (100.0, 6)])
def test_the_threads_are_the_cores_that_affinity_and_quota_allow(monkeypatch, quota, threads):
    monkeypatch.setattr(linux, "affinity", lambda: (0, 1, 2, 3, 8, 9))
    monkeypatch.setattr(linux, "physical_cores", lambda cpus: 6)
    monkeypatch.setattr(linux, "cpu_quota", lambda: quota)
    assert environment.default_threads() == threads


@pytest.mark.parametrize(("cores", "threads"), [(2, 2), (4, 4), (None, 4)])
def test_hardware_threads_of_one_core_count_once_as_default_threads(monkeypatch, cores, threads):
    monkeypatch.setattr(linux, "affinity", lambda: (0, 1, 2, 3))
    monkeypatch.setattr(linux, "physical_cores", lambda cpus: cores)
    monkeypatch.setattr(linux, "cpu_quota", lambda: 8.0)
    assert environment.default_threads() == threads


def test_the_description_is_plain_and_holds_what_figures_depend_on():
    found = environment.describe(["cpu"])
    assert decode(environment.Environment, json.loads(json.dumps(encode(found)))) == found
    assert found.versions["torch"] == importlib.metadata.version("torch")
    assert found.torch.version == found.fingerprint.torch == torch.__version__  # says the build too: 2.11.0+cu130
    assert found.versions["attnbench"]
    assert found.devices["cpu"] == found.fingerprint.devices["cpu"]
    assert found.cpu.model in found.devices["cpu"]
    assert found.threads == environment.default_threads()
    assert found.torch.cpu_capability
    assert found.fingerprint.known
    assert found.machine_label == fingerprint.machine_name(found.fingerprint, fingerprint.processor().flags)


def test_the_description_names_no_user_no_host_and_no_path(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/home/somebody/cache")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("UNRELATED", "secret")
    monkeypatch.setattr(platform, "node", lambda: "a-host-of-mine")
    found = environment.describe(["cpu"])
    assert found.variables["OMP_NUM_THREADS"] == "3"
    assert found.variables["TORCHINDUCTOR_CACHE_DIR"] == "(a path)"
    assert "UNRELATED" not in found.variables
    texts = values(encode(found))
    assert not any("a-host-of-mine" in text or "somebody" in text for text in texts)
    assert not any(text.startswith("/") or str(Path.home()) in text for text in texts)
    assert getpass.getuser() not in texts


def test_hosts_differ_by_a_hash(monkeypatch):
    hashes = set()
    for node in ("one", "two", "one"):
        monkeypatch.setattr(platform, "node", lambda node=node: node)
        hashes.add(environment.describe(["cpu"]).host)
    assert len(hashes) == 2


def test_a_device_that_is_not_there_has_no_title(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = environment.describe(["cpu", "cuda:0"])
    assert found.devices["cuda:0"] == ""
    assert found.gpus == {}


def test_a_gpu_is_described_by_torch_and_nvml(monkeypatch):
    properties = SimpleNamespace(major=9, minor=0, total_memory=1 << 30, multi_processor_count=132, uuid="11-22")
    gpu = SimpleNamespace(facts=lambda: {"driver": "999.1", "power_cap_w": 600.0})
    monkeypatch.setattr(environment, "_title", lambda name: "Abacus H9")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(nvml, "open_gpu", lambda uuid: gpu if uuid == "11-22" else None)
    found = environment.describe(["cuda:1"])
    assert found.gpus["cuda:1"] == environment.Gpu(
        capability="9.0", memory_bytes=1 << 30, multiprocessors=132, driver="999.1", power_cap_w=600.0
    )
    assert found.fingerprint.power_caps_w == {"cuda:1": 600.0}
    properties.uuid = "33-44"
    monkeypatch.setattr(nvml, "why_not", lambda: "nvidia-ml-py is not installed")
    assert environment.describe(["cuda:1"]).gpus["cuda:1"].nvml == "nvidia-ml-py is not installed"


def git(folder: Path, *words: str) -> str:
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, env={**os.environ, **names}
    )
    return done.stdout.strip()


def test_the_code_is_named_by_its_commit_and_whether_it_was_changed(monkeypatch, tmp_path):
    package = tmp_path / "attnbench"
    package.mkdir()
    (tmp_path / "mechanisms").mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "mechanisms" / "msa.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE_DIR", package)
    assert environment.code_version() == environment.Code()  # no checkout
    git(tmp_path, "init", "-q")
    (tmp_path / "other.txt").write_text("")
    git(tmp_path, "add", "other.txt")
    git(tmp_path, "commit", "-qm", "none of ours")
    assert environment.code_version() == environment.Code()  # a checkout of something else
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment.code_version() == environment.Code(commit=commit)
    (tmp_path / "notes.txt").write_text("beside the code")
    assert environment.code_version() == environment.Code(commit=commit)
    (tmp_path / "mechanisms" / "new.py").write_text("")
    assert environment.code_version() == environment.Code(commit=commit, dirty=True)


def test_without_git_the_code_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.code_version() == environment.Code()


@pytest.fixture
def calm(monkeypatch):
    """A machine on which nothing disturbs."""
    seen = {"wall_s": 1.0, "other_cpu_s": 0.01, "load_1min": 0.1}
    monkeypatch.setattr(counters, "load_1min", lambda: seen["load_1min"])
    monkeypatch.setattr(counters, "throttling", lambda: (0, None))
    monkeypatch.setattr(counters, "HostReading", lambda: SimpleNamespace(finish=lambda: seen))
    monkeypatch.setattr(disturbances.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(linux, "affinity", lambda: (0, 1, 2, 3))
    for name, value in [
        ("governor", "performance"), ("cpu_quota", None), ("memory_free", 8 << 30),
    ]:  # fmt: skip
        monkeypatch.setattr(linux, name, lambda value=value: value)
    monkeypatch.setattr(linux, "physical_cores", lambda cpus: 4)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr("attnbench.machine.devices.present", lambda: ["cpu"])
    return seen


@pytest.mark.usefixtures("calm")
def test_a_calm_machine_has_no_disturbance():
    assert disturbances.disturbances() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"other_cpu_s": 1.0}, "other processes use 25% of the 4 CPUs; stop them"),
        ({"load_1min": 2.5}, "load average of the last minute is 2.50 on 4 CPUs; wait"),
    ],
)
def test_load_is_reported_with_its_remedy(calm, change, says):
    calm |= change
    (line,) = disturbances.disturbances()
    assert says in line


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("governor", "powersave", "governor is powersave, .* cpupower"),
        ("cpu_quota", 2.5, "allows 2.5 CPUs of time on 4 CPUs .* --threads at 2 or below"),
        ("memory_free", 1 << 30, "1.0 GiB of memory are free, below 2"),
    ],
)
def test_a_condition_of_the_host_is_reported_with_its_remedy(monkeypatch, name, value, says):
    monkeypatch.setattr(linux, name, lambda: value)
    (line,) = disturbances.disturbances()
    assert re.search(says, line)


@pytest.mark.usefixtures("calm")
def test_hardware_threads_that_share_cores_are_reported(monkeypatch):
    monkeypatch.setattr(linux, "physical_cores", lambda cpus: 2)
    (line,) = disturbances.disturbances()
    assert "4 hardware threads share 2 cores; --threads is 2 by default" in line
    assert "bind to one hardware thread of each core" in line


@pytest.mark.usefixtures("calm")
def test_another_malloc_is_reported(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    (line,) = disturbances.disturbances()
    assert "--allocator pinned has no effect" in line


@pytest.fixture
def gpu(calm, monkeypatch):
    state: dict[str, float] = {"throttle_bits": 0.0, "other_gpu_processes": 0.0}
    fake = SimpleNamespace(state=lambda own: state, facts=lambda: {"power_cap_w": 600.0, "power_cap_default_w": 700.0})
    monkeypatch.setattr("attnbench.machine.devices.present", lambda: ["cpu", "cuda:0"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="11-22"))
    monkeypatch.setattr(nvml, "library", lambda: object())
    monkeypatch.setattr(nvml, "open_gpu", lambda uuid: fake)
    return state


def test_power_cap_throttling_and_other_processes_of_a_gpu_are_reported(gpu):
    gpu |= {"throttle_bits": float(0x40), "other_gpu_processes": 2.0}
    others, throttling, cap = disturbances.disturbances()
    assert "2 other processes compute on cuda:0" in others
    assert "thermal_hardware" in throttling
    assert "capped at 600 W of 700 W" in cap


@pytest.mark.usefixtures("gpu")
def test_a_gpu_without_nvml_is_reported(monkeypatch):
    monkeypatch.setattr(nvml, "library", lambda: None)
    monkeypatch.setattr(nvml, "why_not", lambda: "nvidia-ml-py is not installed")
    (line,) = disturbances.disturbances()
    assert "nvidia-ml-py is not installed" in line
    assert "attnbench[gpu]" in line


def test_the_doctor_prints_the_machine_its_devices_and_what_disturbs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(disturbances, "disturbances", lambda: ["the room is too hot; open a window"])
    done = CliRunner().invoke(doctor.command, [], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert torch.__version__ in done.output
    assert "works in fp32, bf16, fp16" in done.output
    assert "does not work: device cuda needs" in done.output
    assert "! the room is too hot; open a window" in done.output


def test_the_doctor_names_the_machine_and_what_identifies_it():
    found = environment.Environment(
        machine_label="zen4-2c-3f9a",
        cpu=environment.Cpu(
            model="AMD EPYC", logical=8, usable=4, usable_cores=2, quota=1.5, turbo=False, numa_nodes=("0-3", "4-7")
        ),
        fingerprint=fingerprint.Fingerprint(
            vendor="AuthenticAMD", family=25, model=17, stepping="1", microcode="0xa1", cache_bytes={"L2": 1 << 20},
            isa_sha256="ab" * 32,
        ),
    )  # fmt: skip
    lines = dict(doctor._lines(found))
    assert lines["machine"] == "zen4-2c-3f9a"
    assert lines["cpu"] == "AMD EPYC: 4 of 8 CPUs on 2 physical cores, quota 1.5"
    identity = "AuthenticAMD family 25 model 17, stepping 1, microcode 0xa1, L2 1024 KiB, ISA flags abababababab"
    assert lines["identity"] == identity
    assert lines["numa"] == "2 nodes (node 0: CPUs 0-3; node 1: CPUs 4-7)"
    assert "turbo off" in lines["clock"]
    assert "turbo unknown" in dict(doctor._lines(environment.Environment()))["clock"]


def test_the_doctor_prints_the_same_as_json(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(disturbances, "disturbances", list)
    done = CliRunner().invoke(doctor.command, ["--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert set(report) == {"environment", "devices", "disturbances", "selftest"}
    assert set(report["environment"]) >= {
        "machine_label", "host", "os", "distribution", "kernel", "architecture", "libc", "container", "python",
        "versions", "code", "torch", "threads", "cpu", "memory", "devices", "gpus", "variables", "fingerprint",
    }  # fmt: skip
    on_cpu, on_cuda = report["devices"]
    assert (on_cpu["name"], on_cpu["works"], on_cpu["precisions"]) == ("cpu", True, ["fp32", "bf16", "fp16"])
    assert (on_cuda["name"], on_cuda["works"]) == ("cuda", False)
    assert report["disturbances"] == []


def test_the_doctor_reports_a_broken_device(monkeypatch):
    def broken(precision: str) -> torch.dtype:
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    device = SimpleNamespace(torch_device=lambda: torch.device("cpu"), set_precision=broken)
    assert doctor._try(device) == doctor.DeviceCheck(reason="CUDA error: no kernel image is available")
