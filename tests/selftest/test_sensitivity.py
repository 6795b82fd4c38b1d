"""What the self-test makes of rounds, from invented ones, and the whole of it on tiny layers."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from attnbench import AttnbenchError
from attnbench.analysis.statistics import Interval
from attnbench.commands import doctor, selftest, show
from attnbench.execution import machine_cache
from attnbench.machine import environment
from attnbench.results.events import ArmTurn, BetweenRuns, Round, from_line, to_line
from attnbench.results.lines import finite
from attnbench.selftest import repeated, sensitivity, stored
from attnbench.selftest.sensitivity import POWER_80, Sensitivity, judge_pairs, measure_sensitivity

SAME, DOUBLE = ["a", "b", "c", "d"], ["A", "B"]
ARMS = ["probe", *SAME, *DOUBLE]


def invented(times: dict[str, float], rounds: int = 12, noise: float = 0.01) -> list[Round]:
    """Rounds over six processes in which the arms take these times, 1 s if not given, with the same few values."""
    rng = np.random.default_rng(0)

    def turn(arm: str) -> ArmTurn:
        return ArmTurn(cell=arm, calls_s=(times.get(arm, 1.0) * math.exp(rng.normal(0, noise)),))

    return [
        Round(group="g", process=number % 6, round=number, turns=tuple(map(turn, ARMS))) for number in range(rounds)
    ]


def judged(rounds: list[Round]) -> dict:
    return judge_pairs(rounds, {arm: arm for arm in ARMS}, SAME, DOUBLE, 0.95)


def test_pairs_become_a_rate_of_false_differences_and_a_pooled_ratio():
    found = judged(invented({"d": 1.2, "A": 2.02, "B": 2.02}))
    assert (found["trials"], found["excluding"], found["twice_hits"]) == (2, 1, 2)
    assert found["rate"].estimate == 0.5
    assert found["rate_of_all_pairs"].estimate == pytest.approx(3 / 6)  # d against a, b and c
    assert found["twice"].estimate == pytest.approx(1 / 2.02, rel=0.01)
    assert 0 < found["half_width"] < 0.03


def test_doubled_work_is_judged_by_its_own_pooled_ratio_and_not_by_one_half():
    found = judged(invented({"A": 2.5, "B": 2.5}, noise=0.001))
    assert found["twice"].estimate == pytest.approx(0.4, rel=0.01)
    assert found["twice_hits"] == 2
    assert judged(invented({"A": 2.5, "B": 2.0}, noise=0.001))["twice_hits"] == 0


def test_rounds_that_are_too_few_for_an_interval_give_no_difference_and_no_error():
    found = judged(invented({"d": 1.2}, rounds=1))
    assert (found["excluding"], found["half_width"]) == (0, math.inf)


RESULT = Sensitivity(
    trials=10, excluding=1, rate=Interval(0.1, 0.018, 0.404), rate_of_all_pairs=Interval(0.05, 0.01, 0.09),
    half_width=0.04,
    reference_half_width=0.03, twice=Interval(0.494, 0.49, 0.498), twice_hits=9, allocation=(95 << 20, 96 << 20),
    delay=(0.021, 0.02), alone=Interval(0.9, 0.8, math.inf),
)  # fmt: skip


STORED_RESULT = finite({**asdict(RESULT), "resolvable": RESULT.resolvable})


def described(result: Sensitivity = RESULT) -> dict:
    return stored.describe(result, device="cpu", protocol="quick", allocator="pinned")


def test_the_detectable_difference_is_that_of_a_power_of_four_in_five():
    assert RESULT.resolvable == pytest.approx(POWER_80 * 0.04)
    assert stored.sentence(described()).startswith("`quick` on cpu detects a difference of 5.7% in 4 of 5 comparisons")


def test_a_stored_result_is_strict_json_and_reads_as_it_was_written(tmp_path):
    data = described(replace(RESULT, half_width=math.inf))
    stored.save(data, tmp_path / "runs" / "selftest.json")
    assert stored.load(tmp_path / "runs" / "selftest.json") == data
    assert data["environment"]["fingerprint"]["cpu_model"] == data["environment"]["cpu"]["model"]
    assert data["result"]["half_width"] is None
    text = "\n".join(stored.lines(data))
    assert "1 of 10 intervals exclude 1 (rate 10.0%, 95 % interval 1.8% to 40.4%; nominal 5 %)" in text
    assert "half-width infinite between two arms" in text
    assert "0.900 [0.800, ?]" in text
    assert "too few rounds" in text


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "cannot be read"), ("[1]", "is not a stored self-test"), ('{"kind": "selftest", "schema": 9}', "got 9")],
)
def test_another_file_is_refused(tmp_path, text, why):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(AttnbenchError, match=why):
        stored.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"created": "today"}, {"created": "2026-11-21T10:00:00"}, {"created": 7}, {"protocol": []}, {"result": {}},
        {"result": {**STORED_RESULT, "trials": "ten"}}, {"result": {**STORED_RESULT, "allocation": []}},
        {"environment": {"cpu": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_self_test_is_refused_with_the_file_and_what_is_wrong(tmp_path, change):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**described(), **change}))
    with pytest.raises(AttnbenchError, match="damaged"):
        stored.load(path)


def test_what_is_no_plain_file_is_no_self_test(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(AttnbenchError, match=r"x.json must be a plain file .* it is a FIFO"):
        stored.load(tmp_path / "x.json")


def test_the_latest_is_of_this_machine_and_recent(tmp_path):
    now = datetime.now(UTC)
    assert stored.latest(tmp_path) is None
    old, new, other = described(), described(), described()
    old["created"] = (now - timedelta(days=2)).isoformat()
    other["environment"] = {**other["environment"], "host": "another"}
    for name, data in (("1", new), ("2", old), ("3", other)):
        stored.save(data, tmp_path / f"selftest-{name}.json")
    (tmp_path / "selftest-4.json").write_text("torn")
    assert stored.latest(tmp_path) == new


def test_the_whole_self_test_runs_on_tiny_layers(tmp_path):
    said: list[str] = []
    result = measure_sensitivity(
        trials=2, threads=(1,), dim=24, progress=said.append,
        overrides=(("looks", (8,)), ("processes", 2), ("prime_s", 0.0), ("turn_s", 0.0)),
    )  # fmt: skip
    assert result.trials == 2
    assert 0 < result.twice.estimate < 1
    assert result.allocation[0] == pytest.approx(result.allocation[1], rel=0.05)
    assert result.delay[0] >= result.delay[1]
    assert math.isfinite(result.half_width)
    assert said[0] == "trying 7 arms, 4 of them identical and 2 of doubled work"
    assert sum(line.startswith("round ") for line in said) == 8
    stored.save(described(result), tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["result"]["trials"] == 2


BETWEEN = BetweenRuns(
    key=("cpu", 2, "pinned", "quick-0"), runs=10, measured="now", ratio_sd={"sra": 0.002, "van": 0.0061},
    other_ratio_sd=0.0041, time_sd={"msa": 0.02}, other_time_sd=0.021,
)  # fmt: skip
SENTENCE = (
    "10 runs of `quick`: beyond what each sees, ratios differ by 0.41% (van most, by 0.61%) and times by 2.10%; "
    "later runs of the same protocol include it until the machine is started again"
)


def test_the_command_runs_layers_so_often_and_doctor_quotes_what_the_runs_differed_by(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []
    monkeypatch.setattr(sensitivity, "measure_sensitivity", lambda **_: RESULT)
    monkeypatch.setattr(repeated, "measure_between_runs", lambda runs, **_: asked.append(runs) or BETWEEN)
    assert selftest.command.main(["--runs", "10"], standalone_mode=False) == 0
    assert f"between runs     {SENTENCE}" in " ".join(capsys.readouterr().out.split("\n                 "))
    assert doctor.command.main([], standalone_mode=False) == 0
    assert SENTENCE in " ".join(capsys.readouterr().out.split())
    assert asked == [10]


@pytest.mark.parametrize("change", [{"runs": "ten"}, {"ratio_sd": {}}, {"other_time_sd": None}], ids=str)
def test_a_damaged_difference_of_runs_is_refused(tmp_path, change):
    data = stored.describe(RESULT, device="cpu", protocol="quick", allocator="pinned", between=BETWEEN)
    stored.save(data, tmp_path / "x.json")
    assert stored.load(tmp_path / "x.json") == data
    stored.save({**data, "between_runs": {**data["between_runs"], **change}}, tmp_path / "x.json")
    with pytest.raises(AttnbenchError, match=r"x.json is damaged"):
        stored.load(tmp_path / "x.json")


def test_several_runs_of_tiny_layers_are_compared_and_the_result_kept_for_later_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(repeated, "LAYERS", ("msa", "sra"))
    numbers = (("looks", (4,)), ("processes", 2), ("prime_s", 0.0), ("turn_s", 0.0))
    said: list[str] = []
    found = repeated.measure_between_runs(
        3, protocol="quick", threads=(1,), overrides=numbers, res=32, progress=said.append
    )
    assert [line.partition(",")[0] for line in said] == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert ["left" in line for line in said] == [True, True, False]
    assert (found.runs, set(found.ratio_sd), set(found.time_sd)) == (3, {"sra"}, {"msa", "sra"})
    assert found.key[:3] == ("cpu", 1, "pinned")
    assert machine_cache.read(BetweenRuns, found.key, environment.torch_version()) == from_line(to_line(found))


def test_runs_without_an_interval_are_refused(monkeypatch):
    monkeypatch.setattr(repeated, "LAYERS", ("msa", "sra"))
    with pytest.raises(AttnbenchError, match="paper gives none; use quick, standard or rigorous"):
        repeated.measure_between_runs(
            3, protocol="paper", threads=(1,), overrides=(("calls", 2),), res=32, progress=lambda _: None
        )


def test_the_command_stores_what_show_and_doctor_print(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sensitivity, "measure_sensitivity", lambda **_: RESULT)
    assert selftest.command.main([], standalone_mode=False) == 0
    printed = capsys.readouterr().out
    (path,) = tmp_path.glob("runs/selftest-*.json")
    assert f"stored in runs/{path.name}" in printed
    assert show.command.main([str(path)], standalone_mode=False) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("self-test of ")
    assert shown[1:] == printed.splitlines()[:-1]
    assert doctor.command.main([], standalone_mode=False) == 0
    assert "`quick` on cpu detects a difference of 5.7%" in capsys.readouterr().out
