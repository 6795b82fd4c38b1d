"""The summary of the self-test, from invented trials."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from attnbench.selftest.sensitivity import POWER_80, summarize_trials


def trial(same: tuple[float, float, float], double: tuple[float, float, float]):
    names = ("ratio_to_reference", "ratio_low", "ratio_high")
    return {
        variant: SimpleNamespace(values=dict(zip(names, numbers, strict=True)))
        for variant, numbers in (("probe_b", same), ("probe_twice", double))
    }


def test_trials_become_a_rate_of_false_differences_and_a_detectable_difference():
    trials = [
        trial((1.00, 0.98, 1.02), (0.50, 0.48, 0.52)),
        trial((1.00, 0.96, 1.04), (0.51, 0.49, 0.53)),
        trial((1.05, 1.01, 1.09), (0.55, 0.52, 0.58)),
    ]
    result = summarize_trials(trials, ((95.0, 96.0), (0.021, 0.020)), alone=0.9)  # type: ignore[arg-type]
    assert (result.trials, result.excluding, result.twice_hits) == (3, 1, 2)
    assert result.rate.estimate == pytest.approx(1 / 3)
    assert result.half_width == pytest.approx(0.04 / 1.05)
    assert (result.twice.estimate, result.twice.low, result.twice.high) == (0.51, 0.49, 0.53)
    assert result.resolvable == pytest.approx(POWER_80 * 0.04 / 1.05)
    assert result.sentence("quick", "cpu").startswith("Now, `quick` on cpu detects a difference of 5.4% in 4 of 5")
    assert (result.allocation, result.delay, result.alone) == ((95.0, 96.0), (0.021, 0.020), 0.9)


def test_an_interval_that_ends_at_one_does_not_exclude_it():
    result = summarize_trials([trial((1.01, 1.00, 1.02), (0.5, 0.4, 0.5))] * 2, ((1, 1), (1, 1)), alone=1.0)  # type: ignore[arg-type]
    assert (result.excluding, result.twice_hits) == (0, 2)
