"""From invented rounds to records: ratios, intervals, flags, failures. No clock, no torch."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from attnbench import registry
from attnbench.analysis.summarize import GroupData, half_widths, reference_of, summarize
from attnbench.planning.protocol import get
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import ArmTurn, BetweenRuns, Ceilings, Count, Dropped, Probe, Round, Trial

STANDARD = get("standard")


@pytest.fixture
def cells():
    return plan(Sweep(mechanism=("msa", "hilo")), registry.load(entry_points=False)).cells


def invented(cells, *, hilo=0.5, noise=0.01, processes=4, rounds=4, process_noise=0.0, seed=0, queue=math.nan):
    rng = random.Random(seed)
    data = GroupData()
    for cell in cells:
        data.trials[cell.id] = Trial(
            cell=cell.id, values={"weights_bytes": 1}, kernel_ran="eager", device_name="a machine"
        )
    for process in range(processes):
        bias = rng.gauss(0, process_noise)
        for number in range(rounds):
            drift = math.exp(rng.gauss(0, 0.3))  # of the whole round: cancels in the ratio
            times = [0.1 * drift * math.exp(rng.gauss(0, noise)), 0.1 * hilo * drift * math.exp(rng.gauss(bias, noise))]
            turns = tuple(
                ArmTurn(cell=cell.id, calls_s=(time,) * 3, host_s=time, queue_s=queue * time)
                for cell, time in zip(cells, times, strict=True)
            )
            data.rounds.append(Round(group="g", process=process, round=number, turns=turns, seconds=1.0))
    return data


def records(data, cells, protocol=STANDARD):
    reference = reference_of(cells, "msa")
    return summarize(data, cells, protocol, reference=reference, stopped="enough", run_id="r")


def test_the_ratio_is_a_speed_ratio_and_drift_cancels(cells):
    msa, hilo = records(invented(cells), cells)
    assert msa.values["ratio_to_reference"] == 1
    assert hilo.values["ratio_low"] < 2.0 < hilo.values["ratio_high"]
    assert hilo.values["ratio_to_reference"] == pytest.approx(2.0, rel=0.02)
    assert hilo.values["ratio_high"] - hilo.values["ratio_low"] < 0.06
    assert hilo.values["latency_high_s"] / hilo.values["latency_low_s"] > 1.2
    assert hilo.words["reference"] == "msa"


def test_what_runs_differ_by_is_in_the_intervals_and_beside_them_and_ends_no_measurement(cells):
    data = invented(cells)
    plain = records(data, cells)
    widths = half_widths(data, cells, reference_of(cells, "msa"), 0.95)
    data.between_runs = BetweenRuns(
        key=(), runs=10, measured="now", ratio_sd={"hilo": 0.04}, time_sd={"msa": 0.5}, other_ratio_sd=0.9,
        other_time_sd=0.6,
    )  # fmt: skip
    msa, hilo = records(data, cells)
    assert (msa.values["run_ratio_sd"], msa.values["run_time_sd"], msa.values["run_df"]) == (0, 0.5, 9)
    assert (hilo.values["run_ratio_sd"], hilo.values["run_time_sd"], hilo.values["run_df"]) == (0.04, 0.6, 9)
    assert hilo.values["ratio_error"] == pytest.approx(math.hypot(plain[1].values["ratio_error"], 0.04))
    assert hilo.values["ratio_df"] == pytest.approx(9, rel=0.1)  # nearly all of the error is between runs
    assert hilo.values["ratio_high"] / hilo.values["ratio_low"] > 1.15
    assert (msa.values["ratio_low"], msa.values["ratio_high"]) == (1, 1)
    for before, after in zip(plain, (msa, hilo), strict=True):
        assert after.values["latency_s"] == before.values["latency_s"]
        assert after.values["latency_high_s"] > 2 * before.values["latency_s"]
        assert after.values["throughput_low"] < 0.5 * after.values["throughput_img_per_s"]
    assert half_widths(data, cells, reference_of(cells, "msa"), 0.95) == widths
    assert "run_df" not in plain[1].values


def test_processes_that_differ_widen_the_interval_and_flag_it(cells):
    quiet = records(invented(cells), cells)[1]
    lucky = records(invented(cells, process_noise=0.1), cells)[1]
    assert "processes_differ" not in quiet.flags
    assert "processes_differ" in lucky.flags
    assert lucky.values["ratio_high"] - lucky.values["ratio_low"] > 4 * (
        quiet.values["ratio_high"] - quiet.values["ratio_low"]
    )


def test_one_process_is_said(cells):
    assert "one_process" in records(invented(cells, processes=1, rounds=16), cells)[1].flags


def test_few_rounds_are_said(cells):
    assert "few_rounds" in records(invented(cells, processes=2), cells)[1].flags


def test_an_arm_that_dropped_out_keeps_its_reason_and_the_others_their_ratio(cells):
    data = invented(cells)
    data.dropped[cells[1].id] = Dropped(cell=cells[1].id, outcome="crashed", reason="its process was killed by SIGSEGV")
    msa, hilo = records(data, cells)
    assert (hilo.outcome, hilo.reason) == ("crashed", "its process was killed by SIGSEGV")
    assert msa.outcome == "ok"


def test_without_a_reference_there_is_no_ratio(cells):
    data = invented(cells)
    for record in summarize(data, cells, STANDARD, reference=None, stopped="", run_id="r"):
        assert "ratio_to_reference" not in record.values
        assert "reference" not in record.words


def test_one_block_has_a_mean_and_no_interval(cells):
    data = invented(cells, processes=1, rounds=1)
    hilo = records(data, cells, get("paper"))[1]
    assert "no_interval" in hilo.flags
    assert "latency_low_s" not in hilo.values


def test_the_half_widths_are_of_the_other_arms(cells):
    widths = half_widths(invented(cells), cells, reference_of(cells, "msa"), 0.95)
    assert list(widths) == ["hilo (eager)"]
    assert 0 < widths["hilo (eager)"] < 0.02


def test_a_host_that_queues_as_slowly_as_the_gpu_works_tells_a_launch_bound_layer(cells):
    from dataclasses import replace

    on_gpu = [replace(c, device="cuda") for c in cells]
    assert not any("launch_bound" in r.flags for r in records(invented(on_gpu), on_gpu))
    assert all("launch_bound" in r.flags for r in records(invented(on_gpu, queue=0.9), on_gpu))


def test_more_than_the_ceiling_is_flagged(cells):
    data = invented(cells)
    for cell in cells:
        data.counts[cell.count_key] = Count(key=cell.count_key, values={"macs": 1000})
    rate = 1000 * cells[0].batch / 0.1  # of msa; hilo takes half the time
    data.ceilings = Ceilings(key=(), macs_per_s=1.5 * rate)
    msa, hilo = records(data, cells)
    assert msa.values["roofline_share"] == pytest.approx(1 / 1.5, rel=0.3)
    assert "above_roofline" not in msa.flags
    assert hilo.values["roofline_share"] > 1
    assert "above_roofline" in hilo.flags


def test_an_eager_cell_that_ran_a_fused_operator_is_flagged(cells):
    data = invented(cells)
    data.trials[cells[1].id] = Trial(cell=cells[1].id, kernel_ran="sdpa:flash x1")
    assert [r.flags.count("fused_in_eager") for r in records(data, cells)] == [0, 1]
    sdpa = [replace(cell, kernel="sdpa") for cell in cells]
    data = invented(sdpa)
    data.trials[sdpa[1].id] = Trial(cell=sdpa[1].id, kernel_ran="sdpa:flash x1")
    assert not any("fused_in_eager" in r.flags for r in records(data, sdpa))


def test_what_a_pass_beside_time_saw_stands_in_the_record_of_its_cell(cells):
    data = invented(cells)
    data.probes[cells[0].id, "energy"] = Probe(cell=cells[0].id, what="energy", values={"idle_power_w": 3.0})
    data.probes[cells[0].id, "error"] = Probe(cell=cells[0].id, what="error", words={"error_notes": "why"})
    msa, hilo = records(data, cells)
    assert msa.values["idle_power_w"] == 3.0
    assert msa.words["error_notes"] == "why"
    assert "idle_power_w" not in hilo.values
    assert "error_notes" not in hilo.words


def test_the_record_of_a_graph_says_which_share_of_the_time_were_launches(cells):
    pair = (cells[0], replace(cells[0], graphs=True))
    eager, graph = records(invented(pair, hilo=0.4), pair)
    assert graph.values["launch_share"] == pytest.approx(0.6, abs=0.01)
    assert "launch_share" not in eager.values
    assert reference_of(pair[::-1], "msa") == cells[0]
    assert (eager.row()["graphs"], graph.row()["graphs"]) == (False, True)
    alone = (cells[1], replace(cells[0], graphs=True))
    assert not any("launch_share" in r.values for r in records(invented(alone), alone))
