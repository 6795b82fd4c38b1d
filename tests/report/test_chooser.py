"""What the page holds of the cells, and how much of it there may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic as made
from driven import log, ranking, text, until, view, visit

from attnbench import inert
from attnbench.registry.declaration import KERNELS
from attnbench.report.chooser import AXES, Chooser, chooser
from attnbench.report.evidence import Evidence, Point, gather
from attnbench.report.mixing import mixing
from attnbench.report.page import Tab, render, script_json
from attnbench.report.top1 import published_top1

TABS = [Tab(key, key) for key in ("resolution", "cells", "machines", "reading")]


def of(points: list[Point]) -> Chooser:
    return chooser(Evidence((), tuple(points), ()), {})


def test_a_block_holds_the_cells_of_one_condition(tmp_path: Path) -> None:
    found = chooser(gather([made.layers(tmp_path / "run", sizes=(224, 1024), names=("msa", "hilo"))]), {})
    assert [found.index["axes"]["res"][c[list(AXES).index("res")]] for c in found.index["conditions"]] == [
        "224x224", "1024x1024",
    ]  # fmt: skip
    small, large = found.blocks
    assert (small["count"], small["reference"], small["outcome"]) == (2, "msa", 0)
    assert [found.index["words"]["variant"][v] for v in large["variant"]] == ["hilo", "msa"]
    assert [found.index["words"]["outcome"][o] for o in large["outcome"]] == ["ok", "oom"]
    assert large["speed"][1] is None


def test_the_page_opens_with_the_layers_of_the_fullest_condition() -> None:
    records = [made.measured(made.model(f"litv2_{s}")) for s in "smb"]
    records += [made.measured(made.cell(n, res_h=side)) for side, names in ((224, "a"), (448, "abc")) for n in names]
    found = of([Point(r.cell, r, "run", "A CPU") for r in records])
    assert found.index["axes"]["res"][found.index["conditions"][found.first][3]] == "448x224"


def test_a_number_that_json_cannot_hold_is_left_out() -> None:
    record = made.measured(made.cell(), ratio_high=float("inf"))
    found = of([Point(record.cell, record, "run", "A CPU")])
    assert found.blocks[0]["ratio_high"] is None
    json.loads(script_json(found.blocks[0]))


@pytest.mark.parametrize("text_", ["</script><b>", "<!--", "\u2028", "&lt;"])
def test_no_text_ends_the_script_element_that_holds_it(text_: str) -> None:
    written = script_json([text_])
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == [inert.plain(text_)]


@pytest.mark.parametrize(
    ("variant", "kind", "reach"),
    [
        ("msa", "attention", "global"), ("hilo[alpha=0.5]", "attention", "global"), ("window", "attention", "local"),
        ("poolformer", "pooling", "local"), ("resnet50", "convolution", ""),
        ("retinanet[backbone=resnet50]", "convolution", ""),
        ("retinanet[backbone=litv2_s[window_size=4]]", "attention", ""),
        ("unknown", "attention", ""), ("<img", "attention", ""),
    ],
)  # fmt: skip
def test_a_variant_has_the_kind_of_what_mixes_its_tokens(variant: str, kind: str, reach: str) -> None:
    assert mixing(variant) == (kind, reach)


def test_accuracy_is_the_published_one_of_the_model_at_its_size() -> None:
    for name, side, percent in (("litv2_s", 224, 82.0), ("litv2_b", 384, 84.7)):
        found = published_top1(made.model(name, res_h=side, res_w=side))
        assert found is not None
        assert found.percent == percent
    assert published_top1(made.model("litv2_s", res_h=512, res_w=512)) is None
    assert published_top1(made.cell("msa")) is None


def many(count: int) -> Iterator[Point]:
    """Cells of 40 variants under ever more conditions, with numbers of as many digits as real ones."""
    base = [made.measured(made.cell(f"variant_{i}"), 0.5 + 0.0371 * i) for i in range(39)]
    base.append(made.measured(made.cell("msa")))
    sizes = [(side, batch) for side in range(64, 64 + 32 * 25, 32) for batch in (1, 2, 4, 8, 16)]
    precisions = ("fp32", "tf32", "bf16", "fp16", "fp8")
    places = [(s, p, k) for s in sizes for p in precisions for k in (*KERNELS, "other")]
    for number in range(count):
        (side, batch), precision, kernel = places[number // len(base)]
        record = base[number % len(base)]
        cell: Any = replace(
            record.cell, res_h=side, res_w=side, batch=batch, precision=precision, kernel=kernel, dim=768
        )
        values = {key: value * (1 + number / 1e6) for key, value in record.values.items()}
        yield Point(cell, replace(record, cell=cell, values=values), "run", "Invented CPU")


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 40 layers in eager PyTorch, two of which ran in OpenVINO too: msa 1.7 times as fast as in PyTorch."""
    records = [made.measured(made.cell(f"variant_{i}"), 0.5 + 0.01 * i) for i in range(38)]
    records += [made.measured(made.cell(name), speed) for name, speed in (("msa", 1.0), ("hilo", 1.3))]
    records += [made.measured(made.cell(n, runtime="openvino"), speed) for n, speed in (("msa", 1.7), ("hilo", 2.6))]
    page = tmp_path_factory.mktemp("ways") / "index.html"
    found = of([Point(r.cell, r, "run", "Invented CPU") for r in records])
    page.write_text(render(chooser=found, tabs=TABS, problems=[], runs=[]), encoding="utf-8")
    return page


def test_a_ratio_names_the_arm_that_it_is_over_when_the_reference_ran_in_several_runtimes(
    ways: Path, browser: Any
) -> None:
    view(browser, 1280)
    visit(browser, ways, "#pick=msa")
    assert text(browser, "ranked-title") == "Speed over msa (eager PyTorch)"
    labels = "return [...document.querySelectorAll('#ranked-chart .layer_6_marks text')].map(t => t.textContent)"
    assert browser.execute_script(labels)[:2] == ["hilo", "msa (openvino)"]
    answer = text(browser, "answer").partition("only): ")[2]
    assert re.match(r"1 hilo 2[\d.]+ ×, 2 msa 1[\d.]+ ×, 3 \w+ [\d.]+ × msa \(eager PyTorch\)", answer)
    assert re.match(r"msa \(openvino\): .* ms, 1\.[67].* × msa \(eager PyTorch\),", text(browser, "said"))
    visit(browser, ways, "#runtime=eager&pick=msa")
    assert "msa (reference)" in browser.execute_script(labels)
    assert text(browser, "said").startswith("msa (eager PyTorch, the reference): ")


def test_the_ranking_says_how_many_rows_are_below_what_is_seen(ways: Path, browser: Any) -> None:
    view(browser, 1280, 700)
    visit(browser, ways)
    seen = browser.execute_script(
        "const end = document.getElementById('ranked-chart').getBoundingClientRect().bottom + 1;"
        "return [...document.querySelectorAll('#ranked-chart .layer_0_marks path')]"
        ".filter(p => p.getBoundingClientRect().bottom <= end).length"
    )
    assert 0 < seen < len(ranking(browser)) == 40
    assert text(browser, "ranked-more") == f"{40 - seen} more below ↓"
    press = "document.getElementById('ranked-more').click(); return document.getElementById('ranked-more').hidden"
    until(browser, press)
    assert browser.execute_script("return document.getElementById('ranked-chart').scrollTop") > 0
    assert log(browser) == []


def test_a_chosen_name_without_a_row_says_why(ways: Path, browser: Any) -> None:
    view(browser, 1280)
    visit(browser, ways, "#pick=focal&pick=hilo&memory=1")
    said = text(browser, "said")
    assert said == "focal: not measured here · hilo: not among the cells that are chosen."
    chips = "return [...document.querySelectorAll('.chip')].map(c => c.className)"
    assert browser.execute_script(chips) == ["chip absent", "chip absent"]
    visit(browser, ways, "#pick=focal&pick=hilo")
    assert text(browser, "said").startswith("hilo (openvino): ")
    assert " · focal: not measured here." in text(browser, "said")
    assert browser.execute_script(chips) == ["chip absent", "chip"]


def test_in_a_narrow_window_no_name_of_the_front_is_far_from_its_point(ways: Path, browser: Any) -> None:
    view(browser, 390, 844)
    visit(browser, ways, "#pick=hilo&pick=variant_20&pick=variant_30&pick=variant_33&pick=variant_36")
    away = browser.execute_script(
        "return [...document.querySelectorAll('#front-chart .labels text')].map(t => t.__data__)"
        ".filter(t => t.text && t.opacity).map(t => Math.hypot(t.x - t.datum.x, t.y - t.datum.y))"
    )
    assert len(away) >= 2
    assert max(away) < 20


@pytest.mark.slow
def test_a_hundred_thousand_cells_fit_into_the_page_and_the_opening_block_stands_before_the_script(
    tmp_path: Path, browser: Any
) -> None:
    found = of(list(many(100_000)))
    assert sum(block["count"] for block in found.blocks) == 100_000
    page = tmp_path / "index.html"
    page.write_text(render(chooser=found, tabs=TABS, problems=[], runs=[]), encoding="utf-8")
    size = page.stat().st_size
    assert size <= 15_000_000
    html = page.read_text()
    assert html.index(f'id="block-{found.first}"') < html.index("<script>{") < html.index('id="block-1"')
    view(browser, 1280)
    visit(browser, page)
    assert "Fastest at 64×64, batch 1" in text(browser, "answer")
    answered = int(browser.execute_script("return document.documentElement.dataset.ready"))
    print(f"{size} bytes, charts drawn after {answered} ms")  # noqa: T201  # for the reader of `pytest -s`
    visit(browser, page, "#res=640x640&batch=16&precision=bf16")
    assert "640×640, batch 16, bf16" in text(browser, "answer")
    assert log(browser) == []
