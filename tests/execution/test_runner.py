"""The runner end to end, with real child processes: outcomes, isolation, resume, interruption."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from plugins import HOSTILE, WORDY, write_plugin

from attnbench import AttnbenchError, Sweep, load, run
from attnbench.execution import machine_cache
from attnbench.execution.machine_facts import spread_key
from attnbench.machine import environment
from attnbench.planning import protocol
from attnbench.results.events import BetweenRuns
from attnbench.results.store import open_run, read_events

SMALL = {"dim": (24,), "heads": (3,), "res": ((64, 64),), "batch": (1,), "threads": (1,), "protocol": "quick"}
FAST = {**SMALL, "overrides": (("prime_s", 0.0), ("looks", (6,)), ("processes", 2), ("timeout_s", 60.0))}


def cli(*words: str, cwd: Path, **kw) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *words], cwd=cwd, capture_output=True, text=True, timeout=240, **kw
    )


def wait_for_growth(file: Path, bytes_: int, child: subprocess.Popen) -> None:
    """Until the file has grown by so many bytes, the process has ended, or a minute has passed."""
    before, until = file.stat().st_size if file.exists() else 0, time.monotonic() + 60
    while time.monotonic() < until and child.poll() is None:
        if file.exists() and file.stat().st_size >= before + bytes_:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.02)


def test_every_planned_cell_has_its_record_with_every_quantity_that_applies(tmp_path):
    folder = run(
        Sweep(mechanism=("msa", "hilo"), kernel=("eager", "sdpa"), pass_=("forward", "train"), **FAST), tmp_path / "r"
    )
    table = load(folder)
    assert len(table) == 8
    assert set(table.outcome) == {"ok"}
    wanted = ["params", "macs", "macs_fvcore", "macs_formula", "latency_s", "latency_low_s", "latency_high_s"]
    wanted += ["throughput_img_per_s", "ratio_to_reference", "ratio_low", "ratio_high", "reference", "rounds"]
    wanted += ["peak_memory_bytes", "device_name", "kernel_ran"]
    assert not table[wanted].isna().any(axis=None)
    assert (table.macs == table.macs_formula).all()
    assert set(table.kernel_ran[table.kernel == "sdpa"].str.partition(":")[0]) == {"sdpa"}
    assert (table.latency_low_s <= table.latency_s).all()
    assert (table.latency_s <= table.latency_high_s).all()


def test_eight_hostile_layers_cost_their_own_cells_and_no_others(tmp_path):
    hostile = write_plugin(tmp_path / "hostile.py", {**HOSTILE, "talks_much": WORDY})
    numbers = dict(FAST["overrides"]) | {"timeout_s": 20.0, "memory_limit": 1 << 30}
    sweep = Sweep(
        mechanism=("msa", "hilo", *HOSTILE, "talks_much"),
        plugins=(str(hostile),),
        **{**FAST, "overrides": tuple(numbers.items())},
    )
    records = {r.cell.mechanism: r for r in open_run(run(sweep, tmp_path / "r")).records}
    told = {name: (r.outcome, r.reason) for name, r in records.items() if r.outcome != "ok"}
    assert sorted(name for name, r in records.items() if r.outcome == "ok") == ["hilo", "msa", "talks_much"]
    assert {name: outcome for name, (outcome, _) in told.items()} == {
        "raises": "failed",
        "wrong_shape": "failed",
        "gives_nan": "failed",
        "never_returns": "timeout",
        "eats_memory": "oom",
        "kills_itself": "crashed",
        "calls_exit": "crashed",
        "leaves_a_thread": "failed",
    }
    assert "the layer says no" in told["raises"][1]
    assert "got 1x3x4x24 from 1x4x4x24" in told["wrong_shape"][1]
    assert "NaN or infinite" in told["gives_nan"][1]
    assert "20 s" in told["never_returns"][1]
    assert "SIGKILL" in told["kills_itself"][1]
    assert "sys.exit(5)" in told["calls_exit"][1]
    assert "thread" in told["leaves_a_thread"][1]


def test_a_layer_that_dies_while_it_is_timed_costs_only_itself(tmp_path):
    late = "self.n = getattr(self, 'n', 0) + 1\n        if self.n > 12: os.kill(os.getpid(), 11)"
    late += "\n        return self.line(x)"
    plugin = write_plugin(tmp_path / "late.py", {"dies_late": late})
    records = {
        r.cell.mechanism: r
        for r in open_run(
            run(Sweep(mechanism=("msa", "dies_late"), plugins=(str(plugin),), **FAST), tmp_path / "r")
        ).records
    }
    assert records["msa"].outcome == "ok"
    assert records["msa"].values["rounds"] == 6
    assert records["dies_late"].outcome == "crashed"
    assert "SIGSEGV" in records["dies_late"].reason


ALONE = Sweep(mechanism=("msa",), **FAST)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of `ALONE`, to copy."""
    return run(ALONE, tmp_path_factory.mktemp("finished") / "r")


def test_a_run_takes_over_what_runs_of_its_protocol_differed_by_and_keeps_it_in_its_journal(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    before = open_run(finished)
    base = before.cells[0]
    known = BetweenRuns(
        key=spread_key(base, protocol.get("quick", FAST["overrides"])), runs=10, measured="now", ratio_sd={},
        other_ratio_sd=0.25, time_sd={}, other_time_sd=0.5,
    )  # fmt: skip
    machine_cache.write(known, environment.torch_version())
    other = replace(known, key=spread_key(base, protocol.get("quick")), other_ratio_sd=9.0)  # of other numbers
    machine_cache.write(other, environment.torch_version())
    folder = run(Sweep(mechanism=("msa", "hilo"), measure=("latency",), **FAST), tmp_path / "r")
    msa, hilo = (r.values for r in open_run(folder).records)
    assert (msa["run_ratio_sd"], hilo["run_ratio_sd"], hilo["run_time_sd"], hilo["run_df"]) == (0, 0.25, 0.5, 9)
    assert hilo["ratio_error"] > 0.25
    assert hilo["latency_high_s"] > 2 * hilo["latency_s"]
    assert [e for e in read_events(folder) if isinstance(e, BetweenRuns)] == [known]
    assert not any("run_df" in r.values for r in before.records)


def test_the_same_folder_goes_on_and_another_plan_is_refused(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "r")
    before = (folder / "records.jsonl").read_bytes()
    run(ALONE, folder)
    assert (folder / "records.jsonl").read_bytes() == before
    with pytest.raises(AttnbenchError, match="an output folder holds one plan"):
        run(Sweep(mechanism=("hilo",), **FAST), folder)


def test_a_round_whose_line_stands_twice_in_the_journal_is_counted_once(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "r")
    samples = folder / "samples.jsonl"
    lines = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join(line * 2 for line in lines))
    (folder / "records.jsonl").unlink()
    (record,) = open_run(run(ALONE, folder)).records
    assert record.values["rounds"] == sum('"kind":"round"' in line for line in lines)


def test_killed_at_random_moments_the_same_command_completes_the_plan(tmp_path):
    words = ["run", "-m", "msa,hilo", "--kernel", "eager,sdpa", "--res", "64,96", "--dim", "24", "--heads", "3"]
    words += ["--batch", "1", "--threads", "1", "--protocol", "quick", "--rounds", "8", "--out", "r", "-q"]
    rng, records, samples = random.Random(3), tmp_path / "r" / "records.jsonl", tmp_path / "r" / "samples.jsonl"
    for _ in range(3):
        kept = records.read_bytes() if records.exists() else b""
        child = subprocess.Popen([sys.executable, "-m", "attnbench", *words], cwd=tmp_path, start_new_session=True)
        wait_for_growth(samples, rng.randint(1, 2500), child)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        now = records.read_bytes() if records.exists() else b""
        assert now.startswith(kept[: kept.rfind(b"\n") + 1])
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = open_run(tmp_path / "r")
    assert sorted(r.cell.id for r in found.records) == sorted(c.id for c in found.cells)
    assert len(records.read_text().splitlines()) == len(found.cells) == 8


def test_ctrl_c_finishes_the_turn_says_how_to_go_on_and_exits_with_130(tmp_path):
    words = ["run", "-m", "msa,hilo", "--res", "224", "--batch", "4", "--protocol", "standard", "--out", "r"]
    child = subprocess.Popen(
        [sys.executable, "-m", "attnbench", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    samples = tmp_path / "r" / "samples.jsonl"
    while not (samples.exists() and '"round"' in samples.read_text()):
        wait_for_growth(samples, 1, child)
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=200)
    assert child.returncode == 130
    assert "resume with:" in told
    assert "attnbench run -m msa,hilo" in told
    rounds = [line for line in map(json.loads, samples.read_text().splitlines()) if line["kind"] == "round"]
    assert rounds


def test_measuring_counts_alone_starts_no_trial(tmp_path):
    folder = run(Sweep(mechanism=("msa",), measure=("params", "macs"), **SMALL), tmp_path / "r")
    row = load(folder).iloc[0]
    assert row.outcome == "ok"
    assert row.macs == row.macs_formula
    assert row.isna()["latency_s"]
    assert not [line for line in (folder / "samples.jsonl").read_text().splitlines() if '"trial"' in line]


def test_the_papers_procedure_is_one_block_without_an_interval(tmp_path):
    folder = run(
        Sweep(mechanism=("msa",), **{**SMALL, "protocol": "paper", "overrides": (("calls", 5),)}), tmp_path / "r"
    )
    row = load(folder).iloc[0]
    assert row.rounds == 1
    assert "no_interval" in row["flag_names"]
    assert row.isna()["latency_low_s"]


def test_a_layer_of_which_only_counts_were_wanted_fails_where_it_cannot_be_counted(tmp_path):
    hostile = write_plugin(tmp_path / "hostile.py", {"uncountable": HOSTILE["raises"]})
    sweep = Sweep(mechanism=("msa", "uncountable"), plugins=(str(hostile),), measure=("params", "macs"), **FAST)
    records = {r.cell.mechanism: r for r in open_run(run(sweep, tmp_path / "r")).records}
    assert records["msa"].outcome == "ok"
    assert records["uncountable"].outcome == "failed"
    assert "could not be counted" in records["uncountable"].reason


CONTEXT_LOST = """
from attnbench.machine.devices.cpu import Cpu
Cpu.is_sticky = lambda self, error: "device-side assert" in str(error)  # as a GPU's context would be
"""


@pytest.mark.parametrize(
    ("words", "outcome"),
    [("CUDA error: device-side assert triggered", "crashed"), ("CUDA out of memory. Tried to allocate 2 GiB", "oom")],
)
def test_an_error_of_the_device_while_timing_costs_its_own_arm_and_the_run_goes_on(
    tmp_path, monkeypatch, words, outcome
):
    from attnbench.machine.devices.cpu import Cpu

    monkeypatch.setattr(Cpu, "is_sticky", Cpu.is_sticky)  # the plugin is imported here too: put back afterwards
    late = f"self.n = getattr(self, 'n', 0) + 1\n        if self.n > 12: raise RuntimeError({words!r})"
    plugin = write_plugin(tmp_path / "late.py", {"fails_late": late + "\n        return self.line(x)"})
    plugin.write_text(CONTEXT_LOST + plugin.read_text())
    sweep = Sweep(mechanism=("msa", "fails_late"), plugins=(str(plugin),), **FAST)
    records = {r.cell.mechanism: r for r in open_run(run(sweep, tmp_path / "r")).records}
    assert (records["msa"].outcome, records["msa"].values["rounds"]) == ("ok", 6)
    assert (records["fails_late"].outcome, records["fails_late"].reason) == (outcome, words)
