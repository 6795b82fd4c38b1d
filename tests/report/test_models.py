"""Accuracy beside latency: whose top-1 it is, the probability of the front from stored rounds, and the plain answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import synthetic as made
from click.testing import CliRunner

from attnbench.commands.recommend import command
from attnbench.errors import AttnbenchError
from attnbench.planning.sweep import Plan, Sweep
from attnbench.report import models
from attnbench.report.evidence import gather
from attnbench.report.style import charts as chart_settings
from attnbench.report.top1 import published_top1
from attnbench.results.events import ArmTurn, Round
from attnbench.results.store import create_or_resume

# Published top-1: 82.0, 81.3 (LITv2), 81.402, 80.294 (timm). ViT-S and Swin-T take the same time but for noise.
TIMES_S = {"litv2_s": 0.08, "swin_tiny": 0.05, "timm:vit_small_patch16_224": 0.0501, "timm:poolformer_s24": 0.09}
NOISE = (1.0, 1.02, 0.98, 1.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = [made.model(name, device="cpu", threads=2, batch=1, runtime="onnxruntime") for name in TIMES_S]
    records = [
        made.measured(c, latency_s=t, latency_low_s=t * 0.98, latency_high_s=t * 1.02)
        for c, t in zip(cells, TIMES_S.values(), strict=True)
    ]
    made.run(tmp_path / "run", records)
    with create_or_resume(tmp_path / "run", Plan(Sweep(), tuple(cells), {}), made.FACTS) as writer:
        for number in range(8):
            turns = tuple(
                ArmTurn(cell=c.id, calls_s=(t * NOISE[(number * (place + 1)) % 4],))
                for place, (c, t) in enumerate(zip(cells, TIMES_S.values(), strict=True))
            )
            writer.log(Round(group=cells[0].group, process=number // 2, round=number, turns=turns))
    return tmp_path / "run"


def ask(folder: Path, *more: str) -> str:
    words = [str(folder), "--scope", "models", "--res", "224", "--runtime", "onnxruntime", *more]
    asked = CliRunner().invoke(command, words, catch_exceptions=False)
    assert asked.exit_code == 0
    return asked.output


def test_a_top1_has_its_source_and_timms_the_tag_of_its_weights() -> None:
    assert published_top1(made.model("swin_tiny")).source == "LITv2, table 1"  # type: ignore[union-attr]  # there is one
    found = published_top1(made.model("timm:vit_small_patch16_224"))
    assert found is not None
    assert (found.percent, found.side) == (81.402, 224)
    assert found.source == "timm results, aa4b5850, weights augreg_in21k_ft_in1k"
    assert published_top1(made.model("timm:vit_small_patch16_224", res_h=160, res_w=160)) is None
    assert published_top1(made.model("timm:vit_small_patch16_224[patch_size=8]")) is None


def test_the_probability_of_the_front_comes_from_the_rounds(folder: Path) -> None:
    (front,) = models.fronts(gather([folder]))
    found = {m.point.cell.variant: m for m in front}
    assert list(found) == ["litv2_s", "timm:vit_small_patch16_224", "swin_tiny", "timm:poolformer_s24"]
    assert found["litv2_s"].probability == 1
    assert found["timm:vit_small_patch16_224"].probability == 1  # more accurate than Swin-T, faster than LITv2-S
    chance = found["swin_tiny"].probability
    assert chance is not None
    assert 0 < chance < 1
    assert found["timm:poolformer_s24"].probability == 0
    with chart_settings():
        (chart,) = models.charts([front])
    assert "Swin-T" in chart.caption
    assert [row[1] for row in models.table([front]).rows] == list(found)


def test_the_answer_names_models_within_the_budget_their_sources_and_a_command_that_runs(folder: Path) -> None:
    lines = ask(folder, "--max-ms", "60").splitlines()
    assert lines[1] == "2 of 4 models within 60 ms, the most accurate first"
    assert lines[2].split()[:3] == ["81.4", "%", "timm:vit_small_patch16_224"]
    assert lines[2].endswith("50.1 [49.1, 51.1] ms  front with probability 1.00")
    assert any(line.startswith("  timm results, aa4b5850, weights augreg_in21k_ft_in1k: ") for line in lines)
    assert lines[-1].endswith(
        "attnbench run --backbone litv2_s,litv1_s,lightvit_t,lightvit_s --res 224 --device cpu --batch 1 "
        "--runtime onnxruntime"
    )
    first = json.loads(ask(folder, "--json"))["models"][0]
    assert (first["variant"], first["top1_percent"], first["front_probability"]) == ("litv2_s", 82.0, 1.0)


def test_what_was_not_measured_and_what_models_cannot_answer_is_said(folder: Path) -> None:
    assert ask(folder, "--batch", "8").startswith("No model with a published top-1 was measured at 224 pixels, batch 8")
    with pytest.raises(AttnbenchError, match="by accuracy and latency alone; got --memory"):
        ask(folder, "--memory", "1GiB")
