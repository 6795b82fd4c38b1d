"""What goes wrong on a device costs the layer that caused it, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attnbench import Sweep, run
from attnbench.results.store import open_run

HOSTILE = str(Path(__file__).parents[2] / "benchmarks" / "proof" / "hostile.py")
TINY = {"res": ((64, 64),), "dim": (24,), "heads": (3,), "batch": (1,), "threads": (1,), "plugins": (HOSTILE,)}
SHORT = (("looks", (2,)), ("processes", 1))
_LIMITED = """
import sys, torch
from attnbench.machine.devices import open_device
device = open_device(sys.argv[1])
where = device.torch_device()
torch.ones(8, device=where).sum().item()
device.limit_memory(512 << 20)
try:
    torch.ones(1 << 30, dtype=torch.uint8, device=where)
except Exception as error:
    assert device.is_out_of_memory(error), error
    assert not device.is_sticky(error), error
else:
    raise SystemExit("a GiB fits into 512 MiB")
assert torch.ones(1 << 20, dtype=torch.uint8, device=where).sum(dtype=torch.int64).item() == 1 << 20
"""


def outcomes(folder: Path) -> dict[str, str]:
    return {r.cell.variant: r.outcome for r in open_run(folder).records}


def test_memory_beyond_the_limit_is_out_of_memory_and_the_device_goes_on(device):
    done = subprocess.run([sys.executable, "-c", _LIMITED, device.name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_fault_on_the_device_while_timing_costs_its_layer_alone(device, tmp_path):
    sweep = Sweep(mechanism=("late", "msa"), device=(device.name,), measure=("latency",), overrides=SHORT, **TINY)
    assert outcomes(run(sweep, tmp_path / "r")) == {"late": "crashed", "msa": "ok"}


@pytest.mark.slow
def test_a_call_that_never_returns_is_a_timeout_and_the_device_serves_the_next(device, tmp_path):
    limit = 20.0 if device.name == "cpu" else 30.0
    sweep = Sweep(
        mechanism=("hangs", "msa"), device=(device.name,), measure=("latency",), **TINY,
        overrides=(*SHORT, ("timeout_s", limit)),
    )  # fmt: skip
    assert outcomes(run(sweep, tmp_path / "r")) == {"hangs": "timeout", "msa": "ok"}
