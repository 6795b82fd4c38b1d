"""A damaged run folder ends every reading command in a sentence, or is read; resuming it destroys nothing."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.damage import (
    FOREIGN_RUN,
    JSON_DAMAGE,
    RECORDS,
    RUN,
    SAMPLES,
    damaged,
    json_text,
    places,
    small_run,
    with_value,
    without,
)
from support.readers import COMMANDS, assert_reads_or_refuses, call, without_drawing

from attnbench import registry
from attnbench.errors import AttnbenchError
from attnbench.machine.environment import Environment
from attnbench.planning.sweep import Sweep, plan
from attnbench.results import journal
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume, open_run, read_events

QUICK = [name for name in COMMANDS if name != "report"]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("healthy") / "run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


def put(file: Path, place: tuple[str | int, ...], value: Any, line: int = 0) -> None:
    """Put one value into run.json, or into one line of another file."""
    lines = [file.read_text()] if file.name == RUN else file.read_text().splitlines()
    whole = json.loads(lines[line])
    parent = whole
    for key in place[:-1]:
        parent = parent[key]
    if place and isinstance(parent, dict):
        parent.setdefault(place[-1], None)  # a part that is not there is added
    lines[line] = json_text(with_value(whole, place, value))
    file.write_text("\n".join(lines) + "\n")


def kinds(file: Path) -> dict[str, int]:
    """The first line of each kind of a journal."""
    return {json.loads(line)["kind"]: n for n, line in reversed(list(enumerate(file.read_text().splitlines())))}


def test_a_healthy_folder_is_read_by_every_command(run, tmp_path):
    with without_drawing():
        assert {assert_reads_or_refuses(name, run, tmp_path / "out") for name in COMMANDS} == {"read"}


BAD_RECORDS: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("schema",), {}, r"a record's schema must be one of \[1, 2\]; got '{}'"),
    (("schema",), True, "a record's schema"),
    (("cell",), [], "record.cell must be an object"),
    (("cell", "settings"), [], "record.cell is damaged"),
    (("cell", "settings"), {"a": [1]}, r"record.cell.settings"),
    (("cell", "scope"), "../../x", "record.cell.scope must be one of layer, backbone, task"),
    (("cell", "res_h"), "224", "record.cell.res_h must be a whole number; got '224'"),
    (("cell", "res_h"), -224, "record.cell.res_h must be 1 to"),
    (("cell", "stride"), 0, "record.cell.stride must be 1 to"),
    (("cell", "compiled"), 1, "record.cell is damaged: TypeError: compiled must be bool; got 1"),
    (("cell", "precision"), "fp99", "record.cell.precision must be one of fp32"),
    (("cell", "variant"), "x" * 100_000, "record.cell.variant must have 1 to 1000 characters"),
    (("outcome",), "fine", "an outcome is one of ok"),
    (("outcome",), ["ok"], "record.outcome must be str"),
    (("reason",), 7, "record.reason must be str"),
    (("values",), [], "record.values must be an object"),
    (("values", "latency_s"), 0, "record.values.latency_s must be above 0"),
    (("values", "latency_s"), -1.0, "record.values.latency_s must be above 0"),
    (("values", "latency_s"), "0.1", "record.values.latency_s must be a number"),
    (("values", "macs"), 10**400, "record.values.macs must be a number"),
    (("values", "macs"), -1, "record.values.macs must be at least 0"),
    (("values", "params"), 2**63, "record.values.params must be at least 0 and below 9.22"),
    (("values", "params"), 1e-320, "record.values.params must be 0 or 1e-30 and more"),
    (("values", "run_df"), 0, "record.values.run_df must be at least 1"),
    (("values", "run_ratio_sd"), 3.5, "record.values.run_ratio_sd must be at least 0 and below 3"),
    (("values", "run_time_sd"), -0.1, "record.values.run_time_sd must be at least 0 and below 3"),
    (("values", "ratio_low"), 1e9, "ratio_low must be at most ratio_high"),
    (("flags",), "wide", "record.flags must be a list"),
    (("flags",), [["wide"]], r"record.flags\[0\] must be str"),
    (("words",), ["a"], "record.words must be an object"),
    (("words", "reference"), {}, "record.words.reference must be str"),
]


@pytest.mark.parametrize(("place", "value", "says"), BAD_RECORDS)
def test_a_value_that_no_record_has_is_named_with_file_line_and_remedy(place, value, says, run):
    put(run / RECORDS, place, value, line=1)
    with pytest.raises(AttnbenchError, match=says) as refused:
        open_run(run)
    assert f"line 2 of {run / RECORDS}" in str(refused.value)
    assert "delete it (its cell will be measured again)" in str(refused.value)


BAD_EVENTS: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("trial", (), {"kind": "trial"}, "trial must have cell; got kind"),
    ("count", (), {"kind": "count"}, "count must have key; got kind"),
    ("trial", ("kind",), {}, "an event's kind must be one of"),
    ("trial", ("call_s",), 0, "trial.call_s must be 1e-12 to 1e"),
    ("count", ("values",), [1], "count.values must be an object"),
    ("count", ("values", "macs"), 10**400, "count.values.macs must be a whole number"),
    ("count", ("values", "macs"), -5, "count.values.macs must be 0 to"),
    ("round", ("group",), ["g"], "round.group must be str"),
    ("round", ("process",), -1, "round.process must be 0 to"),
    ("round", ("turns", 0, "calls_s"), [], r"round.turns\[0\] must have calls"),
    ("round", ("turns", 0, "calls_s", 1), 0, r"turns\[0\].calls_s\[1\] must be 1e-12 to 1e\+09; got 0"),
    ("round", ("turns", 0, "calls_s", 1), -0.1, r"turns\[0\].calls_s\[1\] must be"),
    ("round", ("turns", 0, "calls_s", 1), 1e300, r"turns\[0\].calls_s\[1\] must be"),
    ("round", ("turns", 0, "conditions"), {"wall_s": None}, r"conditions.wall_s must be"),
    ("round", ("samples",), {"a": 1}, r"calls_s must be a list"),
    ("round", ("samples",), [1], "round.samples must be an object"),
    ("ceilings", ("macs_per_s",), -1.0, "ceilings.macs_per_s must be 0 to"),
    ("ceilings", ("key",), [{}], r"ceilings.key\[0\]"),
]


@pytest.mark.parametrize(("kind", "place", "value", "says"), BAD_EVENTS)
def test_a_value_that_no_event_has_is_named_with_file_line_and_remedy(kind, place, value, says, run):
    line = kinds(run / SAMPLES)[kind]
    put(run / SAMPLES, place, value, line=line)
    with pytest.raises(AttnbenchError, match=says) as refused:
        read_events(run)
    assert f"line {line + 1} of {run / SAMPLES} is damaged" in str(refused.value)
    assert "delete that line (its rounds will be measured again)" in str(refused.value)


NOT_JSON = {
    "NaN": "a number must be finite; got NaN",
    '{"kind":"session","seconds":1e999,"forward_s":0}': "a number must be finite; got 1e999",
    "9" * 5000: "limit",
    "[" * 100_000 + "]" * 100_000: "nested too deeply",
    '{"a":' * 3000 + "1" + "}" * 3000: "nested too deeply|must be one of",
    "": "Expecting value",
    "[]": "it is no JSON object",
    "\ufeff{}": "BOM",
}


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", [RECORDS, SAMPLES])
def test_a_line_that_is_not_json_is_named_unless_it_is_the_torn_last_one(name, text, run):
    file = run / name
    before = file.read_text()
    file.write_text(text + "\n" + before)
    with pytest.raises(AttnbenchError, match=rf"line 1 of .*{name} is damaged") as refused:
        read_events(run) if name == SAMPLES else open_run(run)
    assert refused.match(NOT_JSON[text] if "kind" not in text or name == SAMPLES else "finite|schema")
    file.write_text(before + text)
    assert len(open_run(run).records) == 3
    assert read_events(run)


def test_a_line_that_is_too_long_is_refused_without_being_read_whole(run, monkeypatch):
    with (run / RECORDS).open("ab") as file:
        file.truncate(1 << 30)  # a gigabyte of zeros that takes no room
    with pytest.raises(AttnbenchError, match=r"line 4 of .*records.jsonl is damaged: it has more than 16777216 bytes"):
        open_run(run)
    with (run / RECORDS).open("ab") as file:
        file.truncate(journal.FILE_BYTES + 1)
    with pytest.raises(AttnbenchError, match=r"records.jsonl must be a plain file of at most .*; it is a file of"):
        open_run(run)


BAD_FACTS: list[tuple[tuple[str | int, ...], Any, str]] = [
    ((), [], "run.json must have schema"),
    (("schema",), {}, "a run's schema must be 1 to 2"),
    (("schema",), True, "a run's schema must be 1 to 2"),
    (("run_id",), 7, "run.json.run_id must be str"),
    (("plan", "cells"), {}, "run.json.plan.cells must be a list"),
    (("plan", "cells", 0), 7, r"run.json.plan.cells\[0\] must be an object"),
    (("plan", "cells", 0, "heads"), "12", r"run.json.plan.cells\[0\].heads must be a whole number"),
    (("plan", "cells", 0, "threads"), [], r"run.json.plan.cells\[0\].threads must be a whole number"),
    (("plan", "declined"), {"a": 1}, "run.json.plan.declined.a must be str"),
    (("protocol", "looks"), 3, "run.json.protocol.looks must be a list"),
    (("protocol", "looks"), list(range(5000)), "at most 1000 looks"),
    (("protocol", "level"), 10**400, "run.json.protocol.level must be a number"),
    (("protocol", "level"), 1.5, "must have a level in 0 to 1"),
    (("sweep", "reference"), {}, "run.json.sweep.reference must be str"),
    (("sweep", "seed"), json.loads("[" * 40 + "]" * 40), "run.json.sweep.seed must be nested at most 24 levels deep"),
    (("environment", "fingerprint", "cache_bytes"), [1], "cache_bytes must be an object"),
    (("environment", "cpu"), "x", "run.json.environment.cpu must be an object"),
]


@pytest.mark.parametrize(("place", "value", "says"), BAD_FACTS)
def test_a_value_that_no_run_json_has_is_named_with_the_file_and_a_remedy(place, value, says, run):
    put(run / RUN, place, value)
    with pytest.raises(AttnbenchError, match=says) as refused:
        open_run(run)
    assert str(run / RUN) in str(refused.value)


def test_a_cell_that_is_planned_twice_is_damage(run):
    facts = json.loads((run / RUN).read_text())
    put(run / RUN, ("plan", "cells"), [*facts["plan"]["cells"], facts["plan"]["cells"][0]])
    with pytest.raises(AttnbenchError, match=r"plan.cells must differ; one is there twice"):
        open_run(run)


IN_ITS_PLACE = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "No such file": lambda path: path.symlink_to("nowhere"),
    "symbolic links": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("what", IN_ITS_PLACE)
@pytest.mark.parametrize("name", [RUN, RECORDS, SAMPLES])
def test_what_is_no_plain_file_is_refused_at_once_by_every_command(name, what, run, tmp_path):
    (run / name).unlink()
    IN_ITS_PLACE[what](run / name)
    for command in QUICK if name != SAMPLES else ("show", "compare", "claims"):
        answer = call(COMMANDS[command](run, tmp_path))
        assert answer.code == 2, command
        assert str(run / name) in answer.err
        assert what in answer.err


def test_a_record_of_another_plan_or_run_is_reported_and_not_counted(run, tmp_path):
    file = run / RECORDS
    foreign = (FOREIGN_RUN / RECORDS).read_text().splitlines()[0] + "\n"
    mine = file.read_text().splitlines(keepends=True)
    file.write_text("".join(mine[:2]) + foreign + json_text({**json.loads(mine[2]), "run_id": "another"}) + "\n")
    assert open_run(run).missing == 0
    for command in ("show", "export", "claims", "recommend"):
        answer = call(COMMANDS[command](run, tmp_path))
        assert "1 records of cells that its plan does not name" in answer.out + answer.err
        assert "1 records of another run than" in answer.out + answer.err
    file.write_text("".join(mine[:2]) + foreign)
    assert open_run(run).missing == 1
    assert "1 planned cells have no record yet" in call(COMMANDS["show"](run, tmp_path)).out


def test_a_record_and_a_round_that_are_there_twice_count_once(run, tmp_path):
    lines = (run / RECORDS).read_text().splitlines(keepends=True)
    (run / RECORDS).write_text("".join([*lines, lines[0]]))
    assert len(open_run(run).records) == 3
    assert "1 records of a cell that has one already" in call(COMMANDS["show"](run, tmp_path)).out
    (run / RECORDS).write_text("".join(lines))
    samples = (run / SAMPLES).read_text().splitlines(keepends=True)
    (run / SAMPLES).write_text("".join([*samples, samples[kinds(run / SAMPLES)["round"]]]))
    whole = read_events(run)
    (run / SAMPLES).write_text("".join(samples))
    assert read_events(run) == whole


@pytest.mark.parametrize("name", [RECORDS, SAMPLES])
def test_a_missing_file_is_reported(name, run, tmp_path):
    (run / name).unlink()
    answer = call(COMMANDS["show"](run, tmp_path))
    assert answer.code == 0
    assert f"{name} is missing" in answer.out


def test_a_word_never_replaces_a_number_and_an_unknown_number_is_left_out(run, tmp_path):
    put(run / RECORDS, ("words", "latency_s"), "nonsense")
    put(run / RECORDS, ("words", "batch"), "nonsense")
    put(run / RECORDS, ("values", "variant"), 7)
    assert "nonsense" not in call(COMMANDS["export"](run, tmp_path)).out
    assert "variant" not in open_run(run).records[0].values


@pytest.fixture
def resumable(tmp_path: Path) -> tuple[Path, Any]:
    """A run of two cells with one record, and its plan."""
    planned = plan(Sweep(mechanism=("msa", "hilo")), registry.load(entry_points=False))
    with create_or_resume(tmp_path / "r", planned, RunFacts()) as writer:
        writer.add(Record(cell=planned.cells[0], outcome="failed", reason="\ud800 \x1b", run_id=writer.id))
    return tmp_path / "r", planned


def test_a_reason_with_half_a_character_is_stored_and_read(resumable):
    folder, planned = resumable
    assert open_run(folder).records[0].reason == "\\ud800 \x1b"
    with create_or_resume(folder, planned, RunFacts()) as writer:
        assert len(writer.records) == 1


def contents(folder: Path) -> dict[str, bytes | None]:
    return {p.name: p.read_bytes() if p.is_file() else None for p in folder.iterdir() if p.name != ".lock"}


def spoil(folder: Path) -> Iterator[str]:
    """Damage after damage of the folder, each undone before the next."""
    foreign = (FOREIGN_RUN / RECORDS).read_text().splitlines()[0] + "\n"
    for name, change in (
        (RECORDS, lambda text: text + foreign + '{"torn'),
        (RECORDS, lambda text: text.replace('"run_id":"', '"run_id":"x') + '{"torn'),
        (RECORDS, lambda text: text.replace('"flags":[]', '"flags":{}') + '{"torn'),
        (SAMPLES, lambda text: '{"kind":"trial"}\n{"kind":"session","seconds":1,"forward_s":1}\n{"torn' + text),
        (RUN, lambda text: text.replace('"heads": 12', '"heads": 6', 1)),
        (RUN, lambda text: text[:-20]),
        (RUN, lambda text: ""),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(change(before))
        yield name
        (folder / name).write_text(before)


def test_resuming_a_damaged_folder_is_refused_with_a_sentence_and_destroys_nothing(resumable):
    folder, planned = resumable
    for name in spoil(folder):
        before = contents(folder)
        with pytest.raises(AttnbenchError, match=name):
            create_or_resume(folder, planned, RunFacts())
        assert contents(folder) == before, name


@pytest.mark.parametrize("name", [RUN, RECORDS, SAMPLES])
@pytest.mark.parametrize("what", [name for name in IN_ITS_PLACE if name != "No such file"])
def test_resuming_where_no_plain_file_is_is_refused(name, what, resumable):
    folder, planned = resumable
    (folder / name).unlink()
    IN_ITS_PLACE[what](folder / name)
    with pytest.raises(AttnbenchError, match=what):
        create_or_resume(folder, planned, RunFacts())


def test_a_run_writes_through_no_link(resumable, tmp_path):
    folder, planned = resumable
    (tmp_path / "victim").write_text("")
    (folder / SAMPLES).unlink()
    (folder / SAMPLES).symlink_to(tmp_path / "victim")
    with pytest.raises(AttnbenchError, match=r"samples.jsonl is a symbolic link"):
        create_or_resume(folder, planned, RunFacts())


def test_what_could_not_be_read_again_is_stored_as_a_failure_that_says_so(tmp_path):
    planned = plan(Sweep(mechanism=("msa", "hilo")), registry.load(entry_points=False))
    with create_or_resume(tmp_path / "r", planned, RunFacts(environment=Environment())) as writer:
        for cell, values in zip(planned.cells, ({"macs": 10**400}, {"latency_s": 0.0}), strict=True):
            writer.add(Record(cell=cell, outcome="ok", values=values, run_id=writer.id))
    for record, name in zip(open_run(tmp_path / "r").records, ("macs", "latency_s"), strict=True):
        assert record.outcome == "failed"
        assert f"its figures cannot be stored: record.values.{name} must be" in record.reason


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_at_any_place_is_read_or_refused_by_every_command(data, healthy, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    file = healthy / data.draw(st.sampled_from([RUN, RECORDS, SAMPLES]))
    before = file.read_bytes()
    lines = [before] if file.name == RUN else before.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    whole = json.loads(lines[number])
    place = data.draw(st.sampled_from(list(places(whole))))
    new = data.draw(st.sampled_from(JSON_DAMAGE) | st.just("removed"))
    made = without(whole, place) if new == "removed" and place else with_value(whole, place, new)
    lines[number] = json_text(made).encode("utf-8", "surrogatepass")
    file.write_bytes(b"\n".join(lines) + b"\n")
    try:
        assert_reads_or_refuses(data.draw(st.sampled_from(QUICK)), healthy, out)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("seed", random.Random(7).sample(range(10**6), 8))
def test_folders_that_are_damaged_in_several_ways_are_read_or_refused(seed, healthy, tmp_path):
    damaged(healthy, tmp_path / "run", seed)
    with without_drawing():
        for name in COMMANDS:
            assert_reads_or_refuses(name, tmp_path / "run", tmp_path / "out")
