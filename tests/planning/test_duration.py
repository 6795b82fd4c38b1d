"""The estimate of a run's duration before it begins, on invented facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench import registry
from attnbench.commands.plan import estimate_calls
from attnbench.execution.rates import Rate
from attnbench.planning import duration
from attnbench.planning.duration import (
    SERVER_S,
    START_S,
    call_s,
    expected_rounds,
    layer_rate,
    round_s,
    start_s,
    turn_s,
)
from attnbench.planning.protocol import get
from attnbench.planning.remaining import Remaining
from attnbench.planning.sweep import Sweep, plan

QUICK, STANDARD = get("quick"), get("standard")


@pytest.fixture(scope="module")
def cells():
    return plan(Sweep(mechanism=("msa", "hilo", "sra"), batch=(8,)), registry.load(entry_points=False)).cells


@pytest.fixture(scope="module")
def models():
    sweep = Sweep(backbone=("resnet50", "litv2_s"), batch=(1,), reference="litv2_s")
    return plan(sweep, registry.load(entry_points=False)).cells


def remaining(cells, protocol=QUICK, **more):
    return Remaining({c.id: 0.1 for c in cells}, protocol, cells, **more)


def test_a_call_costs_its_macs_at_the_assumed_share_of_the_rate(cells):
    assert call_s(1e9, cells[0], 1e11) == pytest.approx(8e9 / (duration.EFFICIENCY * 1e11))
    assert call_s(0, cells[0], 1e11) < call_s(None, cells[0], 1e11) / 10


def test_the_rate_of_layers_lies_between_that_of_a_product_and_of_a_convolution():
    assert layer_rate(1e11, 4e11) == pytest.approx(2e11)
    assert layer_rate(1e11, None) == pytest.approx(1e11)


def test_primers_last_their_time_less_half_a_call_or_one_call():
    assert turn_s(0.02, QUICK) == pytest.approx(0.04 + 3 * 0.02 + duration.TURN_S)
    assert turn_s(0.2, QUICK) == pytest.approx(4 * 0.2 + duration.TURN_S)


def test_the_reference_has_more_turns_and_isolated_arms_have_theirs_beside_a_copy_of_it():
    plain = round_s([0.1] * 5, [], 0.1, QUICK)
    assert plain == pytest.approx(6 * turn_s(0.1, QUICK))  # two of the reference
    assert round_s([0.1] * 5, [0.1], 0.1, QUICK) == pytest.approx(plain + 4 * turn_s(0.1, QUICK))


def test_further_fork_servers_cost_a_start_each_where_something_is_timed():
    many = replace(STANDARD, servers=8)
    assert start_s(many, timed=True) == pytest.approx(START_S + 7 * SERVER_S)
    assert start_s(many, timed=False) == start_s(STANDARD, timed=True) == START_S
    assert start_s(replace(many, processes=2), timed=True) == pytest.approx(START_S + SERVER_S)


def test_few_arms_may_stop_at_an_early_look_and_many_need_the_last():
    few, many = (expected_rounds(STANDARD, arms, 1.0) for arms in (8, 50))
    assert STANDARD.looks[0] < few < many
    assert many > 0.9 * STANDARD.looks[-1]
    assert expected_rounds(STANDARD, 8, 1.0, done=24) == 32


def test_the_budget_ends_a_group_of_slow_arms_after_four_processes():
    assert expected_rounds(QUICK, 10, seconds=1.0) == 14
    assert expected_rounds(QUICK, 10, seconds=8.0) == 10
    assert expected_rounds(QUICK, 10, seconds=80.0) == 4 * QUICK.rounds_each


def test_a_large_group_shares_the_start_of_its_processes(cells):
    together = remaining(cells).total_s
    assert together < sum(remaining([cell]).total_s for cell in cells)


def test_a_plan_that_may_stop_early_lies_between_its_first_look_and_its_last(cells):
    standard = remaining(cells, STANDARD)
    least, most = standard.range_s
    assert 1.2 * least < standard.total_s < most / 1.2
    quick = remaining(cells)
    assert quick.range_s == (quick.total_s, quick.total_s)


def test_passes_beside_time_are_counted_and_counts_alone_are_cheap(cells):
    alone = remaining(cells)
    more = remaining(cells, measure=("latency", "breakdown", "error"))
    assert more.total_s > alone.total_s + 3 * len(cells)
    counts = remaining(cells, measure=("params", "macs"))
    assert counts.total_s == pytest.approx(duration.START_S + 3 * duration.COUNT_S["layer"])


def test_an_exported_or_compiled_arm_takes_longer_to_try(cells):
    eager = remaining(cells).total_s
    for runtime, least in (("onnxruntime", duration.EXPORT_S), ("compile", duration.COMPILE_S)):
        other = remaining([replace(cell, runtime=runtime) for cell in cells])
        assert other.total_s >= eager + 3 * least


def test_two_runtimes_share_the_export_of_a_layer_and_a_model_takes_longer_to_export(cells, models):
    both = [replace(cell, runtime=runtime) for cell in cells for runtime in ("onnxruntime", "openvino", "eager")]
    assert duration.exports_s(both) == pytest.approx(3 * duration.EXPORT_S)
    exported = [replace(cell, runtime="onnxruntime") for cell in models]
    assert duration.exports_s(exported) == pytest.approx(2 * duration.EXPORT_MODEL_S)
    assert duration.build_s(exported[0], 0.1) > duration.build_s(models[0], 0.1) > duration.build_s(cells[0], 0.1)


def test_a_librarys_model_costs_what_timm_published_and_one_without_a_figure_what_is_usual(models):
    rates = {cell.id: Rate(1e11, "assumed") for cell in models}
    known = registry.load(entry_points=False)
    resnet, litv2 = (estimate_calls(models, known, rates)[cell.id] for cell in models)
    assert resnet == pytest.approx(4.11e9 / (duration.EFFICIENCY * 1e11), rel=0.02)
    assert litv2 == pytest.approx(3.7e9 / (duration.EFFICIENCY * 1e11), rel=0.1)
    large = replace(models[0], variant="nobodys", res_h=448, res_w=448)
    assert call_s(None, large, 1e11) == pytest.approx(4 * 4.5e9 / (duration.EFFICIENCY * 1e11), rel=0.01)
