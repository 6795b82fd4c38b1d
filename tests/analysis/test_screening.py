"""Who is behind and who leads; and that intervals hold although rounds follow the results."""

from __future__ import annotations

import math

import pytest

from attnbench.analysis.contrasts import contrasts
from attnbench.analysis.screening import Standing, leaders
from attnbench.planning.protocol import get
from attnbench.selftest.simulated import SCENARIOS, SPREAD, screened_runs

ORDER = ("a", "b", "c", "d", "e")


def test_an_arm_is_behind_when_three_are_clearly_faster_in_whatever_order_the_pair_is_named():
    three = {("d", "a"), ("b", "d"), ("c", "d"), ("a", "e"), ("b", "e")}
    assert Standing(ORDER, three).behind == {"d"}
    assert Standing(ORDER, three - {("d", "a")}).behind == set()


def test_the_leaders_are_separated_when_each_differs_from_every_other_arm():
    every = {(x, y) for x in ORDER[:3] for y in ORDER if x < y}
    assert Standing(ORDER, every).separated
    assert not Standing(ORDER, every - {("c", "e")}).separated
    assert not Standing(ORDER, every - {("a", "b")}).separated


def test_a_tie_among_the_leaders_is_said_with_its_partners():
    said = leaders(ORDER, {"a": "a", "b": "b", "c": "bc", "d": "c", "e": "d"}, {k: k.upper() for k in ORDER})
    assert said == "A, separated; B, tied with C; C, tied with B, D"


@pytest.mark.parametrize("name", ["normal", "processes equal"])
def test_intervals_cover_the_truth_of_arms_that_were_left_out_and_of_those_that_stayed(name):
    numbers = get("quick", [("within_s", 60.0)]).for_arms(len(SPREAD))
    looks, level = numbers.looks[:4], 1 - 0.05 / len(numbers.looks)
    hits = {True: [], False: []}
    for rounds, resting in screened_runs(
        SCENARIOS[name], 20, speeds=SPREAD, rounds=numbers.rounds_each, looks=looks, level=level
    ):
        for arm, found in contrasts(rounds, [str(n) for n in range(len(SPREAD))], "0").items():
            interval = found.interval(level)
            truth = math.exp(SPREAD[int(arm)])
            hits[arm in resting].append(interval.low <= truth <= interval.high)
    assert len(hits[True]) > 20
    for found in hits.values():
        assert sum(found) / len(found) > 0.93
