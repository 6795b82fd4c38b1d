"""A run within a budget: a record for every cell, rounds for who may lead, and resuming counts what was spent."""

from __future__ import annotations

import math

import pytest

from attnbench import AttnbenchError, Sweep, registry, run
from attnbench.analysis.summarize import GroupData
from attnbench.execution.comparison import Comparison
from attnbench.execution.deadline import Deadline, spent_s
from attnbench.planning import protocol
from attnbench.planning.sizes import seconds
from attnbench.planning.sweep import plan
from attnbench.results.events import ArmTurn, Round, SessionEnd, Trial
from attnbench.results.store import open_run

NUMBERS = protocol.get("quick", [("within_s", 60.0)])


def test_a_duration_is_read_as_typed_and_nonsense_is_refused():
    assert [seconds(t, most=1e5) for t in ("90s", "30min", "1.5h", " 45 ", 12)] == [90, 1800, 5400, 45, 12]
    for text in ("", "soon", "-5s", "0min", "3 days", "nan", "1e9h", True, None):
        with pytest.raises(AttnbenchError, match="a duration is a number with s, min, h"):
            seconds(text, most=1e5)


@pytest.mark.parametrize(("given", "rule"), [({"rounds": 4}, "got looks too"), ({"protocol": "paper"}, "one block")])
def test_a_budget_of_the_run_decides_on_the_rounds_itself(given, rule):
    sweep = Sweep(within="1min", **given)
    with pytest.raises(AttnbenchError, match=rule):
        protocol.get(sweep.protocol, sweep.overrides)


def test_what_earlier_sessions_spent_counts_also_that_of_a_session_that_was_killed():
    turn = ArmTurn(cell="a", calls_s=(1.0,))
    killed = [Trial(cell="a", job_s=2.0), Round(group="g", process=0, round=0, turns=(turn,), seconds=5.0)]
    assert spent_s(killed) == 7.0
    assert spent_s([*killed, SessionEnd(seconds=4.0, forward_s=0.0), *killed[:1]]) == 9.0
    assert Deadline(10.0, killed, clock=lambda: 100.0).left_s == 3.0
    assert not Deadline().passed


def test_an_arm_behind_three_others_rests_and_the_clock_ends_the_rounds():
    names = ("msa", "hilo", "sra", "window", "poolformer")
    cells = plan(Sweep(mechanism=names, batch=1), registry.load(entry_points=False)).cells
    data = GroupData(trials={c.id: Trial(cell=c.id, call_s=0.01) for c in cells})
    times = [4.0, 1.0, 1.1, 1.2, 9.0]
    now = [0.0]
    group = Comparison("g", cells, data, NUMBERS, "msa", deadline=Deadline(60.0, clock=lambda: now[0]))
    looks = group.rule.looks
    for n in range(looks[1]):
        assert not group.stopped()
        noise = [1 + 0.02 * math.sin(7 * n + 3 * k) for k in range(5)]
        turns = [ArmTurn(cell=c.id, calls_s=(t * e,)) for c, t, e in zip(cells, times, noise, strict=True)]
        data.rounds.append(Round(group="g", process=n // group.protocol.rounds_each, round=n, turns=tuple(turns)))
    assert group.stopped() == f"the 3 fastest are separated after {looks[1]} rounds"
    assert set(group.resting) == {cells[4].id}  # the reference is behind too, and stays
    assert [c.id for c in group.arms] == [c.id for c in cells[:4]]
    data.rounds = data.rounds[:3]
    late = Comparison("g", cells, data, NUMBERS, "msa", deadline=Deadline(60.0, clock=lambda: now[0]))
    assert not late.stopped()
    now[0] = 61.0
    assert "the budget of 1 min 0 s (--within) was spent after 3 rounds" in late.stopped()


def test_a_budget_too_short_leaves_a_record_with_its_reason_for_every_cell(tmp_path):
    small = {"dim": 24, "heads": 3, "res": 64, "batch": 1, "threads": 1, "protocol": "quick"}
    folder = run(Sweep(mechanism="msa,hilo", within=0.01, **small), tmp_path / "r")
    records = open_run(folder).records
    assert [r.outcome for r in records] == ["declined"] * 2
    assert all("(--within) was spent before its " in r.reason for r in records)
    assert open_run(folder).facts.within_s == 0.01
    assert open_run(run(Sweep(mechanism="msa,hilo", within=0.01, **small), folder)).records == records
