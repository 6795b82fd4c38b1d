from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable
from pathlib import Path

import click
import pytest
import synthetic as made
from click.testing import CliRunner

from attnbench.analysis.statistics import student_quantile
from attnbench.commands import options
from attnbench.commands.claims import command
from attnbench.planning.sizes import resolutions
from attnbench.published import arithmetic as by
from attnbench.published.claims import claims as ledger
from attnbench.published.errata import ERRATA
from attnbench.published.rules import rules
from attnbench.report import claims
from attnbench.report.claims import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED, Judgement, judge
from attnbench.report.evidence import gather
from attnbench.report.numbers import number
from attnbench.results.record import Record

# name: (parameters, multiply-accumulates), counted on the authors' own code at 224 px
MODELS = {
    "litv1_s": (27_973_720, 4_088_619_264),
    "litv1_m": (49_372_264, 8_613_490_944),
    "litv1_b": (87_292_384, 15_055_580_160),
    "litv2_s": (27_844_000, 3_735_631_104),
    "litv2_m": (48_830_368, 7_484_079_360),
    "litv2_b": (86_520_704, 13_200_021_504),
    "litv2_s[alpha=0.0]": (28_089_760, 3_966_691_584),
    "litv2_s[alpha=0.2]": (27_844_000, 3_881_944_320),
    "litv2_s[alpha=0.4]": (27_696_544, 3_816_464_640),
    "litv2_s[alpha=0.5]": (27_647_392, 3_770_252_544),
    "litv2_s[alpha=0.7]": (27_696_544, 3_743_308_032),
    "litv2_s[alpha=1.0]": (28_089_760, 3_747_221_760),
    "litv2_s[attention=msa]": (28_089_760, 4_140_099_840),
    "litv2_s[attention=sra]": (31_635_616, 3_921_194_496),
    "litv2_s[attention=window]": (28_089_760, 4_007_334_144),
    "litv2_s[attention=tmsa]": (29_862_688, 3_964_264_320),
    "litv2_s[pooled=true]": (27_844_000, 3_510_779_904),
    "resnet50": (25_557_032, 4_111_512_576),
    "convnext_tiny": (28_589_128, 4_470_437_376),
    "resnet101": (44_549_160, 7_833_969_664),
    "convnext_small": (50_223_688, 8_705_392_128),
    "resnet152": (60_192_808, 11_558_835_200),
    "convnext_base": (88_591_464, 15_383_635_968),
    "lightvit_s": (19_200_248, 1_838_978_560),
    "pvt_v2_b1": (14_009_000, 2_120_272_384),
    "rest_small": (13_679_708, 2_107_154_496),
    **{
        f"litv2_s[window_size={s},num_classes=100]": (27_151_900, m)
        for s, m in zip(
            range(2, 8),
            (3_734_939_904, 3_736_734_780, 3_775_560_252, 3_702_082_620, 3_890_185_788, 3_641_489_664),
            strict=True,
        )
    },
}
# name: (parameters, MACs by mmdetection's rule with attention products) at 1280x800
DETECTORS = {
    "retinanet[backbone=litv2_s]": (38_014_252, 242_391_433_320),
    "retinanet[backbone=litv2_s[window_size=4]]": (38_014_252, 230_423_781_480),
    "retinanet[backbone=litv2_m]": (59_000_620, 348_086_665_320),
    "retinanet[backbone=litv2_m[window_size=4]]": (59_000_620, 312_183_709_800),
    "retinanet[backbone=litv2_b]": (97_139_924, 481_089_683_560),
    "retinanet[backbone=litv2_b[window_size=4]]": (97_139_924, 429_562_658_920),
    "mask_rcnn[backbone=litv2_s]": (47_350_056, 261_357_811_700),
    "mask_rcnn[backbone=litv2_s[window_size=4]]": (47_350_056, 249_390_159_860),
    "mask_rcnn[backbone=litv2_m]": (68_336_424, 367_053_043_700),
    "mask_rcnn[backbone=litv2_m[window_size=4]]": (68_336_424, 331_150_088_180),
    "mask_rcnn[backbone=litv2_b]": (105_894_040, 500_426_995_700),
    "mask_rcnn[backbone=litv2_b[window_size=4]]": (105_894_040, 448_899_971_060),
    "retinanet[backbone=litv2_s[attention=msa]]": (38_260_012, 306_144_649_320),
}
SEGMENTERS = {
    "semantic_fpn[backbone=litv2_s]": (31_449_486, 41_292_310_528),
    "semantic_fpn[backbone=litv2_s[attention=msa]]": (31_695_246, 46_496_000_000),
    "semantic_fpn[backbone=litv2_s[attention=sra]]": (35_241_102, 42_421_000_000),
    "semantic_fpn[backbone=litv2_s[attention=window]]": (31_695_246, 42_652_000_000),
    "semantic_fpn[backbone=litv2_s[attention=tmsa]]": (33_468_174, 42_537_000_000),
}


def counted() -> Iterable[Record]:
    for name, (_, _, speed) in made.LAYERS.items():
        yield made.measured(made.cell(name), speed)
    for name, (params, macs) in MODELS.items():
        yield made.measured(made.model(name, device="cpu"), params=params, macs=macs)
    for name, (params, macs) in DETECTORS.items():
        yield made.measured(
            made.model(name, res_h=800, res_w=1280, device="cpu"), params=params, macs=2 * macs, macs_mmdet=macs
        )
    for name, (params, macs) in SEGMENTERS.items():
        yield made.measured(
            made.model(name, res_h=512, res_w=512, device="cpu"), params=params, macs=2 * macs, macs_mmdet=macs
        )


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judgement]:
    folder = made.run(tmp_path_factory.mktemp("claims") / "run", counted())
    return {j.id: j for j in judge(gather([folder]))}


def test_every_claim_has_a_test_and_a_verdict_or_a_reason(judged: dict[str, Judgement]) -> None:
    ids = [claim.id for claim in ledger()]
    assert len(ids) == 71
    assert list(rules()) == ids
    assert list(judged) == ids
    for j in judged.values():
        assert j.verdict in (REPRODUCED, CONTRADICTED) or j.reason, j.id


def test_counts_give_the_ledgers_own_verdicts_and_ratios(judged: dict[str, Judgement]) -> None:
    ours = {"agrees": REPRODUCED, "disagrees": CONTRADICTED}
    checked = ratios = 0
    for j in judged.values():
        if j.rule.kind != "exact" or j.verdict == NOT_APPLICABLE:
            continue
        checked += 1
        if j.claim.verdict in ours:
            assert j.verdict == ours[j.claim.verdict], (j.id, claims.details(j))
        printed = {r.what: r.value for r in j.claim.recomputed}
        for c in j.evaluated:
            exact = c.basis == "arithmetic"
            if c.comparison.what in printed and not (
                j.id.startswith("window4") and c.comparison.what == "mask_rcnn LITv2-M"
            ):
                ratios += 1
                assert c.ratio == pytest.approx(printed[c.comparison.what], abs=0.0006 if exact else 0.03), (
                    j.id,
                    c.comparison.what,
                )
    assert checked >= 23
    assert ratios >= 45


def test_the_arithmetic_meets_what_is_printed() -> None:
    assert by.hilo(196, 384, 12, 2, 0.5) == 83_467_776
    assert by.hilo(196, 768, 12, 2, 0.9) == 298_296_320
    assert by.msa(196, 768) == 521_428_992
    assert by.hilo_params(768, 12, 0.9) == 2_198_528
    assert by.msa_params(768) == 2_362_368
    assert [by.crossover(384, 2), by.crossover(768, 2)] == [1168, 2320 + 0.0]


@pytest.mark.parametrize("erratum", ERRATA, ids=lambda e: e.where)
def test_the_sum_of_each_erratum_holds(erratum: object) -> None:
    from attnbench.published.errata import Erratum

    assert isinstance(erratum, Erratum)
    total = erratum.quotient[0] / erratum.quotient[1] if erratum.quotient else sum(a for _, a in erratum.terms)
    assert total == pytest.approx(erratum.total, rel=1e-5)
    assert erratum.arithmetic
    assert erratum.says


def test_a_cpu_says_nothing_about_a_gpu(judged: dict[str, Judgement]) -> None:
    gpu = [j for j in judged.values() if {c.device for c in j.rule.comparisons} - {""} == {"gpu"}]
    assert len(gpu) > 25
    assert all(j.verdict == NOT_APPLICABLE or j.verdict == CONTRADICTED for j in gpu)
    assert judged["hilo-fastest-layer-gpu"].reason == "the claim is about a GPU; these runs have none"
    assert judged["hilo-fastest-layer-gpu"].verdict == NOT_APPLICABLE


def speeds(folder: Path, device_name: str, width: float = 0.008, **speed: float) -> dict[str, Judgement]:
    records = []
    for name, value in speed.items():
        cell = made.cell(name, device="cuda") if name in made.LAYERS else made.model(name)
        error = math.log1p(width) / student_quantile(0.975, 15)
        ratio = {"ratio_to_reference": value, "ratio_error": error, "ratio_df": 15}
        records.append(made.measured(cell, 1.0, device_name=device_name, **ratio))
    return {j.id: j for j in judge(gather([made.run(folder, records)]))}


def test_a_named_gpu_is_judged_by_itself_alone(tmp_path: Path) -> None:
    models = {"litv2_s": 1.95, "pvt_v2_b2": 1.0, "focal_tiny": 0.3}
    other = speeds(tmp_path / "other", "NVIDIA H200", **models)
    assert other["litv2-s-vs-pvtv2-b2-v100"].verdict == NOT_APPLICABLE
    assert other["focal-tiny-slower-than-litv2-s"].verdict == REPRODUCED
    own = speeds(tmp_path / "own", "Tesla V100-SXM2", **models)
    assert own["litv2-s-vs-pvtv2-b2-v100"].verdict == CONTRADICTED


def test_an_order_is_reproduced_contradicted_or_open(tmp_path: Path) -> None:
    assert speeds(tmp_path / "a", "GPU", focal=0.7, msa=1.0)["focal-slower-than-msa-gpu"].verdict == REPRODUCED
    assert speeds(tmp_path / "b", "GPU", focal=1.3, msa=1.0)["focal-slower-than-msa-gpu"].verdict == CONTRADICTED
    near = speeds(tmp_path / "c", "GPU", width=0.05, focal=0.99, msa=1.0)["focal-slower-than-msa-gpu"]
    assert near.verdict == UNDECIDED
    assert near.reason == f"p is {number(near.p, 2)} after all corrections; a verdict needs 0.05 or less"


def test_one_counterexample_contradicts_all_and_a_missing_rival_leaves_it_open(tmp_path: Path) -> None:
    slower = speeds(tmp_path / "a", "GPU", hilo=1.0, sra=1.4, msa=0.9)["hilo-fastest-layer-gpu"]
    assert slower.verdict == CONTRADICTED
    assert slower.deciding is not None
    assert slower.deciding.comparison.what == "HiLo/SRA"
    some = speeds(tmp_path / "b", "GPU", hilo=2.0, sra=1.4, msa=0.9)["hilo-fastest-layer-gpu"]
    assert some.verdict == UNDECIDED
    assert "11 of 13 comparisons have no evidence" in some.reason


def test_holm_widens_the_interval_of_one_claim_among_many(tmp_path: Path) -> None:
    alone = speeds(tmp_path / "a", "GPU", focal=0.7, msa=1.0)["focal-slower-than-msa-gpu"]
    many = speeds(tmp_path / "b", "GPU", focal=0.7, msa=1.0, performer=0.6, quadtree=0.5, window=1.0, hilo=1.1)
    assert alone.level < many["focal-slower-than-msa-gpu"].level
    weak = {"focal": 0.985, "performer": 0.985, "quadtree": 0.985}
    only = speeds(tmp_path / "c", "GPU", width=0.0126, focal=0.985, msa=1.0)["focal-slower-than-msa-gpu"]
    assert only.p < 0.2
    together = speeds(tmp_path / "d", "GPU", width=0.0126, msa=1.0, **weak)["focal-slower-than-msa-gpu"]
    assert together.p == pytest.approx(min(1.0, 3 * only.p), rel=0.01)


def test_two_machines_are_judged_apart(tmp_path: Path) -> None:
    runs = [
        made.run(
            tmp_path / str(i),
            [
                made.measured(made.cell(n, device="cuda", threads=i), s, device_name=f"GPU {i}")
                for n, s in (("msa", 1.0), ("focal", f))
            ],
        )
        for i, f in ((1, 0.5), (2, 2.0))
    ]
    found = {(j.id, j.machine): j.verdict for j in judge(gather(runs))}
    assert found["focal-slower-than-msa-gpu", "GPU 1"] == REPRODUCED
    assert found["focal-slower-than-msa-gpu", "GPU 2"] == CONTRADICTED


def test_every_command_is_one_that_run_understands() -> None:
    known = {
        o
        for p in options.sweep_options(click.Command("x", callback=lambda: None).callback).__click_params__
        for o in p.opts
    }  # type: ignore[union-attr]  # click's own attribute
    shown = [c for t in rules().values() if (c := claims.command(t))]
    assert len(shown) > 50
    for text in shown:
        words = shlex.split(text)
        assert words[:2] == ["attnbench", "run"]
        assert {w for w in words if w.startswith("--")} <= known
        resolutions(words[words.index("--res") + 1])


def test_the_command_fails_on_a_contradiction_where_asked(tmp_path: Path) -> None:
    folder = str(made.run(tmp_path / "run", [made.measured(made.cell(n), v[2]) for n, v in made.LAYERS.items()]))
    run = CliRunner()
    assert run.invoke(command, [folder]).exit_code == 0
    assert run.invoke(command, [folder, "--fail-on", "contradicted"]).exit_code == 1
    found = json.loads(run.invoke(command, [folder, "--format", "json"]).stdout)
    assert len({row["id"] for row in found}) == 71
    one = run.invoke(command, [folder, "--claim", "hilo-cpu-faster-than-sra"]).stdout
    assert "HiLo/SRA" in one
    assert "1.4 times" in one


def test_a_machine_without_evidence_adds_no_row_where_another_has_it(tmp_path: Path) -> None:
    layers = [
        made.measured(made.cell(n, device="cuda"), s, device_name="GPU A") for n, s in (("msa", 1.0), ("focal", 0.5))
    ]
    other = [made.measured(made.model("litv2_s"), device_name="GPU B")]
    runs = [made.run(tmp_path / "a", layers), made.run(tmp_path / "b", other)]
    found = [j for j in judge(gather(runs)) if j.id == "focal-slower-than-msa-gpu"]
    assert [(j.machine, j.verdict) for j in found] == [("GPU A", REPRODUCED)]
    assert len(judge(gather(runs))) == 71
