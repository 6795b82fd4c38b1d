"""What runs differ by, from invented runs of known spread; and the intervals that include it. No clock, no torch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from attnbench.analysis.between_runs import (
    RunSpread,
    between,
    estimate,
    spread_in,
    spread_of,
    widened,
    widened_difference,
)
from attnbench.analysis.contrasts import Contrast, contrasts
from attnbench.analysis.statistics import Difference
from attnbench.planning import protocol
from attnbench.results.events import BetweenRuns
from attnbench.selftest.simulated import SCENARIOS, runs

KEY = ("cpu", 2, "pinned", "standard-01234567")
KNOWN = BetweenRuns(
    key=KEY, runs=10, measured="2026-11-29T23:00:00+00:00", ratio_sd={"van": 0.02}, other_ratio_sd=0.01,
    time_sd={"msa": 0.03, "van": 0.04}, other_time_sd=0.035,
)  # fmt: skip
CONTRAST = Contrast(log_ratio=0.5, error=0.03, df=10.0, rounds=16, processes=8, units=8)


def invented(spreads, *, runs=10, error=0.003, seed=0):
    """Log ratios of so many runs: what a layer's runs differ by, and the error that each run claims."""
    rng = np.random.default_rng(seed)
    return {
        name: [(value, error) for value in rng.normal(0.1, math.hypot(sd, error), runs).tolist()]
        for name, sd in spreads.items()
    }


def estimated(ratios, times=None):
    return estimate(ratios, times or ratios, key=KEY, measured="now")


def test_runs_that_differ_as_they_claim_add_nothing_on_average():
    layers = dict.fromkeys("abcdef", 0.0)
    found = [estimated(invented(layers, seed=seed)) for seed in range(40)]
    assert np.mean([f.other_ratio_sd for f in found]) < 0.0015  # of an error of 0.003


def test_what_runs_differ_by_is_found_and_a_layer_that_differs_more_keeps_more_of_it():
    layers = {**dict.fromkeys("abcde", 0.01), "f": 0.03}
    found = [estimated(invented(layers, seed=seed)) for seed in range(40)]
    variances = {name: np.mean([f.ratio_sd[name] ** 2 for f in found]) for name in layers}
    common = (5 * 0.01**2 + 0.03**2) / 6
    assert variances["a"] == pytest.approx((3 * common + 9 * 0.01**2) / 12, rel=0.15)
    assert variances["f"] == pytest.approx((3 * common + 9 * 0.03**2) / 12, rel=0.15)
    assert np.mean([f.other_ratio_sd**2 for f in found]) == pytest.approx(common, rel=0.15)


def test_ratios_and_times_are_apart():
    found = estimated(invented({"a": 0.01}), invented({"a": 0.05, "msa": 0.05}))
    assert set(found.ratio_sd) == {"a"}
    assert set(found.time_sd) == {"a", "msa"}
    assert found.other_time_sd > 2 * found.other_ratio_sd


@pytest.mark.parametrize("lengths", [(2, 2), (5, 4)])
def test_too_few_or_unequally_many_runs_are_refused(lengths):
    a, b = lengths
    layers = {**invented({"a": 0.0}, runs=a), **invented({"b": 0.0}, runs=b)}
    with pytest.raises(ValueError, match="at least 3 runs of the same layers"):
        estimated(layers)


def test_an_arm_has_what_its_mechanism_had_or_what_is_usual_and_the_reference_no_ratio():
    assert spread_of(KNOWN, "van") == RunSpread(0.02, 0.04, 9.0)
    assert spread_of(KNOWN, "focal") == RunSpread(0.01, 0.035, 9.0)
    assert spread_of(KNOWN, "van", layer=False) == RunSpread(0.01, 0.035, 9.0)
    assert spread_of(KNOWN, "msa", reference=True) == RunSpread(0.0, 0.03, 9.0)
    assert spread_of(None, "van") == RunSpread()


def test_a_records_values_give_it_back_and_those_without_it_nothing():
    assert spread_in({"run_ratio_sd": 0.02, "run_time_sd": 0.04, "run_df": 9.0}) == spread_of(KNOWN, "van")
    assert spread_in({"ratio_error": 0.1}) == RunSpread()


def test_two_arms_of_one_run_differ_by_the_larger_of_the_two():
    reference, van, focal = RunSpread(0.0, 0.03, 9.0), RunSpread(0.02, 0.04, 9.0), RunSpread(0.01, 0.03, 9.0)
    assert between(van, reference) == between(reference, van) == between(van, focal) == (0.02, 9.0)


def test_the_errors_add_as_variances_with_satterthwaites_degrees_of_freedom():
    found = widened(CONTRAST, 0.04, 9.0)
    assert found.error == pytest.approx(0.05)
    assert found.df == pytest.approx(0.05**4 / (0.03**4 / 10 + 0.04**4 / 9))
    assert replace(found, error=0.03, df=10.0) == CONTRAST
    difference = widened_difference(Difference(0.5, 0.03, 10.0), 0.04, 9.0)
    assert (difference.error, difference.df) == (found.error, found.df)


def test_what_has_no_error_keeps_none_and_nothing_adds_nothing():
    alone = replace(CONTRAST, error=math.inf, df=0.0)
    assert widened(alone, 0.04, 9.0) == alone
    assert widened(CONTRAST, 0.0, math.inf) == CONTRAST


def test_an_effect_of_the_whole_run_is_covered_after_a_self_test_and_not_before():
    scenario, arms, trials = replace(SCENARIOS["whole run 0.3"], run_sd=1.0), 4, 400
    numbers = protocol.get("standard").for_arms(arms)
    level, others = numbers.level, [str(n) for n in range(1, arms)]
    made = runs(scenario, trials, arms=arms, processes=numbers.processes, rounds=numbers.rounds_each, reference_turns=2)
    found = [contrasts(rounds, others, "0") for rounds in made]
    tested, later = found[:10], found[10:]
    known = estimated({arm: [(run[arm].log_ratio, run[arm].error) for run in tested] for arm in others})
    plain = [c.interval(level) for run in later for c in run.values()]
    wide = [
        widened(c, spread.ratio_sd, spread.df).interval(level)
        for run in later
        for arm, c in run.items()
        for spread in [spread_of(known, arm)]
    ]
    assert sum(i.low <= 1 <= i.high for i in plain) < 0.7 * len(plain)
    assert sum(i.low <= 1 <= i.high for i in wide) >= 0.93 * len(wide)
