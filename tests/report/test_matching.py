"""Which records may stand beside a published number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import synthetic as made

from attnbench.planning.cell import Cell
from attnbench.report import matching
from attnbench.report.evidence import Evidence, Point

HILO = ("layer", ("hilo",))


def point(cell: Cell, run: str = "run", **values: float) -> Point:
    return Point(cell, made.measured(cell, **values), run, "machine")


def partners(*cells: Cell, resolution: tuple[int, int] = (224, 224)) -> list[Cell]:
    points = tuple(point(cell) for cell in cells)
    return [p.cell for p in matching.partners(Evidence((), points, ()), HILO, resolution)]


def test_an_image_of_the_published_size_may_lie_or_stand() -> None:
    lying, standing, other = (made.cell("hilo", res_h=h, res_w=w) for h, w in ((800, 1280), (1280, 800), (800, 800)))
    assert partners(lying, standing, other, resolution=(1280, 800)) == [lying, standing]


@pytest.mark.parametrize("change", [{"dim": 384}, {"heads": 6}, {"stride": 8}])
def test_a_layer_of_another_size_is_no_partner_of_the_layer_benchmark(change: dict[str, Any]) -> None:
    assert partners(made.cell("hilo"), made.cell("hilo", **change)) == [made.cell("hilo")]


def test_the_variants_of_a_partner_come_in_their_order_of_preference() -> None:
    cells = [made.cell("sra"), made.cell("hilo")]
    points = tuple(point(cell) for cell in cells)
    found = matching.partners(Evidence((), points, ()), ("layer", ("hilo", "sra")), (224, 224))
    assert [p.cell.variant for p in found] == ["hilo", "sra"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"precision": "tf32"}, True),
        ({"precision": "bf16"}, False),
        ({"kernel": "sdpa"}, False),
        ({"runtime": "compile"}, False),
        ({"runtime": "openvino"}, False),
    ],
)
def test_the_papers_timed_the_eager_kernel_in_fp32_or_tf32(change: dict[str, Any], same: bool) -> None:
    assert matching.ran_as_published(made.cell("hilo", **change)) is same


def test_the_published_batch_comes_first_then_fp32_then_larger_batches() -> None:
    cells = [
        made.cell("hilo", batch=64),
        made.cell("hilo", batch=64, precision="tf32"),
        made.cell("hilo", batch=128),
        made.cell("hilo", batch=8),
        made.cell("hilo", batch=128, precision="tf32"),
    ]
    shuffled = [point(cells[i]) for i in (3, 1, 4, 0, 2)]
    assert [p.cell for p in matching.nearest_first(shuffled, 64)] == cells


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"batch": 8}, {"precision": "tf32"}, {"threads": 4}, {"allocator": "system"}]
)
def test_what_was_measured_under_other_conditions_is_not_divided(change: dict[str, Any]) -> None:
    subject, baseline = point(made.cell("hilo")), point(made.cell("msa", **change))
    assert matching.comparable([subject], [baseline], 64) == []
    alike = replace(baseline, cell=made.cell("msa"))
    assert matching.comparable([subject], [alike], 64) == [(subject, alike)]


def test_two_of_one_run_are_compared_before_two_of_different_runs() -> None:
    one, other = point(made.cell("hilo"), "b"), point(made.cell("msa"), "a")
    same = point(made.cell("msa"), "b")
    assert matching.comparable([one], [other, same], 64) == [(one, same), (one, other)]


def test_a_quantity_that_stands_in_is_taken_only_where_no_point_has_the_first() -> None:
    plain, task = point(made.cell("hilo"), macs=2.0), point(made.cell("msa"), macs=3.0, macs_mmdet=5.0)
    found = matching.first_value([plain, task], ("macs_mmdet", "macs"))
    assert found is not None
    assert found[1].value == 5.0
    found = matching.first_value([plain], ("macs_mmdet", "macs"))
    assert found is not None
    assert found[1].value == 2.0
    assert matching.first_value([plain], ("macs_mmdet",)) is None


def test_a_speed_over_another_reference_than_msa_stands_beside_no_published_ratio() -> None:
    cell = made.cell("hilo")
    record = made.measured(cell)
    other = replace(record, words={**record.words, "reference": "sra"})
    points = [Point(cell, found, "run", "machine") for found in (other, record)]
    found = matching.first_value(points, ("ratio_to_reference",))
    assert found is not None
    assert found[0].reference == "msa"
    assert matching.first_value(points[:1], ("ratio_to_reference",)) is None
