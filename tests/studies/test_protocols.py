"""The study of measuring procedures: its arithmetic on invented rounds, and the whole of it on tiny layers."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields

import numpy as np
import pytest

from attnbench import AttnbenchError, Sweep, run
from attnbench.analysis import ranking
from attnbench.analysis.ranking import Measurement, Move
from attnbench.analysis.statistics import kendall_tau
from attnbench.commands.protocols import command
from attnbench.planning import protocol
from attnbench.results.events import ArmTurn, Round
from attnbench.studies import protocols, protocols_tables
from attnbench.studies.protocols import Request, procedures, sweep_of

ARMS = ("ref", "a", "b", "c")


def logs(*times: float, processes: int = 3, rounds: int = 4, noise: float = 0.0, seed: int = 0) -> Measurement:
    """Arms that take these times, with normal noise on the logs."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, noise, (processes, rounds, len(times)))
    return Measurement(ARMS[: len(times)], tuple(np.log(np.array(times)) + drawn))


def turn(cell: str, *calls: float) -> ArmTurn:
    return ArmTurn(cell=cell, calls_s=calls)


def test_rounds_become_log_times_by_process_of_the_arms_that_are_always_there():
    rounds = [
        Round(group="g", process=p, round=n, turns=(turn("1", 1, 1, 4), turn("2", 2, 2, 2), turn("1", 4, 4, 4)))
        for p, n in ((0, 0), (0, 1), (1, 2))
    ]
    rounds[1] = Round(group="g", process=0, round=1, turns=(*rounds[1].turns, turn("3", 1)))
    arms = {"ref": "1", "a": "2", "b": "3"}
    by_median = ranking.measurement(rounds, arms)
    assert by_median.arms == ("ref", "a")
    assert [x.shape for x in by_median.logs] == [(2, 2), (1, 2)]
    assert by_median.block is None
    assert np.exp(by_median.logs[0][0]) == pytest.approx([2, 2])  # the reference's turns 1 and 4: geometric mean
    by_mean = ranking.measurement(rounds, arms, mean=True)
    assert np.exp(by_mean.logs[0][0]) == pytest.approx([math.sqrt(2 * 4), 2])


def test_a_single_round_keeps_its_calls():
    found = ranking.measurement(
        [Round(group="g", process=0, round=0, turns=(turn("1", 1, 2, 3), turn("2", 4, 5)))], {"ref": "1", "a": "2"}
    )
    assert found.block is not None
    assert found.block.tolist() == [[1, 4], [2, 5]]
    assert found.resampled(np.random.default_rng(0))[0] == 0
    assert ranking.measurement([], {"ref": "1"}).arms == ()


def test_a_speed_ratio_is_the_mean_over_processes_of_hodges_and_lehmanns():
    found = Measurement(("ref", "a"), (np.log([[4.0, 2.0], [4.0, 2.0], [4.0, 1.0]]), np.log([[8.0, 1.0]])))
    assert np.exp(found.by_process()[:, 1]) == pytest.approx([2 * 2**0.25, 8])  # Walsh averages 1 1 1 1.5 1.5 2
    assert np.exp(found.speeds()) == pytest.approx([1, math.sqrt(16 * 2**0.25)])


def test_a_move_is_a_quotient_of_ratios_with_its_interval_over_processes():
    here, there = logs(1, 2, 4, noise=0.01), logs(1, 2, 2, noise=0.01, seed=1)
    same, moved = ranking.moves(here, there)
    assert (same.arm, moved.arm) == ("a", "b")
    assert moved.estimate == pytest.approx(2, rel=0.03)
    assert moved.ratio == pytest.approx(0.5, rel=0.03)
    assert moved.low < moved.estimate < moved.high
    assert same.low < 1 < same.high
    assert ranking.count_moved([same, moved]) == 1


def test_a_single_process_gives_no_interval_and_no_verdict():
    (move,) = ranking.moves(logs(1, 2), logs(1, 3, processes=1))
    assert (move.low, move.high) == (0.0, math.inf)
    assert math.isnan(move.p)
    assert move.estimate == pytest.approx(2 / 3)
    assert ranking.count_moved([move]) is None


def test_moves_of_the_same_rounds_are_judged_by_their_differences():
    here = logs(1, 2, noise=0.3)
    there = Measurement(here.arms, tuple(x + np.array([0, 0.01]) for x in here.logs))
    (paired,), (apart,) = ranking.moves(here, there, paired=True), ranking.moves(here, there)
    assert paired.p < 1e-6 < 0.5 < apart.p
    assert paired.estimate == apart.estimate == pytest.approx(math.exp(-0.01))


def test_holms_rule_counts_the_moves():
    found = [Move("a", 1, 1, 1, 1, p) for p in (0.01, 0.02, 0.03, 0.9)]
    assert ranking.count_moved(found) == 1  # 0.04, then 0.06


def test_tau_of_clear_rankings_is_certain_and_of_tied_ones_is_not():
    clear = ranking.tau(logs(1, 2, 4, 8, noise=0.01), logs(1, 2, 4, 8, noise=0.01, seed=1))
    assert (clear.estimate, clear.low, clear.high) == (1, 1, 1)
    reverse = ranking.tau(logs(1, 2, 4, 8, noise=0.01), logs(8, 4, 2, 1, noise=0.01))
    assert (reverse.estimate, reverse.low, reverse.high) == (-1, -1, -1)
    tied = ranking.tau(logs(1, 1, 1, 1, noise=0.1), logs(1, 1, 1, 1, noise=0.1, seed=1))
    assert tied.high - tied.low > 0.5
    assert ranking.swapped(logs(1, 2, 4, 8), logs(1, 4, 2, 8)) == (1, 6)


def test_the_same_rounds_resampled_together_agree_with_themselves():
    same = logs(1, 1, 1, 1, noise=0.1)
    assert ranking.tau(same, same, paired=True).low == 1
    assert ranking.tau(same, same).low < 1


def test_an_interval_is_the_wider_of_percentile_and_basic_within_its_bounds():
    drawn = np.linspace(0.6, 0.8, 1001).tolist()
    found = ranking.widest(0.9, drawn)  # percentile [0.605, 0.795], basic [1.005, 1.195]
    assert (found.low, found.high) == (pytest.approx(0.605), 1.0)


def test_arms_that_did_not_share_rounds_are_resampled_apart():
    x = np.log([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    joint, apart = (Measurement(("ref", "a"), (x,), shared=shared) for shared in (True, False))
    rng = np.random.default_rng(0)
    assert all(np.exp(joint.resampled(rng)) == pytest.approx([1, 0.1]) for _ in range(20))
    assert len({round(float(apart.resampled(rng)[1]), 6) for _ in range(20)}) > 1


def test_a_single_process_takes_the_bias_of_other_processes():
    others = Measurement(("ref", "a"), (np.log([[1.0, 2.0]]), np.log([[1.0, 8.0]])))
    biases = ranking.process_biases(others)
    assert biases is not None
    assert np.exp(biases[:, 1]) == pytest.approx([2 ** math.sqrt(2), 2 ** -math.sqrt(2)])
    assert ranking.process_biases(logs(1, 2, processes=1)) is None
    alone = Measurement(("ref", "a"), (np.log([[1.0, 4.0]]),), biases=biases)
    rng = np.random.default_rng(0)
    drawn = {round(float(alone.resampled(rng)[1]), 6) for _ in range(40)}
    assert drawn == {round(-math.log(4) + sign * math.sqrt(2) * math.log(2), 6) for sign in (-1, 1)}
    assert alone.of(("ref",)).biases.tolist() == [[0], [0]]  # type: ignore[union-attr]


def test_tau_agrees_with_the_statistics_of_the_estimates():
    here, there = logs(1, 2, 3, 4, noise=0.3), logs(1, 2, 3, 4, noise=0.3, seed=5)
    assert ranking.tau(here, there).estimate == kendall_tau(here.speeds().tolist(), there.speeds().tolist())


def test_the_authors_procedure_is_all_single_departures_together():
    made = {p.name: p for p in procedures(Request(batch=8, paper_batch=64))}
    assert next(iter(made)) == "ours"
    assert list(made)[-3:] == ["authors", "authors-again", "ours-again"]
    assert made["authors-again"].against == "authors"
    authors = made["authors"]
    for name, part in made.items():
        if part.against == "ours" and name not in ("ours", "ours-again", "in-sequence"):  # separate is in sequence too
            assert part.changes.items() <= authors.changes.items(), name
            assert part.axes.items() <= authors.axes.items(), name
            assert authors.mean >= part.mean
    sweep = sweep_of(Request(overrides=(("looks", (6,)),)), authors)
    numbers = protocol.get(sweep.protocol, sweep.overrides)
    assert (numbers.looks, numbers.calls, numbers.inference, numbers.schedule) == ((1,), 30, False, "separate")
    paper = protocol.get("paper")
    for name in ("looks", "processes", "calls", "turn_s", "prime_s", "prime_calls", "inference", "target", "budget_s"):
        assert getattr(numbers, name) == getattr(paper, name)
    assert sweep.allocator == ("system",)


def test_a_departure_changes_no_other_number_of_the_protocol():
    made = {p.name: p for p in procedures(Request())}
    numbers = {
        name: protocol.get(s.protocol, s.overrides) for name, p in made.items() for s in [sweep_of(Request(), p)]
    }
    for name, departed in numbers.items():
        differ = {f.name for f in fields(departed) if getattr(departed, f.name) != getattr(numbers["ours"], f.name)}
        assert differ <= set(made[name].changes), name
    assert not numbers["ours"].few_arms


def test_a_gpu_has_no_allocator_but_tf32():
    names = {p.name for p in procedures(Request(device="cuda"))}
    assert "tf32" in names
    assert not {"allocator", "batch"} & names


def test_an_unknown_departure_is_refused():
    with pytest.raises(AttnbenchError, match=r"a departure must be one of no-warm-up, .*; got 'warm'"):
        procedures(Request(departures=("warm",)))


WORDS = [
    "-m", "msa,sra,window", "--res", "32", "--dim", "24", "--heads", "3", "--threads", "1", "--block", "4",
    "--rounds", "4", "--processes", "2", "--departure", "mean,train-mode",
]  # fmt: skip


def attnbench(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints to stdout."""
    assert command.main(list(words), standalone_mode=False) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    assert command.main([*WORDS, "--out", str(folder)], standalone_mode=False) == 0
    return folder, json.loads((folder / "protocols.json").read_text())


def test_every_procedure_measures_every_arm(study):
    _, data = study
    rows = {row["name"]: row for row in data["procedures"]}
    assert list(rows) == ["ours", "mean", "train-mode", "authors", "authors-again", "ours-again"]
    for row in rows.values():
        assert list(row["ratios"]) == ["msa", "sra", "window"]
        assert row["ratios"]["msa"] == 1
        if row["against"]:
            assert [m["arm"] for m in row["moves"]] == ["sra", "window"]
            assert row["pairs"] == 3
            assert row["tau"]["low"] <= row["tau"]["estimate"] <= row["tau"]["high"]
    assert rows["authors"]["moved"] is None
    assert rows["ours-again"]["moved"] is not None
    assert rows["mean"]["changes"] == {"statistic": "mean"}
    assert rows["ours"]["ratios"] != rows["ours-again"]["ratios"]


def test_a_finished_study_is_read_and_not_measured_again(study, capsys):
    folder, data = study
    again = json.loads(attnbench(capsys, *WORDS, "--out", str(folder), "--json"))
    assert [row["ratios"] for row in again["procedures"]] == [row["ratios"] for row in data["procedures"]]


def test_the_terminal_and_the_files_show_the_same(study, capsys, tmp_path):
    folder, data = study
    text = " ".join(attnbench(capsys, *WORDS, "--out", str(folder)).split())
    assert "What each departure changes" in text
    assert protocols_tables.conclusion(data) in text
    paths = {path.name: path.read_text() for path in protocols_tables.write(data, tmp_path)}
    assert json.loads(paths["protocols.json"]) == data
    rows = list(csv.DictReader(io.StringIO(paths["departures.csv"])))
    assert [row["procedure"] for row in rows[-3:]] == [
        "the authors': all of these",
        "the authors', again",
        "ours, again",
    ]
    assert len(list(csv.DictReader(io.StringIO(paths["moves.csv"])))) == 5 * 2
    assert "# What the authors' measuring procedure changes" in paths["protocols.md"]


@pytest.mark.parametrize("arms", [{"mechanism": ("msa",)}, {"reference": "none"}])
def test_a_study_needs_a_reference_and_another_arm(tmp_path, arms):
    with pytest.raises(AttnbenchError, match="ratios need a reference and another arm"):
        protocols.measure(Request(**arms), tmp_path / "study", progress=lambda _: None)
    assert not (tmp_path / "study").exists()


def test_a_run_that_timed_no_reference_is_refused(tmp_path):
    numbers = {"looks": (2,), "processes": 1, "prime_s": 0.0, "turn_s": 0.0, "calls": 1}
    sweep = Sweep(
        mechanism=("sra",), reference="none", res=((32, 32),), dim=(24,), heads=(3,), threads=(1,),
        protocol="quick", measure=("latency",), overrides=tuple(numbers.items()),
    )  # fmt: skip
    folder = run(sweep, tmp_path / "run")
    with pytest.raises(AttnbenchError, match=r"ratios need msa and another arm; .* has timed sra"):
        protocols.read_measurement(folder, "msa", procedures(Request())[0])
