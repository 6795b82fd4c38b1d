"""What commands that measure print at 80 and at 200 columns, on a machine whose measurements are invented.

The texts are in golden/, as those of test_golden_text.py, and are written anew in the same way.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import invented_machine
from support.git_repository import commit_all, create
from support.golden_text import WIDTHS, assert_golden, printed

from attnbench import conformance
from attnbench.analysis.statistics import Interval
from attnbench.commands import doctor
from attnbench.conformance import Report
from attnbench.conformance.subject import CheckResult
from attnbench.machine import disturbances
from attnbench.selftest import sensitivity, stored
from attnbench.selftest.sensitivity import Sensitivity
from attnbench.studies import protocols, spectrum

TINY = "--res 32 --batch 1 --dim 24 --heads 3 --threads 2"
ARMS = "msa,hilo,sra,window,hornet"
MEASURED = {  # a name under golden/: the command, and the code with which it ends
    "run": (f"run -m {ARMS} {TINY} --protocol quick --out mine", 0),
    "run-with-failures": (
        f"run -m {ARMS},linear_attention --kernel sdpa,eager {TINY} --protocol quick --rounds 6 --out mine", 3,
    ),
    "run-within": (f"run -m {ARMS} {TINY} --within 1h --out mine", 0),
    "check": ("check hilo --no-compile", 1),
    "doctor": ("doctor", 0),
    "doctor-of-a-quiet-machine": ("doctor", 0),
    "ab": (f"ab --base HEAD --plugin layer.py -m mine {TINY} --protocol quick --out run", 0),
    "spectrum": ("spectrum --res 64 --out figure", 0),
    "protocols": (f"protocols -m msa,hilo,sra {TINY} --rounds 6 --processes 2 --out study", 0),
    "selftest": ("selftest --out found.json", 0),
    "completion": ("completion bash", 0),
}  # fmt: skip
LAYER = """
from attnbench import mechanism
from torch import nn

@mechanism(name="mine", defaults={})
class Mine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x):
        return self.line(x)
"""
CHECKED = Report(
    "my_attention[window_size=4]", "my_attention.py", 24, 3,
    (
        CheckResult("shape", "pass", "9 grids"),
        CheckResult("batch", "fail", "an image must give the same alone and in a batch; got a difference of 0.31 of "
                    "the largest output on 14x14", "compute no statistic over the batch, or declare batch_coupled with "
                    "the reason"),
        CheckResult("kernels", "pass", "eager, sdpa: within 2.4e-07 of the largest output"),
        CheckResult("macs", "note", "no closed formula; the counters give 1.23 M at 14x14", "add macs= to @mechanism"),
    ),
)  # fmt: skip
FOUND = Sensitivity(
    trials=10, excluding=1, rate=Interval(0.1, 0.0025, 0.445), rate_of_all_pairs=Interval(0.0474, 0.011, 0.17),
    half_width=0.0123, reference_half_width=0.0091, twice=Interval(0.512, 0.508, 0.516), twice_hits=9,
    allocation=(64.2 * 2**20, 64 * 2**20), delay=(0.00203, 0.002), alone=Interval(0.987, 0.971, 1.003),
)  # fmt: skip


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The invented machine, and what the commands find out beside the runner."""
    name = request.node.callspec.params["name"] if hasattr(request.node, "callspec") else ""
    invented_machine.invent(monkeypatch, faults=name == "run-with-failures")
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(protocols, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(conformance, "examine", lambda _: CHECKED)
    monkeypatch.setattr(sensitivity, "measure_sensitivity", _self_test)
    monkeypatch.setattr(spectrum, "measure", lambda *_, **__: {"caption": "What the figure shows. " * 20})
    monkeypatch.setattr(spectrum, "write", lambda _, out: [out / "spectrum.json", out / "fig5-spectrum.pdf"])
    quiet = name == "doctor-of-a-quiet-machine"
    monkeypatch.setattr(disturbances, "disturbances", lambda: [] if quiet else [DISTURBED] * 2)
    monkeypatch.setattr(stored, "latest", lambda: _stored() if quiet else None)
    devices = (
        doctor.DeviceCheck(name="cpu", title="AMD EPYC (2 cores)", works=True, precisions=("fp32", "bf16", "fp16")),
        doctor.DeviceCheck(name="cuda", reason="device cuda needs a CUDA build of torch and a visible GPU; got torch "
                           "2.13.0, built without CUDA, and 0 GPUs; install a CUDA build and a driver (check with "
                           "nvidia-smi), or use --device cpu"),
    )  # fmt: skip
    monkeypatch.setattr(doctor, "_devices", lambda: devices)


DISTURBED = (
    "other processes use 63% of the 2 CPUs; stop them, or bind this process to free CPUs: taskset -c LIST attnbench ..."
)


def _self_test(*, progress, **_) -> Sensitivity:
    progress("a known allocation and a known delay")
    return FOUND


def _stored() -> dict[str, object]:
    made = stored.describe(FOUND, device="cpu", protocol="quick", allocator="pinned")
    return {**made, "created": "2026-01-02T03:04:05+00:00"}


def masked(text: str) -> str:
    """Identifiers, which hold a path or a moment, as zeros."""
    return re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{8}(?:[0-9a-f]{4})?\b", lambda found: "0" * len(found[0]), text)


@pytest.mark.parametrize("name", MEASURED)
def test_a_command_that_measures_prints_the_golden_text(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    command, code = MEASURED[name]
    texts = {}
    for width in WIDTHS:
        folder = tmp_path / str(width)
        if name == "ab":
            create(folder)
            (folder / "layer.py").write_text(LAYER)
            commit_all(folder, "first")
            (folder / "layer.py").write_text(LAYER.replace("return self", "return 1.0 * self"))
        texts[width] = masked(printed(shlex.split(command), width, folder, monkeypatch, code=code))
    assert_golden(name, texts, request.config)
