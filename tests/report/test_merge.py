"""Merging runs: whole runs side by side, the same in any order and again, machines never in one column."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import synthetic as made

from attnbench import AttnbenchError, load
from attnbench.machine.environment import Environment
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.sweep import Plan, Sweep
from attnbench.report.evidence import gather
from attnbench.report.grouping import once
from attnbench.results.collection import find, run_folders
from attnbench.results.events import ArmTurn, Round
from attnbench.results.merge import merge
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import RECORDS, RUN, SAMPLES, create_or_resume, open_run

CELLS = [made.cell(name, batch=8) for name in ("msa", "hilo", "sra")]


def run(folder: Path, machine: str, speed: float, *, records: int = 3) -> Path:
    """A run of three layers on a machine, `speed` times as fast as another, with rounds."""
    here = Environment(fingerprint=Fingerprint(kernel="6.1", cpu_model="Invented", microcode=machine),
                       machine_label=machine)  # fmt: skip
    facts = RunFacts(environment=here, sweep={"reference": "msa"})
    with create_or_resume(folder, Plan(Sweep(), tuple(CELLS), {}), facts) as writer:
        for process in range(2):
            turns = tuple(ArmTurn(cell=cell.id, calls_s=(0.1 / speed,)) for cell in CELLS)
            writer.log(Round(group=CELLS[0].group, process=process, round=process, turns=turns))
        for cell in CELLS[:records]:
            record = made.measured(cell, made.LAYERS[cell.mechanism][2])
            absolute = {k: v * speed for k, v in record.values.items() if k.startswith("throughput")}
            writer.add(replace(record, run_id=writer.id, values={**record.values, **absolute}))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a collection but its lock."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [run(tmp_path / name, f"zen4-2c-{name}", speed) for name, speed in (("a", 1.0), ("b", 3.0), ("c", 10.0))]


def test_merging_in_any_order_and_again_gives_the_same_files(three, tmp_path):
    outs = []
    for number, order in enumerate(permutations(three)):
        out = tmp_path / f"out{number}"
        assert merge(order, out).added == 3
        outs.append(files(out))
    assert all(found == outs[0] for found in outs)
    again = merge([*three, tmp_path / "out0"], tmp_path / "out0")
    assert (again.added, again.replaced, again.kept, again.records) == (0, 0, 3, 9)
    assert merge([tmp_path / "out0", three[1]], tmp_path / "nested").added == 3
    assert files(tmp_path / "nested") == outs[0] == files(tmp_path / "out0")
    for folder in three:
        part = tmp_path / "out0" / "parts" / open_run(folder).id
        assert all((part / name).read_bytes() == (folder / name).read_bytes() for name in (RUN, RECORDS, SAMPLES))


def test_of_two_copies_of_a_run_the_one_with_more_records_is_kept(tmp_path):
    whole = run(tmp_path / "whole", "zen4", 1.0)
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    lines = (whole / RECORDS).read_text().splitlines(keepends=True)
    (part / RECORDS).write_text("".join(lines[:1]))
    for number, order in enumerate(([whole, part], [part, whole])):
        merge(order, tmp_path / f"out{number}")
        assert len(load(tmp_path / f"out{number}")) == 3
    merge([part], tmp_path / "out")
    assert merge([whole], tmp_path / "out").replaced == 1
    assert files(tmp_path / "out") == files(tmp_path / "out0") == files(tmp_path / "out1")
    assert len(gather([part, whole]).ok) == 3
    assert "part holds the same run as whole and was left out" in gather([part, whole]).problems


def test_two_runs_with_one_identifier_are_refused(three, tmp_path):
    facts = json.loads((three[1] / RUN).read_text())
    (three[1] / RUN).write_text(json.dumps({**facts, "run_id": open_run(three[0]).id, "created": "2026-11-28"}))
    with pytest.raises(AttnbenchError, match="a run_id belongs to one run"):
        merge(three, tmp_path / "out")


def test_a_cell_that_two_runs_measured_is_shown_from_the_one_that_measured_more_of_its_group(tmp_path):
    runs = [run(tmp_path / name, "zen4", 1.0, records=count) for name, count in (("a", 2), ("b", 3), ("c", 1))]
    for order in permutations(runs):
        merge(order, tmp_path / "out")
        shown = once(gather([tmp_path / "out"]).ok)
        assert {p.run_id for p in shown} == {open_run(runs[1]).id}


def test_a_run_folder_is_no_collection_and_a_collection_no_run(three, tmp_path):
    with pytest.raises(AttnbenchError, match="is a run itself; choose another --out"):
        merge(three[1:], three[0])
    merge(three, tmp_path / "out")
    with pytest.raises(AttnbenchError, match=r"has none; name one of .*out/parts"):
        open_run(tmp_path / "out")
    (tmp_path / "out" / "collection.json").write_text('{"format": 2}')
    with pytest.raises(AttnbenchError, match="format must be 1 to 1"):
        run_folders([tmp_path / "out"])


def test_the_table_of_a_collection_names_the_machine_of_every_row(three, tmp_path):
    merge(three, tmp_path / "out")
    table = load(tmp_path / "out")
    assert sorted(set(table["machine"])) == ["zen4-2c-a", "zen4-2c-b", "zen4-2c-c"]
    assert table.groupby("machine")["throughput_img_per_s"].median().is_monotonic_increasing


def assert_no_row_mixes_machines(tables: Path, machines: list[str]) -> None:
    """Every row with an absolute figure of a run names its machine, and one alone."""
    checked = 0
    for file in tables.glob("*.csv"):
        with file.open() as text:
            rows = list(csv.DictReader(text))
        absolute = any("throughput" in name or "latency" in name for name in (rows[0] if rows else ()))
        named = [sum(machine in " ".join(map(str, row.values())) for machine in machines) for row in rows]
        if absolute and any(named):
            checked += 1
            assert max(named) == 1, file.name
    assert checked


def test_an_atlas_reads_a_copy_once_and_no_table_has_figures_of_two_machines_without_a_column_that_names_them(
    three, tmp_path
):
    (tmp_path / "lab").mkdir()
    merge(three, tmp_path / "lab" / "merged")
    shutil.copytree(three[0], tmp_path / "lab" / "theirs" / "copy")
    assert len(find([tmp_path / "lab"])) == 4
    done = subprocess.run(
        [sys.executable, "-m", "attnbench", "atlas", str(tmp_path / "lab"), "--out", str(tmp_path / "page")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "index.html").read_text()
    machines = [f"zen4-2c-{name}" for name in "abc"]
    assert all(machine in page for machine in machines)
    assert "holds the same run as" in page
    assert_no_row_mixes_machines(tmp_path / "page" / "tables", machines)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AttnbenchError, match="an atlas needs at least one run folder"):
        find([tmp_path / "empty"])
