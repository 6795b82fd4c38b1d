"""The proof for a GPU: its table, its bookkeeping, and its steps on the CPU, from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnbench import Sweep, registry
from attnbench.commands.options import read_sweep
from attnbench.execution.fork_server import ForkServer
from attnbench.execution.jobs import CountJob
from attnbench.planning.sweep import plan
from attnbench.published.suites import SUITES
from attnbench.registry.variant import parse_variant, split_list

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu_proof.py"
REFERENCE = sorted((ROOT / "benchmarks" / "reference").glob("*.toml"))


@pytest.fixture
def proof(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import proof.check
    import proof.files

    return proof


def run(out: Path, *words: str, device: str = "cpu") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--device", device, "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True)


def verdicts(out: Path, step: str) -> dict[str, str]:
    return {c["name"]: c["verdict"] for c in json.loads((out / "steps" / f"{step}.json").read_text())["checks"]}


def test_the_table_counts_verdicts_and_keeps_its_columns(proof):
    checks = (proof.check.check("a | b", "1", "two\nlines", False), proof.check.not_applicable("c", "d", "no GPU"))
    text = proof.check.table([proof.check.Result(step="one", checks=checks, commands=("make tea",))], ["head"])
    assert "0 proved, 1 refuted, 1 not applicable, 0 not finished." in text
    assert "| one | a \\| b | 1 | two lines | refuted |" in text
    assert "    make tea" in text


def test_a_result_is_read_as_it_was_written_and_a_damaged_one_not_at_all(proof, tmp_path):
    path = tmp_path / "steps" / "one.json"
    result = proof.check.Result(step="one", checks=(proof.check.unfinished("a", "b", "c"),), commands=("x",), seconds=2)
    result.write(path)
    assert proof.check.read(path) == result
    assert not result.finished
    path.write_text(path.read_text()[:-9])
    assert proof.check.read(path) is None


def test_open_files_are_counted_by_their_names(proof, tmp_path):
    (tmp_path / "nvidia0").write_text("")
    with (tmp_path / "nvidia0").open(), (tmp_path / "nvidia0").open():
        assert proof.files.open_files(os.getpid(), (str(tmp_path / "nvidia"),)) == 2
        assert proof.files.open_files(os.getpid(), ("/dev/nvidia",)) == 0


def test_a_server_and_its_children_are_told_apart(proof):
    cell = plan(Sweep(mechanism=("msa",), dim=(24,), heads=(3,)), registry.load(entry_points=False)).cells[0]
    with proof.files.Watch(prefixes=("/dev/null",), every_s=0.002) as watch, ForkServer() as server:
        list(server.do(CountJob(cell=cell), patience_s=60))
        assert watch.most["server"] == 0
        assert watch.most["child"] > 0  # its input


def test_a_device_that_is_absent_ends_with_two_and_the_remedy(tmp_path):
    done = run(tmp_path, device="cuda:99")
    assert done.returncode == 2
    assert "cuda" in done.stderr
    assert not (tmp_path / "proof.md").exists()


def test_a_step_with_a_result_is_not_repeated_and_one_without_time_is_left_open(tmp_path):
    first = run(tmp_path, "--steps", "queue,conditions", "--hours", "0")
    assert first.returncode == 3
    assert verdicts(tmp_path, "queue") == {"the step": "not finished"}
    assert run(tmp_path, "--steps", "queue").returncode == 0
    kept = (tmp_path / "steps" / "queue.json").stat().st_mtime_ns
    assert run(tmp_path, "--steps", "queue").returncode == 0
    assert (tmp_path / "steps" / "queue.json").stat().st_mtime_ns == kept
    assert run(tmp_path, "--steps", "queue", "--again", "queue").returncode == 0
    assert (tmp_path / "steps" / "queue.json").stat().st_mtime_ns > kept


def test_a_step_that_would_take_ten_minutes_is_killed_and_stays_open(tmp_path):
    done = run(tmp_path, "--steps", "hang", "--hours", str(4 / 3600))
    assert done.returncode == 3, done.stdout
    assert verdicts(tmp_path, "hang") == {"the step": "not finished"}


TOOL_STEPS = ("quick", "late", "hang", "oom", "train", "compile_all", "energy", "flex", "recompile", "graphs", "paper")


@pytest.mark.parametrize("name", TOOL_STEPS)
def test_on_a_gpu_a_run_that_left_no_record_proves_nothing(proof, monkeypatch, tmp_path, name):
    from proof import context, tool_steps

    nothing = context.ToolRun(code=1, folder=tmp_path / "none")
    monkeypatch.setattr(context.Context, "tool", lambda self, *words, **more: nothing)
    shown = SimpleNamespace(stdout="--graphs", returncode=0)
    monkeypatch.setattr(tool_steps.subprocess, "run", lambda *args, **more: shown)
    made = context.Context(device="cuda", out=tmp_path, tiny=False, memory="24GiB", step=name)
    found = {c.name: c.verdict for c in getattr(tool_steps, name)(made)}
    assert found
    assert "proved" not in found.values()


def test_a_replay_is_judged_against_its_launched_pair(proof, monkeypatch, tmp_path):
    from proof import context, tool_steps

    def record(variant: str, batch: int, graphs: bool, seconds: float, growth: float, outcome: str = "ok") -> object:
        cell = SimpleNamespace(variant=variant, pass_="forward", batch=batch, graphs=graphs)
        values = {"latency_s": seconds, "peak_growth_bytes": growth}
        return SimpleNamespace(cell=cell, values=values, outcome=outcome, reason="cannot be captured: item")

    pairs = [
        record("msa", b, g, 1.0 if g else s, 100 + 5 * g) for b, s in ((1, 2.0), (64, 1.01)) for g in (False, True)
    ]
    refused = [record("waits", 1, True, 1, 1, "failed"), record("msa", 1, True, 1, 1)]

    class Run:
        code = 0

        def __init__(self, records: list) -> None:
            self.records = records

        def outcomes(self) -> dict[str, str]:
            return {r.cell.variant: r.outcome for r in self.records}

    runs = {"graphs": Run(pairs), "graphs-waits": Run(refused)}
    monkeypatch.setattr(context.Context, "tool", lambda self, name, *words, **more: runs.get(name, Run(refused[1:])))
    monkeypatch.setattr(tool_steps.subprocess, "run", lambda *args, **more: SimpleNamespace(stdout="--graphs"))
    made = context.Context(device="cuda", out=tmp_path, tiny=False, memory="24GiB", step="graphs")
    assert {c.verdict for c in tool_steps.graphs(made)} == {"proved"}
    pairs[0].values["latency_s"] = 1.1
    pairs[1].values["peak_growth_bytes"] = 120
    assert [c.verdict for c in tool_steps.graphs(made)][1:3] == ["refuted", "refuted"]


@pytest.mark.parametrize(("limit", "fits"), [(0, True), (1 << 20, False)])
def test_an_arm_that_was_lost_in_company_is_tried_alone(limit, fits):
    # in a process of its own: the heap of this one may have room enough that other tests have left
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "from attnbench import Sweep, registry\n"
        "from attnbench.planning.sweep import plan\n"
        "from proof import company\n"
        "cell = plan(Sweep(mechanism='msa', batch=8), registry.load(entry_points=False)).cells[0]\n"
        f"print(company._fits_alone(cell, 'forward', {limit}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(fits), done.stderr


def test_a_child_that_fails_says_why(proof):
    from proof import company

    assert company.forked(lambda say: say({"event": "a"}) or 1 / 0) == [
        {"event": "a"},
        {"event": "ended", "reason": "ZeroDivisionError: division by zero"},
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_the_cpu_the_steps_run_from_end_to_end(tmp_path):
    # one step of each sort; the others differ in sizes, or have no answer on a CPU
    steps = "doctor,quick,late,oom,company-train,paper,cold,depthwise,errors-bf16,energy,graphs"
    done = run(tmp_path, "--steps", steps)
    page = (tmp_path / "proof.md").read_text()
    assert done.returncode == 0, page
    assert "0 refuted" in page
    assert "0 not finished" in page
    assert verdicts(tmp_path, "late") == {"an assert on the device while timing": "proved", "exit code": "proved"}
    assert verdicts(tmp_path, "oom")["memory of 512MiB"] == "proved"
    assert "attnbench run --device cpu -m msa,hilo,late" in page


@pytest.mark.parametrize("file", REFERENCE, ids=lambda file: file.stem)
def test_a_reference_sweep_is_the_suite_of_its_table(file):
    sweep = read_sweep({"sweep_file": str(file), "device": "cuda"})
    suite = SUITES[file.stem.removesuffix("-paper")]
    assert suite.meaning.split(":")[0] in file.read_text()
    known = registry.load(entry_points=False)
    cells = plan(sweep, known, precisions={"cuda": "tf32"}).cells
    arms = next(suite.options[key] for key in ("mechanism", "backbone", "task") if key in suite.options)
    assert {str(known.check(parse_variant(arm))) for arm in split_list(arms)} <= {c.variant for c in cells}
    assert {c.precision for c in cells} == ({"tf32"} if sweep.protocol == "paper" else {"fp32", "tf32"})
