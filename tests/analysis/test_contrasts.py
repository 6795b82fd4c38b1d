"""From rounds to speed ratios: exact cases, invariances, and coverage on invented rounds whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.analysis.contrasts import contrasts, location, log_speed, moderated
from attnbench.analysis.statistics import wilson
from attnbench.planning.protocol import get
from attnbench.results.events import ArmTurn, Round
from attnbench.selftest.simulated import SCENARIOS, runs


def made(times, processes=None):
    """Rounds from a list with one mapping of arm to its turns' seconds each."""
    return [
        Round(
            group="g",
            process=processes[n] if processes else n,
            round=n,
            turns=tuple(ArmTurn(cell=arm, calls_s=(t,)) for arm, turns in row.items() for t in turns),
        )
        for n, row in enumerate(times)
    ]


def test_the_location_is_hodges_and_lehmanns():
    values = np.random.default_rng(1).normal(size=9)
    means = [(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]
    assert location(values) == pytest.approx(np.median(means))


def test_a_round_that_is_slow_for_all_changes_nothing():
    times = [{"a": [1.0 + 0.01 * n], "b": [2.0]} for n in range(6)]
    slow = [{arm: [t * 7**n for t in turns] for arm, turns in row.items()} for n, row in enumerate(times)]
    plain, slowed = contrasts(made(times), ["b"], "a")["b"], contrasts(made(slow), ["b"], "a")["b"]
    assert slowed.log_ratio == pytest.approx(plain.log_ratio)
    assert slowed.error == pytest.approx(plain.error)


def test_with_one_round_a_process_and_two_arms_the_error_is_near_that_of_the_mean():
    rng = np.random.default_rng(2)
    data = rng.normal(0.3, 0.02, 400)
    found = contrasts(made([{"a": [math.exp(d)], "b": [1.0]} for d in data]), ["b"], "a")["b"]
    assert found.log_ratio == pytest.approx(0.3, abs=0.003)
    assert found.error == pytest.approx(0.02 * math.sqrt(math.pi / 3) / 20, rel=0.15)  # HL's efficiency is 3 / pi


def test_a_faster_arm_has_a_ratio_above_one():
    found = contrasts(made([{"msa": [2.0], "fast": [1.0], "slow": [4.0]}] * 6), ["msa", "fast", "slow"], "msa")
    assert {arm: c.ratio for arm, c in found.items()} == pytest.approx({"fast": 2.0, "slow": 0.5})
    assert found["fast"].interval().half_width == 0
    assert found["fast"].p() == 0


def test_a_single_process_is_judged_by_its_rounds_and_a_single_round_not_at_all():
    times = [{"a": [1.0 + 0.01 * n], "b": [2.0]} for n in range(6)]
    one = contrasts(made(times, [0] * 6), ["b"], "a")["b"]
    assert (one.processes, one.units, one.rounds) == (1, 6, 6)
    assert math.isfinite(one.error)
    alone = contrasts(made(times[:1]), ["b"], "a")["b"]
    assert (alone.interval().low, alone.interval().high, alone.p()) == (0.0, math.inf, 1.0)


def test_arms_are_compared_over_the_rounds_that_both_were_in():
    times = [{"a": [1.0], "b": [2.0], "c": [1.0]}] * 4 + [{"a": [9.0], "c": [9.0]}] * 4
    found = contrasts(made(times), ["b", "c", "d"], "a")
    assert found["b"].rounds == 4
    assert found["b"].ratio == pytest.approx(0.5)
    assert "d" not in found


def test_processes_that_differ_are_said():
    rng = np.random.default_rng(3)
    bias = np.repeat(rng.normal(0, 0.2, 8), 4)
    times = [{"a": [1.0], "b": [math.exp(b + rng.normal(0, 0.01))]} for b in bias]
    processes = [n // 4 for n in range(32)]
    assert contrasts(made(times, processes), ["b"], "a")["b"].processes_differ
    quiet = [{"a": [1.0], "b": [math.exp(rng.normal(0, 0.01))]} for _ in bias]
    assert not contrasts(made(quiet, processes), ["b"], "a")["b"].processes_differ


def test_the_speed_of_one_arm_alone_carries_what_slowed_the_round():
    times = [{"a": [1.0 * 1.1**n], "b": [2.0 * 1.1**n]} for n in range(8)]
    assert log_speed(made(times), "b").error > 0.05
    assert contrasts(made(times), ["b"], "a")["b"].error == pytest.approx(0, abs=1e-12)
    assert log_speed(made(times), "c") is None


def test_variances_are_drawn_to_their_common_level_and_gain_degrees_of_freedom():
    rng = np.random.default_rng(4)
    equal = rng.chisquare(5, 400) / 5
    drawn, df = moderated(equal, 5.0)
    assert df == 5 + 3
    assert drawn.var() < equal.var()
    assert drawn.mean() == pytest.approx(1, rel=0.1)
    spread = equal * np.exp(rng.normal(0, 3, 400))
    _, gained = moderated(spread, 5.0)
    assert 5 < gained < 6  # very unequal arms lend little
    assert moderated(np.zeros(9), 5.0)[1] == 5.0


def test_successive_processes_that_resemble_each_other_widen_the_error():
    slow = [{"a": [1.0], "b": [math.exp(0.1 * math.sin(n / 2))]} for n in range(12)]
    mixed = [slow[n] for n in (0, 6, 2, 9, 4, 10, 1, 7, 3, 11, 5, 8)]
    assert contrasts(made(slow), ["b"], "a")["b"].correlation > 0.3
    assert contrasts(made(slow), ["b"], "a")["b"].error > contrasts(made(mixed), ["b"], "a")["b"].error


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=4, max_size=9),
    st.floats(0.1, 10),
)
def test_a_slower_clock_for_one_arm_scales_its_ratio_and_nothing_else(pairs, factor):
    one = contrasts(made([{"a": [x], "b": [y]} for x, y in pairs]), ["b"], "a")["b"]
    other = contrasts(made([{"a": [x], "b": [y * factor]} for x, y in pairs]), ["b"], "a")["b"]
    assert other.log_ratio == pytest.approx(one.log_ratio - math.log(factor), abs=1e-9)
    assert other.error == pytest.approx(one.error, abs=1e-9)


@pytest.mark.parametrize("name", [s for s in SCENARIOS if s != "whole run 0.3"])
@pytest.mark.parametrize(("protocol", "arms"), [("quick", 3), ("standard", 8)])
def test_the_interval_covers_the_truth_whatever_disturbs_the_turns(name, protocol, arms):
    numbers = get(protocol).for_arms(arms)
    hits = total = 0
    for run in runs(
        SCENARIOS[name], 150, arms=arms, processes=numbers.processes, rounds=numbers.rounds_each, reference_turns=2
    ):
        for found in contrasts(run, [str(n) for n in range(arms)], "0").values():
            interval = found.interval(0.95)
            hits += interval.low <= 1 <= interval.high
            total += 1
    assert wilson(hits, total, 0.999).high > 0.94
    assert hits / total > 0.90


@pytest.mark.parametrize(("protocol", "arms", "isolated"), [("quick", 3, 1), ("standard", 4, 3)])
def test_the_intervals_of_isolated_arms_cover_the_truth(protocol, arms, isolated):
    numbers = get(protocol).for_arms(arms - isolated)
    hits = dict.fromkeys(SCENARIOS, 0)
    trials = 90 // isolated
    for name, scenario in SCENARIOS.items():
        for run in runs(
            scenario, trials, arms=arms, processes=numbers.processes, rounds=numbers.rounds_each, reference_turns=2,
            isolated=isolated, turns_alone=2,
        ):  # fmt: skip
            for found in contrasts(run, [str(n) for n in range(arms - isolated, arms)], "0").values():
                interval = found.interval(0.95)
                hits[name] += interval.low <= 1 <= interval.high
    assert sum(hits.values()) / (trials * isolated * len(SCENARIOS)) > 0.94
    assert min(hits.values()) / (trials * isolated) > 0.91


def apart(times, processes):
    """Rounds with arms "a" and "b" shared, and "a" and "c" in processes of their own: [shared a, b, own a, c]."""

    def turn(cell, seconds):
        return ArmTurn(cell=cell, calls_s=(seconds,))

    return [
        Round(group="g", process=process, round=n, turns=(turn("a", a), turn("b", b)),
              alone=(turn("a", own), turn("c", c)))
        for n, ((a, b, own, c), process) in enumerate(zip(times, processes, strict=True))
    ]  # fmt: skip


def test_an_isolated_arm_is_compared_with_the_reference_in_a_process_of_its_own():
    rounds = apart([[5.0, 1.0, 2.0, 1.0]] * 6, range(6))
    found = contrasts(rounds, ["b", "c"], "a")
    assert {arm: c.ratio for arm, c in found.items()} == pytest.approx({"b": 5.0, "c": 2.0})
    assert contrasts(rounds, ["a"], "c")["a"].ratio == pytest.approx(0.5)
    assert contrasts(rounds, ["b"], "c")["b"].ratio == pytest.approx(1.0)  # b was never alone


def test_whatever_an_isolated_arm_reports_the_others_contrasts_stay_bit_for_bit():
    rng = np.random.default_rng(5)
    times = np.exp(rng.normal(0, 0.05, (12, 4)))
    wild = times.copy()
    wild[:, 3] = np.exp(rng.normal(0, 9, 12))
    processes = [n // 2 for n in range(12)]
    plain, spoilt = (contrasts(apart(t.tolist(), processes), ["b", "c"], "a") for t in (times, wild))
    assert plain["b"] == spoilt["b"]
    assert plain["c"] != spoilt["c"]


def test_what_slows_both_processes_of_a_pair_changes_nothing():
    rng = np.random.default_rng(6)
    times = np.exp(rng.normal(0, 0.05, (12, 4)))
    processes = [n // 2 for n in range(12)]
    slow = times * np.repeat(rng.uniform(1, 3, 6), 2)[:, None]
    plain, slowed = (contrasts(apart(t.tolist(), processes), ["c"], "a")["c"] for t in (times, slow))
    assert slowed.log_ratio == pytest.approx(plain.log_ratio)
    assert slowed.error == pytest.approx(plain.error)


def test_one_pair_of_processes_gives_an_isolated_arm_no_interval():
    found = contrasts(apart([[1.0, 1.0, 2.0, 1.0], [1.0, 1.0, 2.1, 1.0]], [0, 0]), ["b", "c"], "a")
    assert math.isfinite(found["b"].error)
    assert found["c"].interval().high == math.inf


def test_what_no_run_can_see_is_not_covered():
    hits = total = 0
    for run in runs(SCENARIOS["whole run 0.3"], 200, arms=2, processes=16, rounds=4):
        interval = contrasts(run, ["1"], "0")["1"].interval(0.95)
        hits, total = hits + (interval.low <= 1 <= interval.high), total + 1
    assert hits / total < 0.8
