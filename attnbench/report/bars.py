"""The speed over the reference as bars, the fastest above: one panel a resolution."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.grouping import comparable, condition, fastest, left_out, size, suffix, usual_range, value
from attnbench.report.names import display
from attnbench.report.numbers import number
from attnbench.report.style import INK
from attnbench.report.tradeoff import chosen

RATIO = "ratio_to_reference"


def charts(evidence: Evidence) -> list[Chart]:
    """One chart a condition, with up to three resolutions."""
    return [_chart(number_, sizes) for number_, sizes in enumerate(chosen(comparable(evidence, RATIO)), 1)]


def _chart(number_: int, sizes: Sequence[Sequence[Point]]) -> Chart:
    reference = sizes[-1][0].reference
    most = max(len(points) for points in sizes)
    chart = Chart(
        f"bars{suffix(number_)}",
        f"Speed over {display(reference)}",
        size=(1.2 + 4.2 * len(sizes), 1.2 + 0.2 * most),
        panels=(1, len(sizes)),
    )
    chart.choose(reference, fastest(sizes[-1]))
    cut: list[str] = []
    for axes, points in zip(chart.axes, sizes, strict=True):
        ordered = sorted(points, key=lambda p: (-value(p, RATIO), p.cell.variant))
        end = min(1.15 * max(value(p, RATIO) for p in ordered), usual_range([value(p, RATIO) for p in ordered])[1])
        for place, p in enumerate(ordered):
            ratio = p.get(RATIO)
            assert ratio is not None
            beyond = ratio.value > end
            chart.barh(axes, place, Estimate(end) if beyond else ratio, p.cell.mechanism)
            if beyond:
                cut.append(f"{display(p.cell.variant)} at {size(p)} ({number(ratio.value, 3)})")
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(ordered)), [display(p.cell.variant) for p in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, end)
        axes.grid(visible=False, axis="y")
        axes.set_title(f"{size(points[0])} px")
        axes.set_xlabel(f"speed / speed of {display(reference)}")
    chart.caption = (
        f"Speed over {display(reference)}, {condition(sizes)}; right of the line is faster. Lines at the bars' ends "
        f"are intervals.{left_out(cut)}"
    )
    return chart
