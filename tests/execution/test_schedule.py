"""Schedules and orders: which arm has its turns when, and in which process."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnbench import AttnbenchError, Sweep, run
from attnbench.execution.schedule import joined
from attnbench.execution.timing import spread
from attnbench.planning import protocol
from attnbench.results.events import ArmTurn, Round
from attnbench.results.store import open_run, read_rounds

NUMBERS = (("looks", (4,)), ("processes", 2), ("prime_s", 0.0), ("calls", 2), ("turn_s", 0.0))


def rounds_of(folder: Path, *more: tuple[str, object]) -> tuple[list[Round], list[str]]:
    """The rounds of four tiny arms, and the arms' ids in the order of the plan."""
    sweep = Sweep(
        mechanism=("msa", "sra", "window", "xca"), dim=(24,), heads=(3,), res=((32, 32),), batch=(1,), threads=(1,),
        measure=("latency",), protocol="quick", overrides=(*NUMBERS, *more),
    )  # fmt: skip
    made = run(sweep, folder)
    (rounds,) = read_rounds(made).values()
    assert all("ratio_to_reference" in r.values for r in open_run(made).records)
    return rounds, [c.id for c in open_run(made).cells]


def test_a_fixed_order_is_that_of_the_plan_in_every_round(tmp_path):
    rounds, plan = rounds_of(tmp_path / "run", ("order", "fixed"))
    assert {tuple(k for k, _ in groupby(t.cell for t in r.turns)) for r in rounds} == {
        (plan[0], plan[1], plan[0], plan[2], plan[3])  # the reference has two turns a round, among three others
    }


@pytest.mark.parametrize("schedule", ["sequential", "separate"])
def test_arms_that_do_not_take_turns_have_one_turn_each_in_every_round(tmp_path, schedule):
    rounds, plan = rounds_of(tmp_path / "run", ("schedule", schedule), ("order", "fixed"))
    assert [[t.cell for t in r.turns] for r in rounds] == [plan] * 4
    assert [(r.process, r.round) for r in rounds] == [(0, 0), (0, 1), (1, 2), (1, 3)]


def test_without_rng_the_reference_begins_each_stretch():
    arms = [SimpleNamespace(cell=SimpleNamespace(id=name)) for name in "abRcd"]
    assert [a.cell.id for a in spread(arms, "R", 2, None)] == ["R", "a", "b", "R", "c", "d"]
    assert [a.cell.id for a in spread(arms, "", 1, None)] == ["a", "b", "R", "c", "d"]
    shuffled = spread(arms, "R", 2, random.Random(1))
    assert sorted(a.cell.id for a in shuffled) == sorted("abRRcd")


def test_parts_of_a_round_become_one():
    parts = [
        Round(group="g", process=1, round=3, turns=(ArmTurn(cell=c, calls_s=(0.1,)),), seconds=2.0, forward_s=1.0)
        for c in "ab"
    ]
    whole = joined(parts)
    assert ([t.cell for t in whole.turns], whole.round, whole.seconds, whole.forward_s) == (["a", "b"], 3, 4.0, 2.0)


@pytest.mark.parametrize(("name", "value"), [("schedule", "mixed"), ("order", "sorted")])
def test_an_unknown_schedule_or_order_is_refused(name, value):
    with pytest.raises(AttnbenchError, match=f"{name} must be one of .*; got '{value}'"):
        protocol.get("quick", ((name, value),))


def test_train_mode_alone_changes_no_number_of_calls():
    eager, train = (protocol.get("quick", (("inference", mode),)) for mode in (True, False))
    assert eager.calls_in_turn(0.001) == train.calls_in_turn(0.001) == 15
    assert protocol.get("paper").calls_in_turn(0.001) == protocol.get("paper").calls_in_turn(2.0) == 30
