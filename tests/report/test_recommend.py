from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic as made
from click.testing import CliRunner

from attnbench.commands.recommend import command
from attnbench.report.evidence import gather
from attnbench.report.recommend import Question, recommend, words

GIB = 2**30


def ask(folder: Path, **question: object) -> str:
    found = recommend(gather([folder]), Question(**{"res": (512, 512), "batch": 8, "device": "cuda", **question}))  # type: ignore[arg-type]  # names are Question's
    return "\n".join(line for answer in found for line in words(answer))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def record(name: str, speed: float, gib: float, **more: float) -> object:
        cell = made.cell(name, res_h=512, res_w=512, batch=8, device="cuda", threads=1)
        low, high = speed * 0.98, speed * 1.02
        return made.measured(
            cell,
            1.0,
            device_name="Invented GPU",
            throughput_img_per_s=speed,
            throughput_low=low,
            throughput_high=high,
            peak_memory_bytes=gib * GIB,
            ratio_to_reference=speed / 50,
            ratio_low=low / 50,
            ratio_high=high / 50,
        )

    bad = made.failed(made.cell("quadtree", res_h=512, res_w=512, batch=8, device="cuda", threads=1))
    records = [
        record("hilo", 100, 3),
        record("sra", 99, 3),
        record("van", 60, 1),
        record("msa", 50, 6),
        record("dat", 40, 2),
    ]
    return made.run(tmp_path / "run", [*records, bad])  # type: ignore[list-item]  # they are records


def test_the_fastest_stand_first_with_ties_intervals_memory_and_the_front(folder: Path) -> None:
    lines = ask(folder).splitlines()
    assert lines[1] == "4 of 5 measured, kind attention; --kind all shows every kind"
    assert lines[2] == "=1  hilo *  2.00 [1.96, 2.04] x msa     100.0 img/s  3.00 GiB"
    assert lines[3].split()[:2] == ["=1", "sra"]
    assert [line.split()[:2] for line in lines[4:6]] == [["3", "msa"], ["4", "dat"]]
    assert any(line.startswith("= shares its rank; ") for line in lines)


def test_other_kinds_are_shown_where_they_are_asked_for(folder: Path) -> None:
    assert "3  van *" in ask(folder, kind="all")
    assert "van" not in ask(folder)
    assert "van" in ask(folder, kind="gate")


def test_a_reach_leaves_out_what_reaches_less(folder: Path) -> None:
    text = ask(folder, kind="all", reach="local")
    assert "1 of 5 measured, any kind, reach local" in text
    assert "van" in text


def test_at_least_a_reach_and_at_most_a_time_leave_the_others_out(folder: Path) -> None:
    text = ask(folder, kind="all", min_reach="global", max_ms=150)
    assert "van" not in text
    assert "2 need more than 150 ms for a batch." in text  # msa takes 160 ms, dat 200
    assert text.count(" img/s") == 2
    assert "No mechanism" in ask(folder, max_ms=1)
    assert ask(folder, runtime="openvino").endswith("--batch 8 --runtime openvino")


def test_what_failed_is_said_with_its_reason(folder: Path) -> None:
    assert "No answer for quadtree (fp32, eager): oom: the trial needs 12.0 GiB" in ask(folder)


def test_a_memory_limit_leaves_out_what_is_above_it(folder: Path) -> None:
    text = ask(folder, memory=2 * GIB, kind="all")
    assert "1  van *" in text
    assert "Above the limit: hilo (3.00 GiB), msa (6.00 GiB), sra (3.00 GiB)." in text


def test_the_nearest_size_answers_where_the_one_asked_for_was_not_measured(folder: Path) -> None:
    lines = ask(folder, res=(640, 640)).splitlines()
    assert lines[0].startswith("Nothing was measured at 640 pixels")
    assert lines[2].startswith("=1  hilo *")
    assert lines[-1] == "This measures it: attnbench run --res 640 --device cuda --batch 8"
    assert ask(folder, res=(640, 640), runtime="openvino").count("\n") == 1


def test_backbones_are_ranked_whatever_their_width(tmp_path: Path) -> None:
    records = [made.measured(made.model(f"litv2_{n}", batch=8), speed) for n, speed in (("s", 2.0), ("b", 1.0))]
    folder = made.run(tmp_path / "run", records)
    lines = ask(folder, res=(224, 224), scope="backbone", kind="all").splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["litv2_s", "litv2_b"]
    assert "--backbone litv2_s,litv1_s,lightvit_t,lightvit_s" in lines[-1]
    assert "Nothing was measured" in ask(folder, res=(224, 224))


def test_nothing_fits(folder: Path) -> None:
    assert "No mechanism with a measured speed and memory fits within 0.500 GiB." in ask(folder, memory=GIB // 2)


def test_what_was_not_measured_is_said_with_the_command_that_measures_it(folder: Path) -> None:
    text = ask(folder, res=(1024, 1024), pass_="train")
    assert text.startswith(
        "Nothing was measured at 1024 pixels, batch 8, training on cuda. The nearest that was: 512x512"
    )
    assert text.endswith("attnbench run --res 1024 --device cuda --batch 8 --pass train")


def test_the_command_answers(folder: Path) -> None:
    done = CliRunner().invoke(
        command, ["--res", "512", "--device", "cuda", "--batch", "8", str(folder)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "=1  hilo *" in done.stdout
    line = ["--res", "512", "--device", "cuda", "--batch", "8", "--json", str(folder)]
    answer = json.loads(CliRunner().invoke(command, line, catch_exceptions=False).stdout.splitlines()[0])
    assert [offer["variant"] for offer in answer["offers"]] == ["hilo", "sra", "msa", "dat"]
    assert answer["offers"][0]["throughput_img_per_s"] == pytest.approx([100, 98, 102])
