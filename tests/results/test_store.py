"""Run folders: synced lines, torn ends, damaged middles, schemas, one writer at a time."""

from __future__ import annotations

import json

import pytest

from attnbench import AttnbenchError, load, registry
from attnbench.machine.environment import Environment
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.sweep import Sweep, plan
from attnbench.results import store
from attnbench.results.journal import read_lines
from attnbench.results.record import COLUMNS, QUANTITIES, SCHEMA, Record, from_dict
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume, open_run, set_aside


@pytest.fixture
def planned():
    return plan(Sweep(mechanism=("msa", "hilo")), registry.load(entry_points=False))


@pytest.fixture(autouse=True)
def run_x(monkeypatch):
    """Every new run is named x, as the records of these tests say."""
    monkeypatch.setattr(store.secrets, "token_hex", lambda _: "x")


def record(cell, **words):
    return Record(
        cell=cell, outcome="ok", values={"latency_s": 0.01, "macs": 10**13}, protocol="quick", run_id="x", **words
    )


def test_a_record_survives_its_line(planned):
    made = record(planned.cells[0], flags=("noisy",), words={"kernel_ran": "eager"})
    assert from_dict(json.loads(json.dumps(made.as_dict()))) == made


def test_a_run_that_was_read_holds_each_cell_and_each_name_once(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        for cell in planned.cells:
            writer.add(record(cell, words={"reference": "msa"}))
    run = open_run(tmp_path / "r")
    assert all(r.cell is cell for r, cell in zip(run.records, run.cells, strict=True))
    first, second = run.records
    assert all(a is b for a, b in zip(first.values, second.values, strict=True))
    assert first.words["reference"] is second.words["reference"]


def test_a_record_whose_cell_differs_from_the_one_that_it_names_keeps_its_own(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[0]))
    file = tmp_path / "r" / store.RECORDS
    line = json.loads(file.read_text())
    line["cell"]["batch"] += 1
    file.write_text(json.dumps(line) + "\n")
    run = open_run(tmp_path / "r")
    assert run.strays == run.records
    assert run.records[0].cell.batch == planned.cells[0].batch + 1


def test_the_export_has_the_promised_columns_in_order(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[0]))
    renamed = tuple("flag_names" if name == "flags" else name for name in COLUMNS)
    assert tuple(load(tmp_path / "r").columns[: len(COLUMNS)]) == renamed


def test_every_quantity_of_a_column_is_declared():
    from attnbench.results.record import MORE_COLUMNS

    numbers = {
        c for c in (*COLUMNS, *MORE_COLUMNS) if c.endswith(("_s", "_bytes", "_per_s", "_low", "_high", "macs", "_sd"))
    }
    assert numbers <= set(QUANTITIES)


def test_a_torn_last_line_is_dropped_and_its_cell_measured_again(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[0]))
    file = tmp_path / "r" / "records.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"schema": 1, "cel')
    assert "torn" in open_run(tmp_path / "r").torn
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        assert writer.done == {planned.cells[0].id}
        assert file.read_bytes() == whole
        writer.add(record(planned.cells[1]))
    assert file.read_bytes().startswith(whole)
    assert len(open_run(tmp_path / "r").records) == 2


def test_a_damaged_middle_line_is_named_and_nothing_is_lost(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        for cell in planned.cells:
            writer.add(record(cell))
    file = tmp_path / "r" / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    damaged = b"not json\n" + lines[1]
    file.write_bytes(damaged)
    with pytest.raises(AttnbenchError, match=r"line 1 of .* is damaged"):
        open_run(tmp_path / "r")
    with pytest.raises(AttnbenchError, match="is damaged"):
        create_or_resume(tmp_path / "r", planned, RunFacts())
    assert file.read_bytes() == damaged


def test_a_second_record_of_a_cell_is_refused(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[0]))
        with pytest.raises(ValueError, match="a cell has one record"):
            writer.add(record(planned.cells[0]))


def test_two_writers_at_once_are_refused(planned, tmp_path):
    with (
        create_or_resume(tmp_path / "r", planned, RunFacts()),
        pytest.raises(AttnbenchError, match="in use by another process"),
    ):
        create_or_resume(tmp_path / "r", planned, RunFacts())


def of_machine(**fingerprint):
    found = Fingerprint(kernel="6.1", **fingerprint)
    return RunFacts(environment=Environment(machine_label="zen4-2c-3f9a", fingerprint=found))


def test_a_run_is_not_resumed_on_another_machine(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, of_machine(microcode="0x1")):
        pass
    with pytest.raises(AttnbenchError, match=r"started on zen4-2c-3f9a, .* microcode: '0x1' against '0x2'; choose"):
        create_or_resume(tmp_path / "r", planned, of_machine(microcode="0x2"))
    with create_or_resume(tmp_path / "r", planned, of_machine(microcode="0x1")) as writer:
        assert writer.records == []


def test_a_run_of_an_unknown_machine_is_resumed_anywhere(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()):
        pass
    with create_or_resume(tmp_path / "r", planned, of_machine(microcode="0x2")) as writer:
        assert writer.facts.machine == "unknown machine"


@pytest.mark.parametrize("line", ['{"schema": 7}', '{"schema": 1}', '{"schema": 1, "outcome": "fine"}'])
def test_a_record_of_an_unknown_schema_or_without_its_parts_is_refused(line, planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()):
        pass
    (tmp_path / "r" / "records.jsonl").write_text(line + "\n" + line + "\n")
    with pytest.raises(AttnbenchError, match=r"line 1 of .*records\.jsonl"):
        open_run(tmp_path / "r")


def test_what_is_no_run_folder_is_refused(tmp_path):
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(AttnbenchError, match="a run"):
            open_run(folder)


def test_lines_of_a_file_that_is_not_there_are_none(tmp_path):
    assert read_lines(tmp_path / "none") == ([], 0)


def test_a_complete_run_is_set_aside_and_an_unfinished_one_is_not(planned, tmp_path):
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[0]))
    assert set_aside(tmp_path / "r") is None
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(record(planned.cells[1]))
    assert set_aside(tmp_path / "r") == tmp_path / "r.1"
    assert not (tmp_path / "r").exists()


def test_a_run_of_an_older_schema_is_read_and_not_resumed(planned, tmp_path):
    folder = tmp_path / "r"
    create_or_resume(folder, planned, RunFacts()).close()
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace(f'"schema": {SCHEMA}', '"schema": 1'))
    assert open_run(folder).facts.schema == 1
    with pytest.raises(AttnbenchError, match=r"has schema 1, we write 2; choose another --out"):
        create_or_resume(folder, planned, RunFacts())
