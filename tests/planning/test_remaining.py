"""What a run has left, as it learns from invented trials and rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench import registry
from attnbench.planning import duration
from attnbench.planning.protocol import get
from attnbench.planning.remaining import Remaining
from attnbench.planning.sweep import Sweep, plan

QUICK = get("quick")


@pytest.fixture(scope="module")
def cells():
    return plan(Sweep(mechanism=("msa", "hilo", "sra"), batch=(8,)), registry.load(entry_points=False)).cells


@pytest.fixture
def remaining(cells):
    return Remaining({c.id: 0.1 for c in cells}, QUICK, cells)


def test_trials_correct_the_calls_of_the_cells_that_are_left(cells, remaining):
    before = remaining.left_s
    assert before == pytest.approx(remaining.total_s)
    remaining.learn(cells[0].id, 0.25 / duration.STEADY)
    assert remaining.left_s > 1.5 * before


def test_slow_trials_make_the_other_trials_slower_and_not_the_rounds(cells, remaining):
    slow = Remaining(remaining.estimates, QUICK, cells)
    usual_s = duration.trial_s(cells[0], 0.1)
    for run, times in ((remaining, 1), (slow, 3)):
        run.learn(cells[0].id, 0.1 / duration.STEADY)
        run.learn(cells[1].id, 0.1 / duration.STEADY, times * usual_s)
    assert slow.left_s == pytest.approx(remaining.left_s + 2 * usual_s)


def test_the_first_trial_of_a_group_pays_for_all_its_exports(cells):
    exported = [replace(cell, runtime="onnxruntime") for cell in cells]
    run = Remaining({c.id: 0.1 for c in exported}, QUICK, exported)
    before, exports_s = run.left_s, duration.exports_s(exported)
    trial_s = duration.trial_s(exported[0], 0.1)
    run.learn(exported[0].id, 0.1 / duration.STEADY, duration.START_S + exports_s + trial_s)
    assert run.trials.scale == pytest.approx(1)
    assert run.left_s == pytest.approx(before - duration.START_S - exports_s - trial_s)


@pytest.mark.parametrize(("device", "beside"), [("cpu", False), ("cuda:0", True)])
def test_counts_come_before_trials_on_a_cpu_and_run_beside_them_on_a_gpu(cells, device, beside):
    tried = [replace(cell, device=device) for cell in cells]
    timed, counted = (
        Remaining({c.id: 0.1 for c in tried}, QUICK, tried, measure).left_s
        for measure in (["latency"], ["latency", "macs"])
    )
    counts_s = sum(map(duration.count_s, tried))
    assert counted - timed == pytest.approx(0.0 if beside else counts_s)


def test_what_a_round_really_takes_replaces_what_was_expected_of_it(cells):
    remaining = Remaining({c.id: 0.01 for c in cells}, QUICK, cells)
    for cell in cells:
        remaining.learn(cell.id, 0.01 / duration.STEADY)
    before = remaining.left_s
    looks, each = QUICK.for_arms(3).looks[0], QUICK.for_arms(3).rounds_each
    per_process = before / (looks // each)
    for number in range(1, each + 1):  # twice as slow as expected
        remaining.round(cells, number, 2 * per_process / each)
    assert remaining.left_s == pytest.approx(2 * (before - per_process), rel=1e-6)


def test_nothing_is_left_when_every_cell_has_its_record(cells, remaining):
    remaining.finish([cells[0].id])
    remaining.learn(cells[1].id, None, 1.0)
    assert 0 < remaining.left_s < remaining.total_s + 1
    remaining.finish([cells[2].id])
    assert remaining.left_s == 0


def test_a_group_that_was_not_precise_enough_at_a_look_goes_on_to_the_next(cells):
    standard = get("standard")
    run = Remaining({c.id: 0.1 for c in cells}, standard, cells)
    first, second, *_ = standard.for_arms(3).looks
    run.round(cells, first, 1.0)
    assert run._rounds_left(run.groups[cells[0].group]) == second - first
