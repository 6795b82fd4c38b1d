"""The scripts in benchmarks/: each can be imported, and the kernel comparison reads its axes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from attnbench import AttnbenchError, registry
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.record import Record

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_imported(script):
    assert callable(runpy.run_path(str(script))["main"])


def test_the_kernel_comparison_reads_its_axes_before_it_opens_a_run(monkeypatch, tmp_path):
    (speed,) = (script for script in SCRIPTS if script.stem == "speed")
    folder = str(tmp_path / "nowhere")
    monkeypatch.setattr(
        sys, "argv", ["speed.py", "--from-run", "--run", folder, "--res", "224,384x512", "--batch", "1"]
    )
    with pytest.raises(AttnbenchError, match="nowhere"):
        runpy.run_path(str(speed), run_name="__main__")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--from-run", "--run", folder, "--batch", "one"])
    with pytest.raises(AttnbenchError, match="whole numbers; got 'one'"):
        runpy.run_path(str(speed), run_name="__main__")


def test_agreement_counts_a_record_without_an_interval_and_leaves_it_out():
    (agreement,) = (script for script in SCRIPTS if script.stem == "agreement")
    script = runpy.run_path(str(agreement))
    cells = plan(Sweep(mechanism=("hilo",)), registry.load(entry_points=False)).cells
    cell = next(c for c in cells if c.mechanism == "hilo")
    whole = {"ratio_to_reference": 1.5, "ratio_low": 1.4, "ratio_high": 1.6, "ratio_error": 0.02}
    block, failed = {"ratio_to_reference": 1.5}, {}
    records = [Record(cell=cell, outcome="ok", values=values) for values in (whole, block, failed, whole)]
    spreads = {}
    assert script["collect"](records, spreads) == 2
    assert spreads["hilo"].claimed == pytest.approx(0.02)
    assert len(spreads["hilo"].logs) == 2
