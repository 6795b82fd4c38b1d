"""The stopping rule, fed with invented half-widths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attnbench.analysis.statistics import student_quantile
from attnbench.analysis.stopping import Decision, Rule

RULE = Rule(looks=(16, 24, 32), target=0.02, budget_s=60.0)


def ending(values: np.ndarray, rule: Rule = RULE, *, round_s: float = 0.1) -> tuple[int, Decision]:
    """Feed the log ratios of one arm round by round until the rule stops."""
    for done in range(1, len(values) + 1):
        so_far = values[:done]
        width = math.inf
        if done > 1:
            width = student_quantile(0.5 + rule.level_at_a_look / 2, done - 1) * so_far.std(ddof=1) / math.sqrt(done)
        decision = rule.decide(done, {"sra": width}, done * round_s)
        if decision.stop:
            return done, decision
    raise AssertionError("it never stopped")


def noise(sd: float, rounds: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, sd, rounds)


# --- series -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.7, 0.0])
def test_a_constant_series_ends_at_the_first_look(value):
    assert ending(np.full(40, value)) == (
        16, Decision(True, "stopped after 16 rounds: half-width 0.0 % within the 2.0 % asked for"),
    )  # fmt: skip


def test_a_quiet_series_ends_at_the_first_look():
    done, decision = ending(noise(0.01))
    assert done == 16
    assert "within the 2.0 % asked for" in decision.why


def test_a_noisy_series_ends_at_the_last_look():
    done, decision = ending(noise(0.2))
    assert done == 32
    assert decision.why.startswith("stopped after 32 rounds, the last look: sra's half-width ")
    assert decision.why.endswith(" % is above the 2.0 % asked for")


def test_a_series_between_them_ends_at_the_look_that_finds_it_narrow():
    ends = {ending(noise(0.04, seed=seed))[0] for seed in range(30)}
    assert ends == {16, 24, 32}


def test_a_drifting_series_is_not_called_narrow():
    assert ending(noise(0.01) + np.linspace(0, 0.5, 40))[0] == 32


def test_a_series_with_a_nan_ends_at_the_last_look_and_says_so():
    broken = noise(0.01)
    broken[3] = math.nan
    done, decision = ending(broken)
    assert (done, decision.why) == (
        32, "stopped after 32 rounds, the last look: sra's half-width is not known, 2.0 % asked for",
    )  # fmt: skip


def test_slow_rounds_end_by_the_budget():
    done, decision = ending(noise(0.2), round_s=7.0)
    assert (done, decision.why[:46]) == (9, "budget of 60 s spent after 63 s and 9 rounds: ")


# --- decisions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "widths", "elapsed", "stop", "why"),
    [
        (16, {"sra": 0.014}, 9, True, "stopped after 16 rounds: half-width 1.4 % within the 2.0 % asked for"),
        (16, {"hilo": 0.01, "sra": 0.041}, 9, False,
         "going on after 16 rounds, next look after 24 rounds: sra's half-width 4.1 % is above the 2.0 % asked for"),
        (32, {"hilo": 0.01, "sra": 0.041}, 9, True,
         "stopped after 32 rounds, the last look: sra's half-width 4.1 % is above the 2.0 % asked for"),
        (17, {"sra": 0.041}, 61, True,
         "budget of 60 s spent after 61 s and 17 rounds: sra's half-width 4.1 % is above the 2.0 % asked for"),
        (1, {"sra": math.inf}, 61, True,
         "budget of 60 s spent after 61 s and 1 round: sra's half-width is infinite (too few values for the level), "
         "2.0 % asked for"),
        (16, {"hilo": 0.01, "sra": math.nan}, 9, False,
         "going on after 16 rounds, next look after 24 rounds: sra's half-width is not known, 2.0 % asked for"),
        (16, {}, 9, True, "stopped after 16 rounds: no arm's interval to wait for"),
        (16, {"sra": 0.0200004}, 9, False,
         "going on after 16 rounds, next look after 24 rounds: sra's half-width 2.00004 % is above the 2.00000 % "
         "asked for"),
    ],
)  # fmt: skip
def test_it_says_which_condition_with_both_numbers(done, widths, elapsed, stop, why):
    assert RULE.decide(done, widths, elapsed) == Decision(stop, why)


@pytest.mark.parametrize("done", range(1, 40))
@pytest.mark.parametrize("elapsed", [0.0, 61.0])
def test_where_it_may_not_stop_no_width_makes_it_stop(done, elapsed):
    stops = {RULE.decide(done, {"sra": width}, elapsed).stop for width in (0.0, 0.019, 0.021, math.inf, math.nan)}
    assert (True in stops) == RULE.may_stop(done, elapsed)


@pytest.mark.parametrize("done", [1, 15, 17, 23])
def test_between_looks_no_width_ends_it(done):
    assert not RULE.decide(done, {"sra": 0.001}, 9).stop


def test_an_arm_that_is_met_at_the_look_at_which_the_budget_ends_was_met():
    assert "within" in RULE.decide(16, {"sra": 0.01}, 99).why


def test_one_bad_arm_keeps_the_others_going_whatever_its_place():
    for bad in (math.nan, math.inf, 0.5):
        assert not RULE.decide(16, {"a": 0.001, "b": bad, "c": 0.001}, 9).stop
        assert "b's half-width" in RULE.decide(32, {"a": 0.001, "b": bad, "c": 0.001}, 9).why


def test_no_target_and_no_budget_end_at_the_first_look():
    rule = Rule(looks=(1,), target=math.inf, budget_s=math.inf)
    assert rule.decide(1, {"sra": math.inf}, 1e9).why == "stopped after 1 round: no half-width was asked for"


def test_the_looks_are_walked_in_order():
    assert [RULE.next_look(done) for done in (0, 15, 16, 31, 32, 99)] == [16, 16, 24, 32, None, None]


def test_the_level_is_shared_among_the_looks():
    assert RULE.level_at_a_look == pytest.approx(0.97)
    assert Rule(looks=(1, 2, 3, 4), target=0.02, budget_s=1).level_at_a_look == pytest.approx(1 - 0.05 / 4)
    assert Rule(looks=(12,), target=0.02, budget_s=1).level_at_a_look == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ({"looks": ()}, r"got \(\)"),
        ({"looks": (16, 16)}, r"got \(16, 16\)"),
        ({"looks": (0, 16)}, r"got \(0, 16\)"),
        ({"target": 0.0}, r"got target=0\.0, budget_s=60\.0"),
        ({"budget_s": math.nan}, r"got target=0\.02, budget_s=nan"),
        ({"level": 95}, "got 95"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(words, values):
    with pytest.raises(ValueError, match=values):
        Rule(**{"looks": (16,), "target": 0.02, "budget_s": 60.0, **words})
