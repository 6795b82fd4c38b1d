"""Jobs and events: one line each, the same again when read; lines of older runs; damaged lines."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from attnbench import registry
from attnbench.execution import jobs
from attnbench.execution.jobs import CeilingsJob, CountJob, ProbeJob, TimingJob, TrialJob
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import (
    ArmTurn,
    BetweenRuns,
    Ceilings,
    Count,
    Done,
    Dropped,
    Failure,
    Probe,
    Progress,
    Round,
    SessionEnd,
    Trial,
    from_line,
    to_line,
)
from attnbench.results.store import open_run, read_events, read_rounds

RUNS = sorted((Path(__file__).parents[2] / "reports" / "runs").iterdir())
TURN = ArmTurn(cell="a", calls_s=(0.25, 0.5), host_s=0.375, queue_s=0.25, primers=3, conditions={"wall_s": 1.0})
EVENTS = [
    Count(key="k", values={"macs": 3, "macs_fvcore": None}, lower_bound=True, notes="n"),
    Trial(cell="a", values={"weights_bytes": 1}, call_s=0.5, kernel_ran="eager", device_name="d", notes=("x",)),
    Round(group="g", process=1, round=2, turns=(TURN,), seconds=1.0, forward_s=0.5, conditions={"reasons": "heat"}),
    Dropped(cell="a", outcome="oom", reason="r"),
    Failure(outcome="failed", reason="r"),
    Ceilings(key=("cpu", "fp32", 2, "pinned"), macs_per_s=1.0, bytes_per_s=2.0),
    BetweenRuns(
        key=("cpu", 2, "pinned", "quick"),
        runs=3,
        measured="now",
        ratio_sd={"van": 0.25},
        time_sd={"msa": 0.5},
        other_ratio_sd=0.125,
        other_time_sd=0.0,
    ),
    SessionEnd(seconds=1.0, forward_s=0.5),
    Progress(stage="built"),
    Done(),
    Probe(cell="a", what="energy", values={"idle_power_w": 10.5}, words={"energy_source": "RAPL: package-0"}),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.kind)
def test_an_event_survives_its_line(event):
    assert from_line(json.loads(json.dumps(to_line(event), allow_nan=False))) == event


def test_a_job_survives_its_line():
    cells = plan(Sweep(mechanism=("msa", "hilo[alpha=0.5]")), registry.load(entry_points=False)).cells
    timing = TimingJob(cells=cells, group="g", process=1, calls={"a": 3}, first_round=0, rounds=4, reference="a")
    for job in (
        CountJob(cell=cells[1]),
        TrialJob(cell=cells[0], plugins=("p.py",)),
        timing,
        CeilingsJob(cell=cells[0]),
        ProbeJob(cell=cells[1], what="energy", seed=3),
    ):
        assert jobs.from_line(json.loads(json.dumps(jobs.to_line(job)))) == job


def test_a_round_of_schema_1_is_read():
    line = {
        "kind": "round", "group": "g", "process": 2, "seconds": 3.0, "round": 4, "conditions": {"wall_s": 1},
        "samples": {"a": [0.5, 0.25, 1.0], "b": [2.0]}, "host": {"a": 0.6, "b": 2.0}, "queue": {},
    }  # fmt: skip
    read = from_line(line)
    assert isinstance(read, Round)
    assert read.log_time("a") == math.log(0.5)
    assert read.of("b")[0].host_s == 2.0
    assert math.isnan(read.of("b")[0].queue_s)
    assert read.log_time("c") is None


def test_several_turns_of_one_arm_count_by_the_mean_of_their_logs():
    turns = (ArmTurn(cell="a", calls_s=(1.0,)), ArmTurn(cell="b", calls_s=(9.0,)), ArmTurn(cell="a", calls_s=(4.0,)))
    assert Round(group="g", process=0, round=0, turns=turns).log_time("a") == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("folder", RUNS, ids=lambda f: f.name)
def test_every_committed_run_loads_whole(folder):
    run = open_run(folder)
    assert len(run.records) == len(run.cells)
    events = read_events(folder)
    timed = {turn.cell for r in (e for e in events if isinstance(e, Round)) for turn in r.turns}
    assert timed == {r.cell.id for r in run.records if "latency_s" in r.values}
    assert sum(map(len, read_rounds(folder).values())) == sum(isinstance(e, Round) for e in events)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "riddle"}, "must be one of count, trial, round"),
        ({"kind": ["round"]}, "must be one of"),
        ({"group": None}, r"round.group must be str; got None"),
        ({"process": "1"}, r"round.process must be a whole number; got '1'"),
        ({"turns": {}}, r"round.turns must be a list; got {}"),
        ({"turns": [{"cell": "a", "calls_s": ["x"]}]}, r"round.turns\[0\].calls_s\[0\] must be a number; got 'x'"),
        ({"turns": [{"cell": "a"}]}, r"round.turns\[0\] must have calls_s; got cell"),
    ],
)
def test_a_damaged_event_says_where(change, says):
    with pytest.raises(ValueError, match=says):
        from_line({**to_line(EVENTS[2]), **change})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runs": 1}, "between_runs.runs must be 2 to"),
        ({"ratio_sd": {"van": -0.1}}, "between_runs.ratio_sd.van must be 0 to 3; got -0.1"),
        ({"other_time_sd": 1e9}, "between_runs.other_time_sd must be 0 to 3"),
    ],
)
def test_what_runs_differ_by_cannot_be_anything(change, says):
    event = next(e for e in EVENTS if isinstance(e, BetweenRuns))
    with pytest.raises(ValueError, match=says):
        from_line({**to_line(event), **change})


def test_a_key_that_a_newer_version_wrote_is_ignored():
    assert from_line({**to_line(EVENTS[3]), "mood": "good"}) == EVENTS[3]


def test_times_are_stored_with_the_digits_that_a_clock_gives():
    turn = replace(TURN, calls_s=(0.123456789012345,), host_s=math.nan)
    assert to_line(Round(group="g", process=0, round=0, turns=(turn,)))["turns"][0]["calls_s"] == [0.1234568]
    assert "host_s" not in to_line(Round(group="g", process=0, round=0, turns=(turn,)))["turns"][0]
