"""The tables of `attnbench run` and `attnbench show`, from invented runs."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made
from rich.console import Console

from attnbench.planning.sweep import Plan, Sweep
from attnbench.report.terminal import abbreviate, print_results, result_tables
from attnbench.results.events import ArmTurn, Round
from attnbench.results.record import Record
from attnbench.results.store import Run, create_or_resume, open_run


def shown(run: Run, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    print_results(run, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def timed(folder: Path, speeds: Mapping[str, float], noise: float = 0.01) -> Run:
    """A run with rounds: 8 processes of 2 rounds."""
    rng = random.Random(0)
    cells = {name: made.cell(name) for name in speeds}
    with create_or_resume(folder, Plan(Sweep(), tuple(cells.values()), {}), made.FACTS) as writer:
        for n in range(16):
            turns = tuple(
                ArmTurn(cell=cells[name].id, calls_s=(math.exp(rng.gauss(0, noise)) / speed,))
                for name, speed in speeds.items()
            )
            writer.log(Round(group=cells["msa"].group, process=n // 2, round=n, turns=turns))
        for name, speed in speeds.items():
            writer.add(replace(made.measured(cells[name], speed), run_id=writer.id))
    return open_run(folder)


def line_of(text: str, variant: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(variant + " ")).split()


def test_the_heading_names_the_machine_and_what_the_run_resolved(tmp_path: Path) -> None:
    run = timed(tmp_path / "run", {"msa": 1.0, "hilo": 2.0, "sra": 2.0})
    run.facts = replace(made.FACTS, environment=replace(made.HERE, machine_label="zen4-4842b9"))
    head = shown(run).split("mechanism")[0]
    assert "Invented CPU (zen4-4842b9), 2 threads" in head
    assert head.count("are not distinguishable in this run") == 1


def test_the_runtime_and_the_errors_have_columns_where_they_vary_or_are_known() -> None:
    def header(*records: Record) -> list[str]:
        (table,) = result_tables(records, 160)
        return [str(column.header) for column in table.columns]

    plain = made.measured(made.cell("msa"), 1.0)
    other = made.measured(made.cell("msa", runtime="openvino"), 2.0)
    assert not {"kernel", "runtime", "off eager", "off float64"} & set(header(plain))
    assert "runtime" in header(plain, other)
    assert "kernel" not in header(plain, other)
    wrong = replace(other, values={**other.values, "runtime_error": 2e-7, "error_rms": 3e-3})
    assert {"off eager", "off float64"} <= set(header(plain, wrong))


def test_mechanisms_that_tie_share_a_letter(tmp_path: Path) -> None:
    text = shown(timed(tmp_path / "run", {"msa": 1.0, "hilo": 2.0, "sra": 2.0}))
    assert (line_of(text, "hilo")[-1], line_of(text, "sra")[-1], line_of(text, "msa")[-1]) == ("a", "a", "b")


@pytest.mark.parametrize("width", [60, 80, 130])
def test_ties_are_shown_on_a_narrow_terminal_too(tmp_path: Path, width: int) -> None:
    text = shown(timed(tmp_path / "run", {"msa": 1.0, "hilo": 2.0}), width)
    assert "ties" in text
    assert line_of(text, "hilo")[-1] == "a"
    assert max(map(len, text.splitlines())) <= width


def test_a_run_without_intervals_has_no_ties(tmp_path: Path) -> None:
    bare = [made.measured(made.cell(name)) for name in ("msa", "hilo")]
    bare = [
        replace(r, values={k: v for k, v in r.values.items() if not k.endswith(("_low", "_high", "_low_s", "_high_s"))})
        for r in bare
    ]
    text = shown(open_run(made.run(tmp_path / "run", bare)))
    assert "ties" not in text
    assert "distinguishable" not in text


def disturbed(name: str, *flags: str) -> Record:
    return replace(made.measured(made.cell(name)), flags=flags)


def test_a_disturbed_run_says_so_below_its_table_with_a_remedy(tmp_path: Path) -> None:
    records = [disturbed("msa"), disturbed("hilo", "busy_machine", "noisy"), disturbed("sra", "noisy", "resumed")]
    text = " ".join(shown(open_run(made.run(tmp_path / "run", records))).split("3 cells:")[1].split())
    assert "2 of 3 timed cells were disturbed (noisy 2, busy_machine 1): " in text
    assert "stop other programs" in text
    assert "--strict" in text


def test_a_quiet_run_says_nothing_of_disturbance(tmp_path: Path) -> None:
    assert "disturbed" not in shown(open_run(made.run(tmp_path / "run", [disturbed("msa"), disturbed("hilo", "wide")])))


FLAGGED = (disturbed("msa"), disturbed("hilo", "noisy", "processes_differ"), made.failed(made.cell("dat")))


@pytest.mark.parametrize("width", [80, 200])
def test_variant_speed_with_interval_memory_and_notes_are_shown_at_any_width(tmp_path: Path, width: int) -> None:
    text = shown(open_run(made.run(tmp_path / "run", FLAGGED)), width)
    table = text.split("3 cells:")[0]
    assert max(map(len, table.splitlines())) <= width
    assert line_of(text, "hilo")[:6] == ["hilo", "1.00", "[1.00,", "1.01]", "4.86", "GiB"]
    flat = " ".join(text.split())
    for words in ("noisy", "processes_differ", "oom: the trial needs 12.0 GiB; got 8.0 GiB", "± %"):
        assert words in flat
    if width == 80:
        assert "noisy: hilo processes_differ: hilo dat: oom: the trial needs 12.0 GiB; got 8.0 GiB" in flat


def test_an_interval_that_says_nothing_is_unresolved_and_one_above_ten_per_cent_is_coloured() -> None:
    rows = [
        made.measured(made.cell("msa")),
        made.measured(made.cell("hilo"), 2.0, ratio_low=1.0, ratio_high=12.0),
        made.measured(made.cell("sra"), 1.5, ratio_low=1.2, ratio_high=1.8),
    ]
    (table,) = result_tables(rows, 120)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert str(cells["vs reference"][0]) == "unresolved"
    assert [(str(c), c.style) for c in cells["± %"]] == [("", ""), ("20", "yellow"), ("0.8", "")]  # type: ignore[union-attr]  # a Text


@pytest.mark.parametrize(
    ("letters", "text"),
    [("", ""), ("abc", "abc"), ("abcd", "a-d"), ("acdefgk", "ac-gk"), ("xyzA", "xyzA")],
)
def test_many_letters_in_a_row_are_a_range(letters: str, text: str) -> None:
    assert abbreviate(letters) == text


def test_the_share_of_launches_has_a_column_where_a_graph_was_timed_beside_its_cell(tmp_path: Path) -> None:
    cell = made.cell("msa", device="cuda:0")
    pair = (cell, replace(cell, graphs=True))
    with create_or_resume(tmp_path / "run", Plan(Sweep(), pair, {}), made.FACTS) as writer:
        for each in pair:
            record = made.measured(each, 2.0 if each.graphs else 1.0)
            share = {"launch_share": 0.5} if each.graphs else {}
            writer.add(replace(record, run_id=writer.id, values={**record.values, **share}))
    text = shown(open_run(tmp_path / "run"))
    assert " launch " in text
    assert " graphs " in text
    assert " yes " in text
    assert " 50% " in text
    assert "launch" not in shown(timed(tmp_path / "plain", {"msa": 1.0, "hilo": 2.0}))
