"""Intervals against enumeration and scipy, and their coverage on invented rounds whose truth is known."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from simulated import disturbed, processes

from attnbench.analysis.distributions import signed_rank
from attnbench.analysis.statistics import (
    Interval,
    holm,
    kendall_tau,
    median_interval,
    power_law,
    ratio,
    ratio_p,
    signed_rank_interval,
    signed_rank_p,
    spearman_rho,
    student_interval,
    student_p,
    welch,
    wilson,
)
from attnbench.analysis.stopping import Rule

NOISE = np.random.default_rng(0).normal(0.01, 0.02, 40)
TRIALS = 3000


# --- the distribution ----------------------------------------------------------------------------------------


def test_the_signed_rank_distribution_is_exact_for_many_rounds():
    chances = signed_rank(tuple(range(1, 201)))
    s = np.arange(len(chances))
    assert chances.sum() == pytest.approx(1, abs=1e-12)
    assert chances @ s == pytest.approx(200 * 201 / 4)
    assert chances @ (s - 200 * 201 / 4) ** 2 == pytest.approx(200 * 201 * 401 / 24)


def test_scipy_is_not_loaded_until_a_value_is_asked_for():
    names = "attnbench, attnbench.cli, attnbench.report.write, attnbench.execution.runner, attnbench.execution.worker"
    code = f"import sys, {names}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- intervals of one sample ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 7, 12, 16, 31])
@pytest.mark.parametrize("level", [0.9, 0.95, 1 - 0.05 / 3])
def test_the_median_interval_is_the_sign_test_inverted(n, level):
    x = NOISE[:n]
    found = median_interval(x, level)
    assert found.estimate == np.median(x)
    if 2 * 0.5**n > 1 - level:
        assert (found.low, found.high) == (-math.inf, math.inf)
        return
    for inside in (found.low + 1e-9, found.high - 1e-9):
        assert scipy.stats.binomtest(int((x < inside).sum()), n).pvalue > 1 - level
    for outside in (found.low - 1e-9, found.high + 1e-9):
        assert scipy.stats.binomtest(int((x < outside).sum()), n).pvalue <= 1 - level


@pytest.mark.parametrize("n", [6, 9, 12])
def test_the_signed_rank_interval_is_the_signed_rank_test_inverted(n):
    x, level = NOISE[:n], 0.95
    found = signed_rank_interval(x, level)
    width = found.high - found.low
    for inside in (found.low + 1e-6 * width, found.high - 1e-6 * width, found.estimate):
        assert scipy.stats.wilcoxon(x - inside, method="exact").pvalue > 1 - level
    for outside in (found.low - 1e-6 * width, found.high + 1e-6 * width):
        assert scipy.stats.wilcoxon(x - outside, method="exact").pvalue <= 1 - level
    assert found.estimate == np.median([(a + b) / 2 for a, b in itertools.combinations_with_replacement(x, 2)])


@pytest.mark.parametrize("values", [[3, -1, 4, 1, -5, 9, 2, 6], [1, 1, -1, 2, 0, 0, 3, 3], [0, 0, 1], [2.5] * 7])
def test_the_signed_rank_p_is_the_share_of_sign_patterns_at_least_as_extreme(values):
    ranks = scipy.stats.rankdata(np.abs(values))
    moved = [r for r, v in zip(ranks, values, strict=True) if v]
    found = sum(r for r, v in zip(ranks, values, strict=True) if v > 0)
    sums = [sum(itertools.compress(moved, pattern)) for pattern in itertools.product((0, 1), repeat=len(moved))]
    low, high = sum(s <= found for s in sums) / len(sums), sum(s >= found for s in sums) / len(sums)
    assert signed_rank_p(values) == pytest.approx(min(1, 2 * min(low, high)), abs=1e-12)


def test_values_at_the_centre_say_nothing():
    assert signed_rank_p([2.0, 2.0, 2.0], centre=2.0) == 1.0


@pytest.mark.parametrize("interval", [median_interval, signed_rank_interval])
def test_too_few_values_give_an_infinite_interval_and_no_half_width(interval):
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])  # 2 / 2**5 = 6 % is more than 5 %
    assert (found.low, found.high, found.half_width) == (-math.inf, math.inf, math.inf)
    assert math.isfinite(interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).half_width)


@pytest.mark.parametrize("interval", [median_interval, signed_rank_interval, signed_rank_p, student_interval])
def test_what_is_no_sample_is_refused(interval):
    with pytest.raises(ValueError, match=r"at least one value; got an array of shape \(0,\)"):
        interval([])
    with pytest.raises(ValueError, match="values must be finite; got nan among 3"):
        interval([1.0, math.nan, 2.0])


def test_a_level_lies_between_0_and_1():
    with pytest.raises(ValueError, match="got 95"):
        median_interval([1.0] * 9, 95)


def test_constant_values_have_no_width():
    assert signed_rank_interval([2.0] * 12) == Interval(2.0, 2.0, 2.0)
    assert median_interval([0.0] * 12).half_width == 0


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=20), st.floats(-3, 3))
def test_intervals_move_with_the_values(values, shift):
    for interval in (median_interval, signed_rank_interval):
        here, there = interval(values), interval([v + shift for v in values])
        assert there.low == pytest.approx(here.low + shift, abs=1e-9)
        assert there.high == pytest.approx(here.high + shift, abs=1e-9)
        assert here.low <= here.estimate <= here.high


def test_student_and_welch_equal_scipys():
    x, y = NOISE[:5], 2 * NOISE[5:13]
    assert student_p(x, 0.02) == pytest.approx(scipy.stats.ttest_1samp(x, 0.02).pvalue)
    one, two = student_interval(x), scipy.stats.ttest_1samp(x, 0).confidence_interval()
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    truth = scipy.stats.ttest_ind(x, y, equal_var=False)
    found, wanted = welch(x, y), truth.confidence_interval()
    assert (found.df, found.p()) == pytest.approx((truth.df, truth.pvalue))
    assert (found.interval().low, found.interval().high) == pytest.approx((wanted.low, wanted.high))


def test_a_single_process_gives_a_difference_without_an_interval():
    found = welch([0.1], [0.2, 0.3, 0.4])
    assert (found.interval().low, found.interval().high, found.p()) == (-math.inf, math.inf, 1.0)


# --- the ratio and its unit -------------------------------------------------------------------------------


def test_without_process_effects_the_round_is_the_unit():
    found = ratio([NOISE[i:16:4] for i in range(4)])
    assert (found.unit, found.rounds, found.processes) == ("round", 16, 4)
    pooled = signed_rank_interval(NOISE[:16])
    assert (found.low, found.high) == (math.exp(pooled.low), math.exp(pooled.high))


def test_processes_that_differ_become_the_unit():
    data = [[bias + x for x in NOISE[4 * i : 4 * i + 4]] for i, bias in enumerate((0.0, 0.2, -0.3, 0.1))]
    found = ratio(data)
    assert (found.unit, found.processes_differ) == ("process", True)
    t = scipy.stats.ttest_1samp([np.mean(d) for d in data], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((math.exp(t.low), math.exp(t.high)))
    assert found.process_sd == pytest.approx(0.2, rel=0.5)
    assert found.round_sd == pytest.approx(0.02, rel=0.5)


def test_the_test_between_processes_is_scipys_one_way_analysis():
    data = [[bias + x for x in NOISE[i : i + n]] for i, n, bias in ((0, 3, 0.0), (3, 4, 0.01), (7, 6, 0.0))]
    p = scipy.stats.f_oneway(*data).pvalue
    assert 0.05 < p < 0.30
    found = ratio(data)
    assert (found.unit, found.processes_differ) == ("process", False)


def test_unequal_rounds_estimate_the_same_variances():
    rng = np.random.default_rng(5)
    found = [
        ratio([bias + rng.normal(0, 0.01, n) for n, bias in zip((2, 4, 8), rng.normal(0, 0.03, 3), strict=True)])
        for _ in range(800)
    ]
    assert np.mean([f.process_sd**2 for f in found]) == pytest.approx(0.03**2, rel=0.15)
    assert np.mean([f.round_sd**2 for f in found]) == pytest.approx(0.01**2, rel=0.05)


def test_one_process_has_no_process_term():
    found = ratio([NOISE[:12]])
    assert (found.unit, found.processes_differ, found.processes) == ("round", False, 1)
    assert math.isnan(found.process_sd)


def test_one_round_in_each_process_has_none_either():
    found = ratio([[x] for x in NOISE[:12]])
    assert math.isnan(found.process_sd)
    assert found.low == math.exp(signed_rank_interval(NOISE[:12]).low)


def test_a_single_round_gives_an_estimate_and_an_infinite_interval():
    found = ratio([[math.log(2)]])
    assert (found.estimate, found.low, found.high) == (pytest.approx(2), 0.0, math.inf)
    assert found.half_width == math.inf


@pytest.mark.parametrize("value", [0.3, -0.1, 0.0])
def test_rounding_is_no_process_effect(value):
    found = ratio([[value] * 3, [value] * 5, [value] * 4])
    assert (found.unit, found.process_sd) == ("round", 0.0)


def test_processes_that_are_constant_and_unequal_differ():
    assert ratio([[0.1, 0.1], [0.2, 0.2]]).processes_differ


def test_a_ratio_needs_rounds():
    with pytest.raises(ValueError, match="at least one process; got none"):
        ratio([])
    with pytest.raises(ValueError, match="at least one value"):
        ratio([[0.1], []])


@pytest.mark.parametrize("process_sd", [0.0, 2.0])
def test_the_p_of_a_ratio_is_below_five_percent_where_its_interval_excludes_the_centre(process_sd):
    for data in processes(3, 100, process_sd=process_sd):
        found = ratio(data)
        for centre in (0.0, 0.01):
            assert (ratio_p(data, centre) <= 0.05) == (not found.low <= math.exp(centre) <= found.high)


# --- coverage: docs/decisions/0001-unit-of-inference.md cites these numbers ------------------------------


def coverage(samples: Iterable[np.ndarray]) -> float:
    hits = [(found := ratio(data)).low <= 1 <= found.high for data in samples]
    return sum(hits) / len(hits)


@pytest.mark.parametrize(
    ("k", "n", "process_sd", "measured"),
    [
        (4, 4, 0.0, 0.968), (4, 4, 0.5, 0.943), (4, 4, 0.85, 0.939), (4, 4, 1.0, 0.939), (4, 4, 3.0, 0.949),
        (3, 4, 0.0, 0.972), (3, 4, 0.85, 0.929), (3, 4, 1.0, 0.928), (8, 4, 0.0, 0.962), (8, 4, 0.6, 0.943),
    ],
)  # fmt: skip
def test_coverage_stays_near_its_level_whatever_the_processes_do(k, n, process_sd, measured):
    found = coverage(processes(1, TRIALS, k=k, n=n, process_sd=process_sd))
    assert found == pytest.approx(measured, abs=0.012)  # three standard errors
    assert wilson(round(found * TRIALS), TRIALS).high > 0.93


def test_one_process_covers_only_itself():
    assert coverage(processes(1, TRIALS, k=1, n=12)) == pytest.approx(0.95, abs=0.012)
    assert coverage(processes(1, TRIALS, k=1, n=12, process_sd=1.0)) == pytest.approx(0.43, abs=0.03)


@pytest.mark.parametrize(("k", "n"), [(4, 4), (1, 12)])
@pytest.mark.parametrize("disturbance", ["drift", "spikes", "ramp"])
def test_identical_arms_are_seldom_called_different_on_a_disturbed_machine(disturbance, k, n):
    misses = round((1 - coverage(disturbed(1, TRIALS, disturbance, k=k, n=n))) * TRIALS)
    assert wilson(misses, TRIALS).high <= 0.06, misses / TRIALS


def test_quiet_processes_pay_little_for_the_caution():
    own = pooled = 0.0
    widths = []
    for data in processes(2, TRIALS):
        found, round_alone = ratio(data), signed_rank_interval(data.ravel())
        widths.append((found.half_width, (round_alone.high - round_alone.low) / 2))
        own, pooled = own + widths[-1][0], pooled + widths[-1][1]
    medians = np.median(widths, axis=0)
    assert medians[0] / medians[1] < 1.15
    assert own / pooled < 1.32


@pytest.mark.parametrize("process_sd", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("target", [0.005, 0.008, 0.012])
def test_the_final_interval_holds_its_level_however_early_it_stopped(process_sd, target):
    rule = Rule(looks=(16, 24, 32), target=target, budget_s=math.inf)
    hits, trials = 0, 1000
    for data in processes(4, trials, k=8, process_sd=process_sd):
        for look in rule.looks:
            found = ratio(data[: look // 4], rule.level_at_a_look)
            if rule.decide(look, {"arm": found.half_width}, 0.0).stop:
                break
        hits += found.low <= 1 <= found.high
    assert wilson(hits, trials).low > 0.93


# --- tables -----------------------------------------------------------------------------------------------


def test_holm_multiplies_steps_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"got 1\.2"):
        holm([0.1, 1.2])


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (3, 20), (20, 20), (1, 1)])
def test_wilsons_interval_equals_scipys(successes, trials):
    found = wilson(successes, trials)
    truth = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_a_share_needs_trials():
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson(3, 2)


def test_rank_correlations_equal_scipys_with_ties():
    x, y = [1, 2, 2, 3, 5, 4, 4], [1, 3, 2, 2, 6, 6, 1]
    assert spearman_rho(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert kendall_tau(x, y) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    for correlation in (spearman_rho, kendall_tau):
        assert correlation([1, 2, 3], [3, 2, 1]) == -1
        assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))


def test_the_exponent_of_a_power_law_equals_scipys_slope():
    x, y = [196, 576, 1024, 4096], [1.0, 8.1, 29.0, 420.0]
    line = scipy.stats.linregress(np.log(x), np.log(y))
    reach = scipy.stats.t.ppf(0.975, 2) * line.stderr
    found = power_law(x, y)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (line.slope, line.slope - reach, line.slope + reach)
    )


def test_two_points_have_an_exponent_and_no_interval():
    found = power_law([1, 2], [3, 12])
    assert (found.estimate, found.low, found.high) == (pytest.approx(2), -math.inf, math.inf)


def test_a_power_law_needs_positive_values_and_two_sizes():
    with pytest.raises(ValueError, match=r"positive values; got 0\.0"):
        power_law([1, 2, 3], [1, 0, 2])
    with pytest.raises(ValueError, match=r"two different x; got 7\.0"):
        power_law([7, 7], [1, 2])
    with pytest.raises(ValueError, match="got 2 and 3"):
        power_law([1, 2], [1, 2, 3])
