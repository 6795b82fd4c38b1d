"""Two runs of one fingerprint, ceilings 20 % apart: every command refuses, or keeps them apart and says why."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import synthetic as made

from attnbench import cli
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.sweep import Plan, Sweep
from attnbench.report.claims import judge
from attnbench.report.evidence import gather
from attnbench.report.matching import comparable
from attnbench.results.events import ArmTurn, Ceilings, Round
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume

NAME = "zen4-2c-3f9a"
HERE = replace(made.HERE, machine_label=NAME)
WHY = "matrix product 100 and 80 GMAC/s, 20 % apart"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


SPEEDS = {"msa": 1.0, "hilo": 1.75, "sra": 1.3, "hornet": 1.25}


def run(folder: Path, names: list[str], macs_per_s: float, fingerprint: Fingerprint = made.HERE.fingerprint) -> Path:
    """A run of layers whose journal holds one ceiling and a few rounds."""
    facts = RunFacts(environment=replace(HERE, fingerprint=fingerprint), sweep={"reference": "msa"})
    cells = [made.cell(name, batch=8) for name in names]
    made.run(folder, [made.measured(cell, SPEEDS[cell.mechanism]) for cell in cells], facts=facts)
    plan = Plan(Sweep(), tuple(cells), {})
    with create_or_resume(folder, plan, facts) as writer:
        writer.log(Ceilings(key=("cpu", "fp32", 2, "pinned"), macs_per_s=macs_per_s))
        for process in range(2):
            turns = tuple(ArmTurn(cell=c.id, calls_s=(0.1 / SPEEDS[c.mechanism],)) for c in cells)
            writer.log(Round(group=cells[0].group, process=process, round=process, turns=turns))
    return folder


@pytest.fixture
def attnbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in this process."""

    def typed(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["attnbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    return typed


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    base = tmp_path_factory.mktemp("two")
    return [str(run(base / "a", ["msa", "sra"], 100e9)), str(run(base / "b", ["msa", "hilo", "hornet"], 80e9))]


def test_compare_refuses_with_both_values(two, attnbench):
    done = attnbench("compare", *two)
    assert done.returncode == 2
    assert WHY in done.stderr
    assert NAME in done.stderr
    assert "--allow-cross-machine" in done.stderr


def test_compare_across_machines_compares_ratios_and_says_why(two, attnbench):
    same = [two[0], str(run(Path(two[0]).with_name("c"), ["msa", "sra"], 80e9))]
    done = attnbench("compare", *same, "--allow-cross-machine")
    assert done.returncode == 0, done.stderr
    assert "ratios to the reference" in done.stdout
    assert WHY in done.stdout


def across(folders: list[str]) -> list[str]:
    """The claims with a ratio of times between a layer of the first run and one of the second."""
    return [
        judgement.id
        for judgement in judge(gather(folders))
        for result in judgement.evaluated
        if result.comparison.device
        and {"sra", "hilo"} == {result.comparison.subject[1][0], result.comparison.baseline[1][0]}
    ]


def test_claims_form_no_ratio_across_them_and_say_why(two, attnbench):
    assert across(two) == []
    done = attnbench("claims", *two)
    assert done.returncode == 0, done.stderr
    assert WHY in done.stderr


def test_claims_form_that_ratio_between_runs_of_one_machine(tmp_path):
    one = [str(run(tmp_path / "a", ["msa", "sra"], 100e9)), str(run(tmp_path / "b", ["msa", "hilo", "hornet"], 99e9))]
    assert gather(one).machines == (f"Invented CPU ({NAME})",)
    assert gather(one).apart == ()
    assert across(one) != []


def test_no_pair_of_points_of_two_machines_is_comparable(two):
    points = gather(two).points
    first = [p for p in points if p.cell.mechanism == "sra"]
    second = [p for p in points if p.cell.mechanism == "hilo"]
    assert first
    assert second
    assert comparable(first, second, 8) == []
    here = replace(second[0], machine=first[0].machine)
    assert comparable(first, [here], 8) == [(first[0], here)]


def test_recommend_answers_for_each_and_says_why(two, attnbench):
    done = attnbench("recommend", *two, "--res", "224", "--batch", "8")
    assert done.returncode == 0, done.stderr
    assert WHY in done.stderr
    assert f"({NAME})" in done.stdout
    assert f"({NAME}-2)" in done.stdout
    first, second = done.stdout.split(f"({NAME}-2)")
    assert "hilo" not in first
    assert "sra" not in second
    assert "hilo" in second


def test_report_gives_each_a_name_of_its_own_and_says_why(two, tmp_path, monkeypatch, attnbench):
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))
    done = attnbench("report", *two, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert WHY in (tmp_path / "out" / "index.html").read_text()
    with (tmp_path / "out" / "tables" / "measured-layer.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_machine = {row["machine"]: {r["variant"] for r in rows if r["machine"] == row["machine"]} for row in rows}
    assert by_machine == {
        f"Invented CPU ({NAME})": {"msa", "sra"},
        f"Invented CPU ({NAME}-2)": {"msa", "hilo", "hornet"},
    }


def test_export_says_why_and_keeps_the_rows_apart_by_run(two, attnbench):
    done = attnbench("export", *two)
    assert done.returncode == 0, done.stderr
    assert WHY in done.stderr
    assert len({row["run_id"] for row in csv.DictReader(done.stdout.splitlines())}) == 2


def test_show_names_the_machine(two, attnbench):
    assert f"on {NAME}" in attnbench("show", two[0]).stdout
    assert f"Invented CPU ({NAME})" in attnbench("show", two[0]).stdout


def test_two_runs_of_unknown_machines_share_no_name(tmp_path, attnbench):
    old = replace(made.HERE.fingerprint, kernel="")
    folders = [str(run(tmp_path / name, ["msa", "sra"], 100e9, old)) for name in "ab"]
    assert gather(folders).machines == tuple(f"Invented CPU (unknown machine {n})" for n in (1, 2))
    done = attnbench("compare", *folders)
    assert done.returncode == 2
    assert "only the name of the processor of a and b is stored" in done.stderr
