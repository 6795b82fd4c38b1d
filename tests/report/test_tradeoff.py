"""FLOPs against speed where a mechanism has no MACs, or none that are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made

from attnbench.report import tradeoff, write
from attnbench.report.evidence import gather


def run(folder: Path, *without: str, names: tuple[str, ...] = ("msa", "hilo", "van"), speed: float = 9.0) -> Path:
    """Layers with MACs, and others `without`; of gfnet's there is a lower bound alone."""
    counted = [made.measured(made.cell(name), made.LAYERS[name][2]) for name in names]
    free = [made.measured(made.cell(name), speed, macs=0, params=0) for name in without]
    return made.run(
        folder, [*counted, *(replace(r, flags=("lower_bound",) * (r.cell.variant == "gfnet")) for r in free)]
    )


def test_a_mechanism_without_macs_stands_in_the_ranking(tmp_path: Path) -> None:
    (row,) = tradeoff.flops_table(gather([run(tmp_path / "run", "poolformer", speed=0.1)])).rows
    assert row[4:] == ("poolformer", "hilo")
    assert row[1] == "4"
    assert [cell.value for cell in row[2:4]] == pytest.approx([-0.2, 0])  # it alone stands elsewhere


def test_a_number_of_variants_is_given_to_the_unit(tmp_path: Path) -> None:
    many = [made.measured(made.cell(f"hilo[window_size={i}]"), float(i), macs=i) for i in range(1, 40)]
    (row,) = tradeoff.flops_table(gather([made.run(tmp_path / "run", many)])).rows
    assert row[1] == "39"


def test_a_mechanism_without_macs_may_be_the_fastest_of_the_page(tmp_path: Path) -> None:
    write([run(tmp_path / "run", "poolformer")], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "the fastest of 4 layers at 224x224, batch 64, is poolformer" in page
    assert "poolformer has the fewest MACs" in page


def test_a_count_that_leaves_something_out_is_not_the_fewest(tmp_path: Path) -> None:
    (row,) = tradeoff.flops_table(gather([run(tmp_path / "one", "gfnet")])).rows
    assert row[4:] == ("hilo", "gfnet")
    (row,) = tradeoff.flops_table(gather([run(tmp_path / "two", "gfnet", "poolformer")])).rows
    assert row[4] == "poolformer"


def test_a_logarithmic_axis_has_no_place_for_zero_and_says_so(tmp_path: Path) -> None:
    (chart,) = tradeoff.flops_charts(gather([run(tmp_path / "run", "poolformer")]))
    (axes,) = chart.axes
    assert "4 variants" in axes.get_title()
    assert "Zero has no place on a logarithmic axis: poolformer (0 MACs counted)." in chart.caption
    chart.place()
    assert {text.get_text() for text in axes.texts} == {"MSA", "HiLo", "VAN"}
    drawn = [x for line in axes.lines for x in line.get_xdata()]
    assert drawn
    assert min(drawn) > 0
    (plain,) = tradeoff.flops_charts(gather([run(tmp_path / "plain")]))
    assert "Zero" not in plain.caption


def test_two_mechanisms_with_macs_make_no_chart(tmp_path: Path) -> None:
    found = gather([run(tmp_path / "run", "poolformer", "gfnet", names=("msa", "hilo"))])
    assert tradeoff.flops_charts(found) == []
