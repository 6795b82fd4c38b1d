"""Which arms tie: letters from pairs, pairs from invented rounds or from stored intervals. No clock, no torch."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import combinations

import pytest

from attnbench import registry
from attnbench.analysis.contrasts import contrasts, pairs
from attnbench.analysis.statistics import Interval
from attnbench.analysis.ties import (
    Resolution,
    different_by_rounds,
    letters,
    letters_by_interval,
    resolve,
    resolve_run,
    smallest_by_interval,
)
from attnbench.planning.sweep import Plan, Sweep, plan
from attnbench.results.events import ArmTurn, Round
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume, open_run


def rounds(speeds, *, processes=8, per_process=2, noise=0.01, seed=0):
    """Rounds in which each arm has its speed, with log-normal noise of a turn and of the whole round."""
    rng, made = random.Random(seed), []
    for n in range(processes * per_process):
        drift = math.exp(rng.gauss(0, 0.3))
        turns = tuple(
            ArmTurn(cell=arm, calls_s=(drift / speed * math.exp(rng.gauss(0, noise)),)) for arm, speed in speeds.items()
        )
        made.append(Round(group="g", process=n // per_process, round=n, turns=turns))
    return made


def cells(*names):
    return plan(Sweep(mechanism=names), registry.load(entry_points=False)).cells


def record(cell, speed, low=None, high=None):
    values = {"throughput_img_per_s": 100 * speed, "ratio_to_reference": speed}
    if low is not None:
        values |= {"ratio_low": low, "ratio_high": high}
    return Record(cell=cell, outcome="ok", values=values)


def share(display, one, other):
    return bool(set(display[one]) & set(display[other]))


def test_the_classical_example_gives_a_ab_b():
    assert letters(["fast", "middle", "slow"], [("slow", "fast")]) == {"fast": "a", "middle": "ab", "slow": "b"}


def test_equal_arms_share_one_letter():
    assert letters(["x", "y", "z"], []) == {"x": "a", "y": "a", "z": "a"}


def test_arms_that_all_differ_have_a_letter_each():
    assert letters(["x", "y", "z"], combinations("xyz", 2)) == {"x": "a", "y": "b", "z": "c"}


def test_no_arms_have_no_letters_and_one_arm_has_one():
    assert letters([], []) == {}
    assert letters(["x"], [("x", "x"), ("x", "stranger")]) == {"x": "a"}


@pytest.mark.parametrize("seed", range(20))
def test_two_arms_share_a_letter_exactly_if_they_do_not_differ(seed):
    rng = random.Random(seed)
    arms = [f"arm {n}" for n in range(rng.randint(2, 12))]
    differ = {pair for pair in combinations(arms, 2) if rng.random() < rng.choice((0.1, 0.5, 0.9))}
    display = letters(arms, differ)
    for one, other in combinations(arms, 2):
        assert share(display, one, other) != ((one, other) in differ)


def test_the_order_of_the_pairs_does_not_change_the_letters():
    arms = [str(n) for n in range(10)]
    differ = [(a, b) for a, b in combinations(arms, 2) if int(b) - int(a) > 2]
    shuffled = [pair[::-1] for pair in random.Random(0).sample(differ, len(differ))]
    assert letters(arms, differ) == letters(arms, shuffled)
    assert letters(arms, differ)["0"] == "a"
    assert letters(arms, differ)["2"] == "abc"


def test_39_arms_have_as_many_letters_as_maximal_groups():
    arms = [str(n) for n in range(39)]
    display = letters(arms, [(a, b) for a, b in combinations(arms, 2) if int(b) - int(a) > 4])
    assert len(set("".join(display.values()))) == 35
    assert len(set(letters(arms, combinations(arms, 2)).values())) == 39


def test_more_than_52_arms_that_differ_still_have_names_of_their_own():
    arms = [str(n) for n in range(60)]
    display = letters(arms, combinations(arms, 2))
    assert (display["51"], display["52"]) == ("Z", "a2")
    assert len(set(display.values())) == 60


def test_pairs_are_the_contrasts_with_every_arm_as_the_reference():
    made = rounds({"x": 1.0, "y": 1.1, "z": 1.2})[:-1]
    made[3] = replace(made[3], turns=made[3].turns[1:])  # a round without one arm
    found = pairs(made, ["x", "y", "z"])
    assert len(found) == 6
    for base in "xyz":
        assert contrasts(made, ["x", "y", "z"], base) == {arm: c for (b, arm), c in found.items() if b == base}


def test_rounds_tell_a_clear_difference_and_tie_equal_arms():
    found = pairs(rounds({"x": 1.0, "y": 1.0, "z": 1.5}), ["x", "y", "z"])
    assert different_by_rounds(found, 0.95) == {("x", "z"), ("y", "z")}


def test_equal_arms_are_rarely_called_different():
    wrong = 0
    for seed in range(60):
        arms = {str(n): 1.0 for n in range(6)}
        wrong += bool(different_by_rounds(pairs(rounds(arms, seed=seed), list(arms)), 0.95))
    assert wrong <= 7  # 3 are expected; more than 7 have a chance below 2 %


def test_intervals_that_do_not_overlap_differ():
    intervals = {"x": Interval(1.0, 0.9, 1.1), "y": Interval(1.15, 1.1, 1.2), "z": Interval(1.4, 1.3, 1.5)}
    assert letters_by_interval(["z", "y", "x"], intervals) == {"z": "a", "y": "b", "x": "b"}


@pytest.mark.parametrize("seed", range(20))
def test_letters_by_interval_are_the_letters_of_the_pairs_that_do_not_overlap(seed):
    rng = random.Random(seed)
    ends = [sorted((rng.randint(0, 30), rng.choice((rng.randint(0, 30), math.inf)))) for _ in range(rng.randint(0, 25))]
    intervals = {f"arm {n}": Interval(low, low, high) for n, (low, high) in enumerate(ends)}
    arms = rng.sample(list(intervals), len(intervals))
    differ = [
        (a, b)
        for a, b in combinations(arms, 2)
        if intervals[a].high < intervals[b].low or intervals[b].high < intervals[a].low
    ]
    assert letters_by_interval(arms, intervals) == letters(arms, differ)


def test_the_smallest_difference_of_two_uncertain_arms_is_sqrt_2_half_widths():
    reference, arm = Interval(1.0, 1.0, 1.0), Interval(2.0, 1.96, 2.04)
    assert smallest_by_interval([reference, arm]) == pytest.approx(0.02)
    assert smallest_by_interval([reference, arm, arm]) == pytest.approx(0.02 * math.sqrt(2))
    assert smallest_by_interval([reference]) is None


def test_a_group_resolves_what_its_noise_allows():
    made = cells("msa", "hilo", "sra")
    speeds = {c.id: s for c, s in zip(made, (1.0, 1.5, 1.5), strict=True)}
    records = [record(c, speeds[c.id]) for c in made]
    quiet = resolve(records, rounds(speeds, noise=0.001))
    noisy = resolve(records, rounds(speeds, noise=0.3))
    assert quiet.smallest is not None
    assert noisy.smallest is not None
    assert noisy.smallest > 50 * quiet.smallest
    assert [quiet.letters[c.id] for c in made] == ["b", "a", "a"]
    assert [noisy.letters[c.id] for c in made] == ["a", "a", "a"]


def test_arms_that_only_this_run_tells_apart_tie_once_runs_are_known_to_differ():
    made = cells("msa", "hilo")
    speeds = {c.id: s for c, s in zip(made, (1.0, 1.02), strict=True)}
    plain = [record(c, speeds[c.id]) for c in made]
    told = [replace(r, values={**r.values, "run_ratio_sd": 0.02, "run_df": 9.0}) for r in plain]
    ours, all_runs = (resolve(records, rounds(speeds, noise=0.001)) for records in (plain, told))
    assert [found.letters[made[1].id] == found.letters[made[0].id] for found in (ours, all_runs)] == [False, True]
    assert ours.smallest is not None
    assert all_runs.smallest is not None
    assert ours.smallest < 0.01 < 0.03 < all_runs.smallest
    assert "in this run" in ours.sentence
    assert "with what 10 runs of this machine differed by; equal letters mark ties" in all_runs.sentence


def test_without_rounds_the_stored_intervals_decide():
    made = cells("msa", "hilo", "sra")
    records = [record(made[0], 1.0, 1.0, 1.0), record(made[1], 1.5, 1.4, 1.6), record(made[2], 1.3, 1.2, 1.45)]
    assert [resolve(records).letters[c.id] for c in made] == ["b", "a", "a"]


def test_one_block_of_calls_resolves_nothing_and_claims_no_tie():
    made = cells("msa", "hilo")
    speeds = {c.id: 1.0 for c in made}
    records = [record(c, 1.0) for c in made]
    assert resolve(records, rounds(speeds, processes=1, per_process=1)) == Resolution()
    assert Resolution().sentence == ""


def test_a_cell_that_failed_has_no_letter():
    made = cells("msa", "hilo", "sra")
    speeds = {c.id: 1.0 for c in made[:2]}
    lost = Record(cell=made[2], outcome="oom", reason="too large")
    assert set(resolve([*(record(c, 1.0) for c in made[:2]), lost], rounds(speeds)).letters) == set(speeds)


@pytest.mark.parametrize(
    ("smallest", "text"),
    [(0.0418, "4.2 %"), (0.12, "12 %"), (0.00314, "0.31 %"), (1.5, "a factor of 2.5"), (36.8, "a factor of 38")],
)
def test_the_sentence_has_two_significant_digits(smallest, text):
    assert f"below {text} are not distinguishable" in Resolution(smallest).sentence


def test_a_stored_run_resolves_each_of_its_groups(tmp_path):
    made = cells("msa", "hilo")
    speeds = {c.id: s for c, s in zip(made, (1.0, 2.0), strict=True)}
    facts = RunFacts(protocol={"looks": [8, 16], "level": 0.95})
    with create_or_resume(tmp_path / "run", Plan(Sweep(), made, {}), facts) as writer:
        for r in rounds(speeds):
            writer.log(replace(r, group=made[0].group))
        for c in made:
            writer.add(replace(record(c, speeds[c.id]), run_id=writer.id))
    resolved = resolve_run(open_run(tmp_path / "run"))
    assert list(resolved) == [made[0].group]
    assert resolved[made[0].group].letters == {made[1].id: "a", made[0].id: "b"}
