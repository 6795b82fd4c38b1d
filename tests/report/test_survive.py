"""`attnbench survive`: timm's published tables against the known figures, and a run beside the papers' tables."""

from __future__ import annotations

import json

import pytest
from synthetic import layers

from attnbench.analysis.survival import TIMM
from attnbench.cli import group
from attnbench.errors import AttnbenchError
from attnbench.report import survival
from attnbench.report.evidence import gather


@pytest.fixture(scope="module")
def timm():
    return survival.published_timm(224, (3, 6))


def pair(found, *parts):
    """The agreement of the two conditions whose origins contain these texts."""
    return next(
        a for a in found.agreements
        if [p in o for p, o in zip(parts, (a.one.origin, a.other.origin), strict=True)] == [True, True]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "tau", "items"),
    [
        ("pt291-cu130-5090-dynamo", "pt291-cu130-5090.csv", 0.70, 163),
        ("pt291-cu130-5090-dynamo", "pt240-cpu-i9", 0.36, 153),
        ("amp-nchw-pt113-cu117-rtx3090", "amp-nchw-pt240-cu124-rtx3090", 0.90, 107),
        ("timm", "pt291-cu130-5090.csv", 0.15, 163),
        ("timm", "pt291-cu130-5090-dynamo", 0.20, 163),
    ],
)
def test_timms_published_tables_give_the_known_taus(timm, one, other, tau, items):
    found = pair(timm, one, other)
    assert found.tau.estimate == pytest.approx(tau, abs=0.02)
    assert found.items == items


def test_compiling_moves_timms_ranking_more_than_any_other_single_change(timm):
    assert [c.axis for c in timm.changes][:2] == ["runtime", "layout"]


def test_13_of_19_models_of_3_gmacs_and_more_stay_on_the_accuracy_front_from_a_5090_to_an_i9():
    conditions = [
        c
        for c in survival.survival_sources.published_timm(0, (3, float("inf")))
        if c.source == TIMM and ("5090-dynamo" in c.origin or "pt240-cpu-i9" in c.origin)
    ]
    found = survival.judge(conditions, survival.survival_sources.timm_top1(0))
    (only,) = found.agreements
    assert survival.stays_on_front(only, found.top1) == (19, 13)


def test_runs_stand_beside_the_papers_tables(tmp_path):
    folders = [layers(tmp_path / f"b{batch}", batch=batch) for batch in (1, 64)]
    found = survival.of_runs(gather(folders))
    labels = [found.label(c) for c in found.conditions]
    assert len(labels) == len(set(labels)) == 4
    assert [c.axis for c in found.changes] == ["batch"]
    with pytest.raises(AttnbenchError, match="give either"):
        group.main(["survive", "--timm", str(folders[0])], standalone_mode=False)


def test_what_differs_between_runs_of_two_commits_is_the_code_too(tmp_path):
    folders = [layers(tmp_path / f"b{batch}", batch=batch) for batch in (1, 64)]
    for folder, commit in zip(folders, ("1ef2dac006", "9df0f549aa"), strict=True):
        facts = json.loads((folder / "run.json").read_text())
        facts["environment"]["code"] = {"commit": commit, "dirty": False}
        (folder / "run.json").write_text(json.dumps(facts))
    found = survival.of_runs(gather(folders))
    (pair,) = [a for a in found.agreements if {a.one.source, a.other.source} == {"measured"}]
    assert pair.changes == ("batch", "code")
    assert not found.changes


def test_of_too_many_measured_conditions_those_with_most_items_are_compared_and_the_answer_says_so(
    tmp_path, monkeypatch
):
    folders = [layers(tmp_path / f"b{batch}", batch=batch) for batch in (1, 8, 64)]
    monkeypatch.setattr(survival.survival_sources, "RANKED", 2)
    found = survival.of_runs(gather(folders))
    measured = [c for c in found.conditions if c.source == "measured"]
    assert [c.axes.batch for c in measured] == ["batch 1", "batch 8"]
    assert "Of 3 measured conditions the 2 with most items are compared" in survival.words(found)[1]


def test_the_command_answers_in_json_and_writes_tables_and_the_figure(tmp_path, capsys):
    folders = [str(layers(tmp_path / f"b{batch}", batch=batch)) for batch in (1, 64)]
    out = tmp_path / "out"
    group.main(["survive", *folders, "--json", "--out", str(out)], standalone_mode=False)
    data = json.loads(capsys.readouterr().out)
    assert {a["items"] for a in data["agreements"]} == {14}
    assert {"survival.csv", "survival-changes.md", "survival-ranks.tex", "survival.svg"} <= {
        p.name for p in out.iterdir()
    }


@pytest.mark.parametrize("wrong", [["--res", "wide"], ["--res", "-1"], ["--gmacs", "6-3"], ["--gmacs", "4"]])
def test_what_is_no_size_or_range_is_refused_in_a_sentence(wrong):
    with pytest.raises(AttnbenchError, match="must be"):
        group.main(["survive", "--timm", *wrong], standalone_mode=False)


def test_timms_speeds_stand_beside_measured_models_under_our_names_of_them():
    ours = ("swin_tiny", "resnet50", "twins_svt_small", "litv2_s")
    axes = survival.Axes(resolution="224 px")
    own = survival.Condition(
        scope="backbone", source="measured", origin="run", axes=axes, speeds=dict.fromkeys(ours, 0.0)
    )
    found = survival.survival_sources.timm_beside([own])
    assert {tuple(c.speeds) for c in found} == {ours[:3]}
