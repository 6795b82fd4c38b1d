"""Invented run folders -> verdicts. No clock, no torch: the journals are written by hand."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from attnbench import AttnbenchError, registry
from attnbench.analysis.compare import compare_arms, compare_runs
from attnbench.commands.compare import command
from attnbench.machine.environment import Environment
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import ArmTurn, Ceilings, Round
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume

FINGERPRINT = Fingerprint(kernel="6.1", cpu_model="one", torch="2.13")
ARMS = ("msa", "hilo", "sra")


@pytest.fixture(scope="module")
def planned():
    return plan(Sweep(mechanism=ARMS), registry.load(entry_points=False))


def write(
    folder, planned, *, times=None, noise=0.01, bias=0.0, drift=0.3, load=1.0, processes=4, rounds=4, looks=(16,),
    seed=0, fingerprint=FINGERPRINT, host="a", protocol=None, failed=(), ceilings=None, between=None,
):  # fmt: skip
    """A run in which every arm takes `times` seconds, and each process and each round its own bias."""
    times = {"msa": 0.1, "hilo": 0.05, "sra": 0.08, **(times or {})}
    rng = random.Random(seed)
    facts = RunFacts(
        protocol={"looks": looks, "level": 0.95, **(protocol or {})},
        environment=Environment(machine_label="one-2c-3f9a", fingerprint=fingerprint, host=host),
    )
    with create_or_resume(folder, planned, facts) as writer:
        for cell in planned.cells:
            bad = cell.variant in failed
            why = "SIGSEGV" if bad else ""
            writer.add(Record(cell=cell, outcome="crashed" if bad else "ok", reason=why, values=between or {}))
        if ceilings:
            writer.log(Ceilings(key=("cpu", "fp32", 2, "pinned"), **ceilings))
        for process in range(processes):
            biases = {c.id: rng.gauss(0, bias) for c in planned.cells}
            for number in range(rounds):
                shared = load * math.exp(rng.gauss(0, drift))
                samples = {
                    c.id: [times[c.variant] * shared * math.exp(biases[c.id] + rng.gauss(0, noise))] * 3
                    for c in planned.cells
                    if c.variant not in failed
                }
                turns = tuple(ArmTurn(cell=cell, calls_s=tuple(calls)) for cell, calls in samples.items())
                writer.log(Round(group=planned.cells[0].group, process=process, round=number, turns=turns))
    return folder


BETWEEN = {"run_ratio_sd": 0.05, "run_time_sd": 0.3, "run_df": 9.0}


def test_what_runs_differ_by_is_in_every_comparison_of_runs_and_of_arms(planned, tmp_path):
    quiet = {"noise": 0.001, "drift": 0.001}
    plain, told = (
        [write(tmp_path / f"{name}{n}", planned, seed=n, between=values, **quiet) for n in (1, 2)]
        for name, values in (("a", None), ("b", BETWEEN))
    )
    for by, sd in (("time", 0.3), ("ratio", 0.05)):
        narrow, wide = (next(r for r in compare_runs(*of, by=by).rows if r.variant == "sra") for of in (plain, told))
        assert wide.estimate == pytest.approx(narrow.estimate, rel=0.01)
        assert narrow.high / narrow.low < 1.01
        assert math.log(wide.high / wide.low) / 2 == pytest.approx(2.26 * sd * math.sqrt(2), rel=0.02)
    narrow, wide = (next(iter(compare_arms(of[0], ["sra", "msa"]).rows)) for of in (plain, told))
    assert math.log(wide.high / wide.low) / 2 == pytest.approx(2.26 * 0.05, rel=0.02)
    assert narrow.high / narrow.low < 1.01


def verdicts(found):
    return {row.variant: row.verdict for row in found.rows}


# --- arms of one run --------------------------------------------------------------------------------------


def test_arms_are_judged_against_the_first_over_shared_rounds(planned, tmp_path):
    found = compare_arms(write(tmp_path / "a", planned), ["hilo", "msa", "sra"])
    assert verdicts(found) == {"msa": "slower", "sra": "slower"}
    row = next(r for r in found.rows if r.variant == "msa")
    assert row.against == "hilo"
    assert row.low < 0.5 < row.high
    assert row.high / row.low < 1.05  # the drift of 30 % cancels
    assert row.basis.startswith("16 rounds in 4 processes")


def test_equal_arms_are_equivalent_with_enough_rounds_and_undecided_with_few(planned, tmp_path):
    times = {"hilo": 0.08}
    many = write(tmp_path / "many", planned, times=times, processes=8, rounds=8)
    assert verdicts(compare_arms(many, ["hilo", "sra"])) == {"sra": "equivalent"}
    assert verdicts(compare_arms(many, ["hilo", "sra"], margin=0.001)) == {"sra": "undecided"}
    few = write(tmp_path / "few", planned, times=times, noise=0.1)
    assert verdicts(compare_arms(few, ["hilo", "sra"])) == {"sra": "undecided"}


def test_a_small_but_certain_difference_is_equivalent_within_the_margin_and_slower_beyond_it(planned, tmp_path):
    run = write(tmp_path / "a", planned, times={"hilo": 0.08, "sra": 0.081}, noise=0.002)
    assert verdicts(compare_arms(run, ["hilo", "sra"])) == {"sra": "equivalent"}
    assert verdicts(compare_arms(run, ["hilo", "sra"], margin=0.005)) == {"sra": "slower"}


def test_looks_are_paid_for(planned, tmp_path):
    once = compare_arms(write(tmp_path / "once", planned), ["msa", "sra"])
    thrice = compare_arms(write(tmp_path / "thrice", planned, looks=(16, 24, 32)), ["msa", "sra"])
    assert thrice.rows[0].p == pytest.approx(once.rows[0].p * 0.05 / 0.03)
    assert thrice.rows[0].high - thrice.rows[0].low > once.rows[0].high - once.rows[0].low
    assert "3 looks" in thrice.notes[0]
    near = {"sra": 0.1}
    one = compare_arms(write(tmp_path / "one", planned, times=near), ["msa", "sra"]).rows[0]
    three = compare_arms(write(tmp_path / "three", planned, times=near, looks=(16, 24, 32)), ["msa", "sra"]).rows[0]
    assert three.p_equivalent == pytest.approx(one.p_equivalent * 0.05 / 0.03)


def test_holm_is_over_the_table(planned, tmp_path):
    run = write(tmp_path / "a", planned)
    alone = compare_arms(run, ["msa", "hilo"]).rows[0].p
    both = compare_arms(run, ["msa", "hilo", "sra"])
    assert next(r.p for r in both.rows if r.variant == "hilo") == pytest.approx(2 * alone)


def test_too_few_rounds_give_a_ratio_and_the_reason_for_no_interval(planned, tmp_path):
    row = compare_arms(write(tmp_path / "a", planned, processes=1, rounds=1), ["msa", "hilo"]).rows[0]
    assert row.estimate == pytest.approx(2, rel=0.1)
    assert (row.verdict, row.reason) == ("undecided", "one round is too few for an interval")
    assert row.as_dict()["high"] is None


def test_an_arm_without_rounds_is_undecided_beside_the_others(planned, tmp_path):
    found = compare_arms(write(tmp_path / "a", planned, failed=("sra",)), ["msa", "hilo", "sra"])
    assert verdicts(found) == {"hilo": "faster", "sra": "undecided"}
    assert "no round has both" in {r.reason for r in found.rows}


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        (["msa"], "two or more different variants; got msa"),
        (["msa", "msa"], "two or more different variants; got msa, msa"),
        (["msa", "window"], "got window; .* has msa, hilo, sra"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(planned, tmp_path, arms, words):
    with pytest.raises(AttnbenchError, match=words):
        compare_arms(write(tmp_path / "a", planned), arms)


def test_arms_without_a_shared_round_are_refused(planned, tmp_path):
    with pytest.raises(AttnbenchError, match="rounds that both were in"):
        compare_arms(write(tmp_path / "a", planned, failed=("sra",)), ["msa", "sra"])


# --- two runs ---------------------------------------------------------------------------------------------


def test_a_slower_cell_of_the_later_run_is_found(planned, tmp_path):
    a = write(tmp_path / "a", planned, drift=0.01, bias=0.003, seed=1)
    b = write(tmp_path / "b", planned, drift=0.01, bias=0.003, seed=2, times={"sra": 0.1})
    found = compare_runs(a, b)
    assert verdicts(found)["sra"] == "slower"
    row = next(r for r in found.rows if r.variant == "sra")
    assert row.low < 0.8 < row.high
    assert "slower" not in {v for k, v in verdicts(found).items() if k != "sra"}


def test_equivalent_means_the_90_percent_interval_inside_the_margin_on_both_sides(planned, tmp_path):
    quiet = {"drift": 0.0, "noise": 0.01, "bias": 0.0}
    a = write(tmp_path / "a", planned, seed=1, **quiet)
    b = write(tmp_path / "b", planned, seed=2, times={"sra": 0.08 * 1.028}, **quiet)
    at_90, at_95 = (
        next(r for r in compare_runs(a, b, level=level, margin=0.2).rows if r.variant == "sra") for level in (0.9, 0.95)
    )
    assert at_90.low < at_90.estimate < 1
    between = 1 / math.sqrt(at_90.low * at_95.low) - 1  # a margin that only the 90 % interval lies within
    inside, outside = (
        next(r for r in compare_runs(a, b, margin=margin).rows if r.variant == "sra")
        for margin in (between, 1 / at_90.estimate - 0.999)
    )
    assert inside.low < 1 / (1 + between)
    assert raw_equivalence(compare_runs(a, b, margin=between), "sra") < 0.05
    assert raw_equivalence(compare_runs(a, b, margin=1 / at_90.low - 1), "sra") == pytest.approx(0.05)
    assert outside.verdict != "equivalent"


def test_arms_of_one_run_take_the_same_one_sided_tests(planned, tmp_path):
    run = write(tmp_path / "a", planned, times={"hilo": 0.08, "sra": 0.081})
    at_90 = compare_arms(run, ["hilo", "sra"], level=0.9).rows[0]
    assert compare_arms(run, ["hilo", "sra"], margin=1 / at_90.low - 1).rows[0].p_equivalent == pytest.approx(0.05)


def raw_equivalence(found, variant):
    """The row's p before Holm's correction, which multiplied it by how many rows have no smaller p."""
    row = next(r for r in found.rows if r.variant == variant)
    return row.p_equivalent / sum(r.p_equivalent >= row.p_equivalent for r in found.rows)


def test_more_rounds_of_the_same_processes_prove_no_more(planned, tmp_path):
    quiet = {"bias": 0.05, "drift": 0, "noise": 1e-4, "rounds": 9}
    row = compare_runs(*(write(tmp_path / f"{seed}", planned, seed=seed, **quiet) for seed in (1, 2))).rows[0]
    assert row.high / row.low > 1.1
    assert row.basis == "4 processes of run A, 4 of run B"


def test_identical_runs_are_seldom_called_different(tmp_path):
    from attnbench.analysis.statistics import welch, wilson

    rng = np.random.default_rng(1)
    trials, misses = 4000, 0
    for _ in range(trials):
        a, b = (np.median(rng.normal(0, 1, (4, 4)) + rng.normal(0, sd, (4, 1)), axis=1) for sd in (0.2, 1.0))
        misses += welch(b, a).p() <= 0.05
    assert wilson(misses, trials).high <= 0.06


def test_a_loaded_machine_moves_times_and_the_note_says_so_but_not_ratios(planned, tmp_path):
    a = write(tmp_path / "a", planned, drift=0.01, seed=1)
    b = write(tmp_path / "b", planned, drift=0.01, seed=2, load=1.3)
    times = compare_runs(a, b)
    assert set(verdicts(times).values()) == {"slower"}
    assert any("the reference msa itself is slower (0.7" in note for note in times.notes)
    ratios = compare_runs(a, b, by="ratio")
    assert "slower" not in verdicts(ratios).values()
    assert set(verdicts(ratios)) == {"hilo", "sra"}


def test_different_machines_are_refused_by_field_and_compared_by_ratio_when_allowed(planned, tmp_path):
    a = write(tmp_path / "a", planned, seed=1)
    b = write(
        tmp_path / "b",
        planned,
        seed=2,
        fingerprint=replace(FINGERPRINT, cpu_model="other"),
        load=5,
        times={"hilo": 0.1},
    )
    with pytest.raises(AttnbenchError, match="cpu_model: 'one' against 'other'; --allow-cross-machine"):
        compare_runs(a, b)
    found = compare_runs(a, b, across_machines=True)
    assert found.by == "ratio"
    assert verdicts(found)["hilo"] == "slower"
    assert verdicts(found)["sra"] != "slower"
    assert any("different machines" in note for note in found.notes)


def test_a_run_of_an_unknown_machine_is_compared_with_itself_alone(planned, tmp_path):
    old = replace(FINGERPRINT, kernel="")
    a, b = (write(tmp_path / name, planned, fingerprint=old) for name in "ab")
    with pytest.raises(AttnbenchError, match="only the name of the processor of a and b is stored"):
        compare_runs(a, b)
    assert len(compare_runs(a, a).rows) == 3


def test_ceilings_apart_are_refused_with_both_values_and_compared_by_ratio_when_allowed(planned, tmp_path):
    a = write(tmp_path / "a", planned, seed=1, ceilings={"macs_per_s": 100e9, "bytes_per_s": 40e9})
    b = write(tmp_path / "b", planned, seed=2, ceilings={"macs_per_s": 80e9, "bytes_per_s": 39e9})
    with pytest.raises(AttnbenchError, match=r"product 100 and 80 GMAC/s, 20 % apart; --allow.* busy .* measure again"):
        compare_runs(a, b)
    assert compare_runs(a, b, across_machines=True).by == "ratio"


def test_what_else_differs_is_noted(planned, tmp_path):
    smaller = plan(Sweep(mechanism=("hilo",)), registry.load(entry_points=False))
    a = write(tmp_path / "a", planned, protocol={"prime_s": 0.05})
    b = write(tmp_path / "b", smaller, protocol={"prime_s": 0.0}, host="b")
    notes = " | ".join(compare_runs(a, b).notes)
    assert "two hosts of the same kind" in notes
    assert "protocols differ in prime_s: 0.05 in A, 0.0 in B" in notes
    assert f"1 cell is in {tmp_path / 'a'} alone" in notes


def test_a_cell_that_failed_in_one_run_is_undecided_with_its_outcome(planned, tmp_path):
    found = compare_runs(write(tmp_path / "a", planned), write(tmp_path / "b", planned, failed=("sra",)))
    row = next(r for r in found.rows if r.variant == "sra")
    assert (row.verdict, row.reason) == ("undecided", "run B: crashed: SIGSEGV")


def test_a_cell_that_failed_in_both_is_counted(planned, tmp_path):
    found = compare_runs(*(write(tmp_path / name, planned, failed=("sra",)) for name in "ab"))
    assert "sra" not in verdicts(found)
    assert "1 cell was timed in neither" in found.notes


def test_one_process_gives_a_ratio_without_an_interval(planned, tmp_path):
    found = compare_runs(write(tmp_path / "a", planned), write(tmp_path / "b", planned, processes=1, rounds=16))
    assert {r.reason for r in found.rows} == {"an interval between runs needs two processes of each"}
    assert set(verdicts(found).values()) == {"undecided"}


def test_ratios_need_a_common_reference_and_cells_a_common_id(planned, tmp_path):
    other = plan(Sweep(mechanism=("msa", "hilo"), reference="none"), registry.load(entry_points=False))
    with pytest.raises(AttnbenchError, match=r"has msa, .* has none"):
        compare_runs(write(tmp_path / "a", planned), write(tmp_path / "b", other), by="ratio")
    larger = plan(Sweep(mechanism=ARMS, res=((384, 384),)), registry.load(entry_points=False))
    with pytest.raises(AttnbenchError, match="share none"):
        compare_runs(tmp_path / "a", write(tmp_path / "c", larger))


# --- the command ------------------------------------------------------------------------------------------


def typed(*words):
    return CliRunner().invoke(command, [str(w) for w in words], standalone_mode=False)


def test_the_command_prints_verdicts_and_fails_only_when_asked(planned, tmp_path):
    run = write(tmp_path / "a", planned)
    done = typed(run, "--arms", "hilo,sra")
    assert (done.return_value, done.exception) == (0, None)
    assert "slower" in done.output
    assert "Holm" in done.output
    assert typed(run, "--arms", "hilo,sra", "--fail-on", "slower").return_value == 1
    assert typed(run, "--arms", "sra,hilo", "--fail-on", "slower").return_value == 0
    assert typed(run, "--arms", "sra,hilo", "--margin", "99%", "--level", "99.9%").return_value == 0


def test_the_json_is_whole_and_has_no_infinities(planned, tmp_path):
    a, b = write(tmp_path / "a", planned), write(tmp_path / "b", planned, processes=1)
    found = json.loads(typed(a, b, "--json").output)
    assert found["by"] == "time"
    assert len(found["rows"]) == 3
    assert found["rows"][0]["high"] is None
    assert set(found["rows"][0]) >= {"variant", "conditions", "estimate", "low", "high", "p", "verdict", "reason"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A"], "two run folders, or one with --arms; got 1"),
        (["A", "B", "--arms", "x,y"], "one folder"),
        (["A", "B", "--margin", "3"], "margin must lie between 0 and 1, as 0.03 or 3%; got '3'"),
        (["A", "B", "--level", "high%"], "got 'high%'"),
        (["A", "B"], "a run is a folder; got 'A'"),
    ],
)
def test_a_slip_is_told_in_a_sentence(words, message):
    error = typed(*words).exception
    assert isinstance(error, AttnbenchError)
    assert message in str(error)
