"""The estimate of a plan's duration, and how it learns."""

from __future__ import annotations

import pytest

from attnbench import registry
from attnbench.planning.duration import Remaining, call_s, cell_s
from attnbench.planning.protocol import get
from attnbench.planning.sweep import Sweep, plan

QUICK = get("quick")


@pytest.fixture(scope="module")
def cells():
    return plan(Sweep(mechanism=("msa", "hilo", "sra"), batch=(8,)), registry.load(entry_points=False)).cells


def test_a_call_costs_its_macs_at_the_assumed_share_of_the_ceiling(cells):
    assert call_s(1e9, cells[0], 1e11) == pytest.approx(8e9 / 0.5e11)
    assert call_s(0, cells[0], 1e11) < call_s(None, cells[0], 1e11) / 10


def test_a_large_group_shares_the_start_of_its_processes_and_the_reference(cells):
    assert cell_s(0.1, QUICK, 2) > cell_s(0.1, QUICK, 20)
    assert cell_s(0.1, QUICK, 20, model=True) > cell_s(0.1, QUICK, 20)


def test_trials_correct_the_estimates_of_the_cells_that_are_left(cells):
    remaining = Remaining({c.id: 0.1 for c in cells}, QUICK, cells)
    before = remaining.left_s
    assert before == pytest.approx(remaining.total_s)
    remaining.learn(cells[0].id, 0.2)
    assert remaining.left_s > 1.5 * before
    remaining.round([c.id for c in cells], 3.0)
    remaining.finish([cells[0].id])
    remaining.learn(cells[1].id, None)
    assert 0 < remaining.left_s < remaining.total_s / 2


def test_a_plan_that_may_stop_early_lies_between_its_first_look_and_its_last(cells):
    standard = Remaining({c.id: 0.1 for c in cells}, get("standard"), cells)
    least, most = standard.range_s
    assert 1.3 * least < standard.total_s < most / 1.3
    quick = Remaining({c.id: 0.1 for c in cells}, QUICK, cells)
    assert quick.range_s == (quick.total_s, quick.total_s)


def test_passes_beside_time_are_counted(cells):
    alone = Remaining({c.id: 0.1 for c in cells}, QUICK, cells)
    more = Remaining({c.id: 0.1 for c in cells}, QUICK, cells, ("latency", "breakdown", "error"))
    assert more.total_s > alone.total_s + 3 * len(cells)
