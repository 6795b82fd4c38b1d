"""Stored rounds -> the error of a timed comparison, and the claims that rest on it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made

from attnbench.analysis.contrasts import contrasts, log_speed
from attnbench.analysis.statistics import student_quantile, t_p
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan, Sweep
from attnbench.published.rules import ClaimComparison
from attnbench.report import claims
from attnbench.report.claim_ratios import ComparisonResult, compare
from attnbench.report.claims import NOT_APPLICABLE, REPRODUCED, UNDECIDED, Judgement, judge
from attnbench.report.evidence import Evidence, Point, gather
from attnbench.report.timed_ratios import NO_ROUNDS, ONE_BLOCK, log_speed_ratio, looks_cost
from attnbench.results.events import ArmTurn, Round
from attnbench.results.store import create_or_resume, read_rounds

CLAIM = "focal-slower-than-msa-gpu"
Time = Callable[[Cell, int, int], float | None]


def timed(
    folder: Path, cells: list[Cell], time: Time, *, processes: int = 3, rounds: int = 4, facts: object = made.FACTS,
    **record: float,
) -> Path:  # fmt: skip
    """A run whose journal holds rounds of `time(cell, process, round)` seconds; None is no turn."""
    assert isinstance(facts, type(made.FACTS))
    records = [made.measured(cell, device_name="GPU", **record) for cell in cells]
    made.run(folder, records, facts=facts)
    groups: Mapping[str, list[Cell]] = Plan(Sweep(), tuple(cells), {}).groups()
    with create_or_resume(folder, Plan(Sweep(), tuple(cells), {}), facts) as writer:
        for process in range(processes):
            for number in range(process * rounds, (process + 1) * rounds):
                for group, arms in groups.items():
                    seconds = [(cell.id, time(cell, process, number)) for cell in arms]
                    turns = tuple(ArmTurn(cell=i, calls_s=(s,)) for i, s in seconds if s is not None)
                    writer.log(Round(group=group, process=process, round=number, turns=turns))
    return folder


def noisy(times: Mapping[str, float], sd: float, seed: int = 1, *, reference_sd: float | None = None) -> Time:
    rng = random.Random(seed)

    def time(cell: Cell, process: int, number: int) -> float:
        spread = reference_sd if reference_sd is not None and cell.mechanism == "msa" else sd
        return times[cell.mechanism] * math.exp(rng.gauss(0, spread))

    return time


def gpu(*names: str, **changes: object) -> list[Cell]:
    return [made.cell(name, device="cuda", **changes) for name in names]


def point(evidence: Evidence, mechanism: str, **fields: object) -> Point:
    return next(p for p in evidence.by_mechanism[mechanism] if all(getattr(p.cell, k) == v for k, v in fields.items()))


def verdict(*folders: Path, claim: str = CLAIM) -> Judgement:
    return next(j for j in judge(gather(folders)) if j.id == claim)


def one_block(folder: Path, ratio: float) -> Path:
    """What a run of the `paper` protocol leaves: one round, and a ratio without an interval."""
    cells = gpu("msa", "focal")
    records = []
    for cell in cells:
        measured = made.measured(cell, device_name="GPU")
        kept = {k: v for k, v in measured.values.items() if not k.endswith(("low", "high", "low_s", "high_s"))}
        kept = {k: v for k, v in kept.items() if k not in ("ratio_error", "ratio_df")}
        kept["ratio_to_reference"] = ratio if cell.mechanism == "focal" else 1.0
        records.append(replace(measured, values=kept))
    made.run(folder, records)
    with create_or_resume(folder, Plan(Sweep(), tuple(cells), {}), made.FACTS) as writer:
        turns = (ArmTurn(cell=cells[0].id, calls_s=(0.1,)), ArmTurn(cell=cells[1].id, calls_s=(0.1 / ratio,)))
        writer.log(Round(group=cells[0].group, process=0, round=0, turns=turns))
    return folder


def test_one_block_of_calls_decides_nothing(tmp_path: Path) -> None:
    found = verdict(one_block(tmp_path / "paper", 0.98))
    assert (found.verdict, found.reason) == (NOT_APPLICABLE, ONE_BLOCK)
    assert found.p == 1


def test_one_block_at_the_papers_batch_does_not_win_over_a_run_with_rounds(tmp_path: Path) -> None:
    paper = one_block(tmp_path / "paper", 1.5)
    own = timed(tmp_path / "own", gpu("msa", "focal", batch=8), noisy({"msa": 0.1, "focal": 0.2}, 0.01))
    found = verdict(paper, own)
    assert found.verdict == REPRODUCED
    assert found.deciding is not None
    assert "batch 8" in found.deciding.basis


def test_a_claim_on_two_arms_of_a_group_has_the_p_of_their_contrast(tmp_path: Path) -> None:
    cells = gpu("msa", "focal")
    folder = timed(tmp_path / "run", cells, noisy({"msa": 0.1, "focal": 0.102}, 0.01))
    expected = contrasts(read_rounds(folder)[cells[0].group], [cells[1].id], cells[0].id)[cells[1].id]
    found = verdict(folder)
    assert found.deciding is not None
    assert found.deciding.ratio == pytest.approx(expected.ratio)
    assert found.deciding.df == 2
    assert found.p == pytest.approx(expected.p())
    interval, direct = found.deciding.interval(0.95), expected.interval(0.95)
    assert (interval.low, interval.high) == (pytest.approx(direct.low), pytest.approx(direct.high))


def test_the_references_noise_is_not_in_the_error_of_two_other_arms(tmp_path: Path) -> None:
    cells = gpu("msa", "focal", "hilo")
    quiet = noisy({"msa": 0.1, "focal": 0.2, "hilo": 0.1}, 0.001, reference_sd=0.3)
    evidence = gather([timed(tmp_path / "run", cells, quiet, processes=6)])
    assert log_speed_ratio(point(evidence, "hilo"), point(evidence, "focal"), evidence)[0].error < 0.01
    assert log_speed_ratio(point(evidence, "hilo"), point(evidence, "msa"), evidence)[0].error > 0.03


def test_what_runs_differ_by_is_in_the_error_of_arms_of_one_run_and_of_two_speeds(tmp_path: Path) -> None:
    cells, time = gpu("msa", "focal"), noisy({"msa": 0.1, "focal": 0.2}, 0.001)
    told = {"run_ratio_sd": 0.04, "run_time_sd": 0.3, "run_df": 9.0}
    for values, together, apart in (({}, 0.0, 0.0), (told, 0.04, math.hypot(0.3, 0.3))):
        one = timed(tmp_path / f"one{len(values)}", cells, time, **values)
        two = timed(tmp_path / f"two{len(values)}", gpu("msa", res_h=448, res_w=448), time, **values)
        evidence = gather([one, two])
        msa, focal, larger = (
            point(evidence, name, res_h=size) for name, size in (("msa", 224), ("focal", 224), ("msa", 448))
        )
        assert log_speed_ratio(focal, msa, evidence)[0].error == pytest.approx(together, abs=0.001)
        assert log_speed_ratio(focal, larger, evidence)[0].error == pytest.approx(apart, abs=0.001)


def test_groups_that_share_no_round_are_compared_by_log_speeds_with_welchs_degrees_of_freedom(tmp_path: Path) -> None:
    small, large = made.cell("msa"), made.cell("msa", res_h=448, res_w=448)
    rng = random.Random(3)

    def time(cell: Cell, process: int, number: int) -> float:
        return math.exp(rng.gauss(0, 0.05 if cell.res_h == 224 else 0.01)) * (cell.res_h / 224) ** 2

    folder = timed(tmp_path / "run", [small, large], time, processes=4)
    evidence = gather([folder])
    one, other = point(evidence, "msa", res_h=224), point(evidence, "msa", res_h=448)
    found, basis = log_speed_ratio(one, other, evidence)
    a, b = (log_speed(read_rounds(folder)[c.group], c.id) for c in (small, large))
    assert a is not None
    assert b is not None
    assert found.estimate == pytest.approx(a.log_ratio - b.log_ratio)
    assert found.error == pytest.approx(math.hypot(a.error, b.error))
    scale = a.error**4 / a.df + b.error**4 / b.df
    assert found.df == pytest.approx(found.error**4 / scale)
    assert 3 <= found.df < 6
    assert basis == "two log speeds, 16 rounds in 4 processes, 16 rounds in 4 processes"


def test_two_runs_of_a_group_are_compared_through_the_reference_of_both(tmp_path: Path) -> None:
    facts = replace(made.FACTS, sweep={"reference": "msa"})
    fast = timed(tmp_path / "a", gpu("msa", "focal"), noisy({"msa": 0.1, "focal": 0.2}, 0.01), facts=facts)
    slow = timed(tmp_path / "b", gpu("msa", "hilo"), noisy({"msa": 0.3, "hilo": 0.15}, 0.01), facts=facts)
    evidence = gather([fast, slow])
    found, basis = log_speed_ratio(point(evidence, "hilo"), point(evidence, "focal"), evidence)
    assert math.exp(found.estimate) == pytest.approx(4, rel=0.03)
    assert basis.startswith("each against msa, ")


def test_the_basis_counts_the_rounds_that_both_were_in(tmp_path: Path) -> None:
    def time(cell: Cell, process: int, number: int) -> float | None:
        return None if cell.mechanism == "msa" and number > 7 else 0.1 + 0.001 * (number % 3)

    evidence = gather([timed(tmp_path / "run", gpu("msa", "focal"), time)])
    basis = log_speed_ratio(point(evidence, "focal"), point(evidence, "msa"), evidence)[1]
    assert basis == "8 rounds in 2 processes that both were in"


def test_without_rounds_the_records_error_and_degrees_of_freedom_are_used_and_said_to_be(tmp_path: Path) -> None:
    cells = gpu("msa", "focal")
    values = [{"ratio_to_reference": 1.0}, {"ratio_to_reference": 0.97, "ratio_error": 0.01, "ratio_df": 3}]
    records = [made.measured(c, device_name="GPU", **v) for c, v in zip(cells, values, strict=True)]
    found = verdict(made.run(tmp_path / "run", records))
    assert found.deciding is not None
    assert (found.deciding.error, found.deciding.df) == (0.01, 3)
    assert found.p == pytest.approx(t_p(math.log(0.97), 0.01, 3))
    assert found.verdict == UNDECIDED
    assert "the records' errors against msa: no rounds are stored" in found.deciding.basis


def test_without_rounds_and_without_a_shared_reference_there_is_no_evidence(tmp_path: Path) -> None:
    cells = [made.cell("msa"), made.cell("msa", res_h=448, res_w=448)]
    evidence = gather([made.run(tmp_path / "run", [made.measured(c) for c in cells])])
    found, reason = log_speed_ratio(*(point(evidence, "msa", res_h=side) for side in (224, 448)), evidence)
    assert (found.df, reason) == (0, NO_ROUNDS)


def test_the_interval_of_a_claim_is_students_at_holms_level() -> None:
    result = ComparisonResult(ClaimComparison(what="a/b"), ratio=1.2, error=0.02, df=3)
    reach = math.exp(student_quantile(1 - 0.05 / 7 / 2, 3) * 0.02)
    interval = result.interval(1 - 0.05 / 7)
    assert (interval.low, interval.high) == (pytest.approx(1.2 / reach), pytest.approx(1.2 * reach))
    assert result.p_values[0] == pytest.approx(t_p(math.log(1.2), 0.02, 3) / 2)


def test_the_looks_of_a_run_are_paid_for_in_p_and_interval(tmp_path: Path) -> None:
    times = {"msa": 0.1, "focal": 0.11}
    once, thrice = (
        timed(
            tmp_path / str(len(looks)), gpu("msa", "focal"), noisy(times, 0.03),
            facts=replace(made.FACTS, protocol={"looks": looks, "level": 0.95}),
        )
        for looks in ((12,), (12, 16, 24))
    )  # fmt: skip
    one, three = verdict(once), verdict(thrice)
    evidence = gather([thrice])
    cost = looks_cost([point(evidence, "msa")], evidence)
    assert cost > 1.5
    assert three.p == pytest.approx(cost * one.p)
    assert one.deciding is not None
    assert three.deciding is not None
    wide, narrow = three.deciding.interval(0.95), one.deciding.interval(1 - 0.05 / cost)
    assert (wide.low, wide.high) == (pytest.approx(narrow.low), pytest.approx(narrow.high))


def test_a_time_ratio_is_the_inverse_of_the_speed_ratio(tmp_path: Path) -> None:
    folder = timed(tmp_path / "run", gpu("msa", "focal"), noisy({"msa": 0.1, "focal": 0.2}, 0.01))
    c = ClaimComparison(
        what="focal/msa",
        quantity="latency_s",
        subject=("layer", ("focal",)),
        baseline=("layer", ("msa",)),
        device="gpu",
    )
    assert compare(c, "GPU", gather([folder])).ratio == pytest.approx(2, rel=0.03)


def test_a_measured_ratio_without_spread_is_no_count(tmp_path: Path) -> None:
    folder = timed(tmp_path / "run", gpu("msa", "focal"), lambda cell, process, number: 0.1)
    found = verdict(folder)
    assert not found.results[0].is_exact
    assert claims.details(found) == "Focal/MSA 1.00 [1.00, 1.00]"
