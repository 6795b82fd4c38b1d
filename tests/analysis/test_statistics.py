"""Tests, corrections and correlations against scipy."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from attnbench.analysis.statistics import (
    hodges_lehmann,
    holm,
    kendall_tau,
    power_law,
    share_of_pairs,
    spearman_rho,
    welch,
    wilson,
)

NOISE = np.random.default_rng(0).normal(0.01, 0.02, 40)


def test_scipy_is_not_loaded_until_a_value_is_asked_for():
    names = "attnbench, attnbench.cli, attnbench.report.write, attnbench.execution.runner, attnbench.execution.worker"
    code = f"import sys, {names}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- differences of two samples ----------------------------------------------------------------------------


def test_what_is_no_sample_is_refused():
    with pytest.raises(ValueError, match=r"at least one value; got an array of shape \(0,\)"):
        welch([], [1.0])
    with pytest.raises(ValueError, match="values must be finite; got nan among 3"):
        welch([1.0, math.nan, 2.0], [1.0])


def test_a_level_lies_between_0_and_1():
    with pytest.raises(ValueError, match="got 95"):
        wilson(1, 2, 95)


def test_welch_equals_scipys():
    x, y = NOISE[:5], 2 * NOISE[5:13]
    truth = scipy.stats.ttest_ind(x, y, equal_var=False)
    found, wanted = welch(x, y), truth.confidence_interval()
    assert (found.df, found.p()) == pytest.approx((truth.df, truth.pvalue))
    assert (found.interval().low, found.interval().high) == pytest.approx((wanted.low, wanted.high))


def test_hodges_and_lehmanns_estimate_has_the_bits_of_the_median_of_all_means():
    rng = np.random.default_rng(0)
    for n in range(1, 12):
        drawn = rng.normal(size=(3, 20, n)).take(rng.integers(n, size=n), axis=-1)
        i, j = np.triu_indices(n)
        means = (drawn[..., i] + drawn[..., j]) / 2
        assert np.array_equal(hodges_lehmann(drawn), np.median(means, axis=-1))


def test_a_single_process_gives_a_difference_without_an_interval():
    found = welch([0.1], [0.2, 0.3, 0.4])
    assert (found.interval().low, found.interval().high, found.p()) == (-math.inf, math.inf, 1.0)


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


def test_the_share_of_pairs_has_an_interval_that_contains_the_truth_although_pairs_share_members():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        tables = []
        for _group in range(2):
            x = rng.normal(size=30)
            tables.append(np.abs(x[:, None] - x[None, :]) > 1.96 * math.sqrt(2))
        share = share_of_pairs(tables)
        inside += share.low <= 0.05 <= share.high
    assert inside >= 180


def test_the_share_of_pairs_counts_each_pair_once_and_refuses_tables_that_are_none():
    share = share_of_pairs([[[False, True, False], [True, False, False], [False, False, False]]])
    assert share.estimate == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="square"):
        share_of_pairs([[[True]]])
