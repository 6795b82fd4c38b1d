"""Rankings under several conditions: tau, its two intervals, what a single change does, and the front."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.analysis import survival
from attnbench.analysis.front import front_probability, on_front
from attnbench.analysis.ranking import AT_ONCE, Measurement
from attnbench.analysis.statistics import kendall_tau
from attnbench.analysis.survival import ITEMS, PAPER, ROUNDS, TIME, Axes, Condition

ARMS = tuple("abcdefgh")


def condition(speeds, *, draws=None, source="measured", **axes):
    made = dict(zip(ARMS, speeds, strict=False))
    return Condition(
        scope="layer", source=source, origin="somewhere", axes=Axes(**axes), speeds=made, draws=draws or {}
    )


def noisy(seed, spread, processes=6):
    """Eight arms 0.1 apart in log speed, timed in processes of four rounds each with this much noise."""
    rng = np.random.default_rng(seed)
    times = -0.1 * np.arange(8)
    return Measurement(ARMS, tuple(times + rng.normal(0, spread, (4, 8)) for _ in range(processes)))


def test_two_runs_of_different_code_differ_in_it_and_a_source_without_code_does_not():
    old, new = Axes(device="a", code="1ef2dac0"), Axes(device="b", code="9df0f549")
    assert old.differences(new) == ("device", "code")
    assert old.differences(Axes(device="a", version="2022")) == ("version",)


def test_the_jackknife_over_items_leaves_out_each_item_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 5.0, 4.0]
    without = [kendall_tau(x[:i] + x[i + 1 :], y[:i] + y[i + 1 :]) for i in range(5)]
    error = math.sqrt(4 / 5 * sum((t - sum(without) / 5) ** 2 for t in without))
    found = survival.item_interval(x, y)
    assert found.estimate == pytest.approx(0.6)
    assert found.estimate - found.low == pytest.approx(2.7764 * error, rel=1e-4)


def test_a_ranking_that_no_left_out_item_changes_has_no_error_and_so_the_whole_interval():
    found = survival.item_interval([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.estimate, found.low, found.high) == (1.0, -1.0, 1.0)


def test_rounds_give_a_narrow_interval_to_clear_orders_and_a_wide_one_to_noisy_orders():
    def between(spread):
        two = [noisy(seed, spread) for seed in (1, 2)]
        made = [
            condition(m.speeds(), draws=survival.draw(m, seed), batch=f"batch {seed}") for seed, m in enumerate(two)
        ]
        (found,) = survival.agreements(made)
        assert found.basis == ROUNDS
        return found.tau

    clear, blurred = between(0.01), between(0.4)
    assert (clear.low, clear.high) == (1.0, 1.0)
    assert blurred.high - blurred.low > 0.3


def test_samples_made_together_are_those_made_one_by_one_also_of_processes_with_unequal_rounds():
    rng = np.random.default_rng(3)
    measured = Measurement(ARMS, tuple(rng.normal(0, 0.1, (rounds, 8)) for rounds in (4, 7, 4)))
    other = np.random.default_rng(0)
    together = measured.samples(0, 2 * AT_ONCE)
    assert np.array_equal(together, [measured.resampled(other) for _ in range(2 * AT_ONCE)])


def test_a_published_ranking_is_compared_over_its_items():
    draws = survival.draw(noisy(1, 0.01))
    here = condition(range(8), draws=draws, device="mine", version="torch 2")
    there = condition([0, 2, 1, 3, 5], source=PAPER, device="theirs", version="published 2022")
    (found,) = survival.agreements([here, there])
    assert (found.basis, found.items, found.changes) == (ITEMS, 5, ("device", "version"))


def test_the_single_change_that_moves_the_ranking_most_comes_first():
    base = condition([1, 2, 3, 4], runtime="eager", batch="batch 1")
    again = condition([1, 2, 3, 4.5], runtime="eager", batch="batch 1")
    batch = condition([1, 2, 4, 3], runtime="eager", batch="batch 8")
    runtime = condition([4, 3, 2, 1], runtime="ONNX Runtime", batch="batch 1")
    found = survival.single_changes(survival.agreements([base, again, batch, runtime]))
    assert [c.axis for c in found] == ["runtime", "batch", TIME]
    assert [len(c.pairs) for c in found] == [2, 2, 1]
    assert found[0].largest.tau.estimate == -1


def test_a_rank_has_an_interval_where_two_items_are_too_close_to_order():
    measured = Measurement(("a", "b", "c"), tuple(np.array([[0.0, 0.0, -1.0]]) for _ in range(4)))
    rng = np.random.default_rng(0)
    shaken = Measurement(("a", "b", "c"), tuple(x + rng.normal(0, 0.05, (5, 3)) for x in measured.logs))
    speeds = shaken.speeds()
    here = Condition(
        scope="layer", source="measured", origin="", axes=Axes(),
        speeds=dict(zip("abc", speeds, strict=True)), draws=survival.draw(shaken),
    )  # fmt: skip
    found = survival.ranks(here, ["a", "b", "c"])
    assert (found["c"].low, found["c"].high) == (1, 1)
    assert {(found[x].low, found[x].high) for x in "ab"} == {(2, 3)}


def test_an_item_is_on_the_front_unless_another_is_as_fast_and_as_accurate_and_better_in_one():
    speeds, accuracy = [1.0, 2.0, 3.0, 3.0, 2.0], [80.0, 79.0, 75.0, 75.0, 75.0]
    assert on_front(speeds, accuracy).tolist() == [True, True, True, True, False]


def test_the_probability_of_the_front_is_the_share_of_the_samples():
    samples = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [1.5, 2.0]])
    assert front_probability(samples, [80.0, 79.0]).tolist() == [1.0, 0.75]
