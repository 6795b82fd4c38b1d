"""Figures that are read alone: every point has a name, few have a colour, and far values do not stretch an axis."""

from __future__ import annotations

from pathlib import Path

import synthetic as made

from attnbench.report import tradeoff
from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate, gather
from attnbench.report.grouping import fastest, usual, usual_range
from attnbench.report.style import CHOSEN, GREY, INK, marker


def test_every_point_of_a_crowd_has_its_name() -> None:
    chart = Chart("crowd", "Crowd", size=(5, 4))
    (axes,) = chart.axes
    items = [(f"mechanism_{i}", f"mechanism_{i}", 1 + 0.002 * i, 1 + 0.003 * (i % 7)) for i in range(40)]
    axes.set_xlim(0, 3)
    axes.set_ylim(0, 3)
    chart.labels(axes, items)
    chart.place()
    assert {note.get_text() for note in axes.texts} == {name for name, *_ in items}


def test_the_reference_and_at_most_five_chosen_have_a_colour() -> None:
    chart = Chart("few", "Few", size=(3, 3))
    names = [f"m{i}" for i in range(9)]
    chart.choose("msa", ["msa", *names])
    assert chart.color("msa") == INK
    colors = [chart.color(name) for name in names]
    assert colors.count(GREY) == 9 - CHOSEN
    assert len(set(colors[:CHOSEN]) - {GREY, INK}) == CHOSEN == 5


def test_a_kind_is_a_shape() -> None:
    shapes = {
        name: marker(name) for name in ("msa", "cswin", "window", "van", "resnet50", "poolformer", "gfnet", "ss2d")
    }
    assert len(set(shapes.values())) == len(shapes)
    assert marker("hilo[alpha=0.5]") == marker("a plugin of unknown kind") == shapes["msa"]


def test_a_value_that_is_far_from_all_others_is_beyond_the_usual_range() -> None:
    low, high = usual_range([1.0, 1.1, 1.2, 0.9, 1.3, 60.0])
    assert low < 0.9
    assert 1.3 < high < 60
    assert usual_range([1.0, 4.0])[1] > 4.0, "two values are no crowd"


def test_an_outlier_is_named_in_the_caption_and_not_drawn(tmp_path: Path) -> None:
    speeds = {"msa": 1.0, "hilo": 1.5, "sra": 1.2, "window": 1.1, "xca": 0.9, "dat": 80.0}
    records = [
        made.measured(made.cell(n), s, peak_memory_bytes=2e8 + 1e6 * i) for i, (n, s) in enumerate(speeds.items())
    ]
    evidence = gather([made.run(tmp_path / "run", records)])
    (chart,) = tradeoff.pareto_charts(evidence)
    (axes,) = chart.axes
    chart.place()
    assert {note.get_text() for note in axes.texts} == {"MSA", "HiLo", "SRA", "W-MSA", "XCA"}
    assert "Beyond the axes, so that they do not stretch them: dat at 224x224" in chart.caption
    inside, beyond = usual(evidence.points, "throughput_img_per_s")
    assert [p.cell.variant for p in beyond] == ["dat"]
    assert fastest(inside)[:2] == ["hilo", "sra"]


def test_a_token_mixer_without_attention_is_not_in_the_front_of_attention(tmp_path: Path) -> None:
    records = [made.measured(made.cell(n), s) for n, s in (("msa", 1), ("hilo", 2), ("sra", 1.2), ("poolformer", 3))]
    (chart,) = tradeoff.pareto_charts(gather([made.run(tmp_path / "run", records)]))
    chart.place()
    assert {note.get_text() for note in chart.axes[0].texts} == {"MSA", "HiLo", "SRA"}


def test_a_chosen_line_stands_above_the_grey_ones() -> None:
    chart = Chart("lines", "Lines", size=(3, 3))
    (axes,) = chart.axes
    chart.choose("msa", ["hilo"])
    for name in ("hilo", "sra"):
        chart.line(axes, [1, 2], [1, 2], name)
        chart.point(axes, 1, Estimate(1, 0.9, 1.1), name)
    chosen, grey = (line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None")
    assert chosen.get_zorder() > grey.get_zorder()
    assert chosen.get_color() != grey.get_color() == GREY
