"""Kernels and precisions against eager fp32 of the same variant."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate, Evidence, Point, groups
from attnbench.report.grouping import MEMORY, SPEED, plain_where, suffix
from attnbench.report.measured import kernel
from attnbench.report.style import INK
from attnbench.report.tables import Column, Table, Value


def kernels(evidence: Evidence, drawn_from: Evidence) -> tuple[Table, list[Chart]]:
    """Every kernel, compilation and precision against eager fp32 of the same variant; figures of `drawn_from` alone."""
    found = []
    keys = (
        "machine",
        "device",
        "pass_",
        "batch",
        "dim",
        "heads",
        "stride",
        "threads",
        "allocator",
        "scope",
        "res_h",
        "res_w",
        "variant",
    )
    for points in groups([p for p in evidence.points if p.get(SPEED)], *keys).values():
        base = next((p for p in points if p.cell.as_published and p.cell.precision == "fp32"), None)
        others = [p for p in points if base and not (p.cell.as_published and p.cell.precision == "fp32")]
        found += [(p, _over(p, base)) for p in others if base]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            plain_where(p),
            p.cell.variant,
            p.cell.precision,
            kernel(p),
            ratio,
            p.get(SPEED),
            p.get(MEMORY),
            " ".join(p.flags),
        )
        for p, ratio in found
    )
    table = Table(
        name="kernels",
        title="Kernels and precisions",
        caption="Speed over the same variant with the eager kernel in fp32, under the same conditions. The "
        "interval comes from the two medians' intervals.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column("precision", "precision"),
            Column("kernel", "kernel"),
            Column("ratio", "over eager fp32", "x", digits=3),
            Column(SPEED, "throughput", "img/s"),
            Column(MEMORY, "peak memory", "MiB", 2**20),
            Column("flags", "flags", internal=True),
        ),
        rows=rows,
        marks=tuple(p.cell.mechanism for p, _ in found),
    )
    drawn = {id(p) for p in drawn_from.points}
    return table, _kernel_charts([(p, ratio) for p, ratio in found if id(p) in drawn])


def _over(p: Point, base: Point) -> Estimate:
    a, b = p.get(SPEED), base.get(SPEED)
    assert a is not None
    assert b is not None
    ratio = a.value / b.value
    if a.low is None or a.high is None or b.low is None or b.high is None or min(a.low, b.low) <= 0:
        return Estimate(ratio)
    reach = math.exp(math.hypot(math.log(a.high / a.low), math.log(b.high / b.low)) / 2)
    return Estimate(ratio, ratio / reach, ratio * reach)


def _kernel_charts(found: Sequence[tuple[Point, Estimate]]) -> list[Chart]:
    charts = []
    by_place: dict[str, list[tuple[Point, Estimate]]] = {}
    for p, ratio in found:
        by_place.setdefault(plain_where(p), []).append((p, ratio))
    for number_, (where, some) in enumerate(by_place.items(), 1):
        variants = sorted({p.cell.variant for p, _ in some})
        ways = sorted({(p.cell.precision, kernel(p)) for p, _ in some})
        columns = min(3, len(ways))
        chart = Chart(
            f"kernels{suffix(number_)}",
            "Kernels and precisions against eager fp32",
            panels=(-(-len(ways) // columns), columns),
            share_y=True,
            size=(2.4 + 3.1 * columns, 1.3 + (0.8 + 0.24 * len(variants)) * -(-len(ways) // columns)),
        )
        chart.caption = (
            f"{where}. Speed over the same variant in fp32 with the eager kernel; right of the line is faster."
        )
        for axes, (precision, name) in zip(chart.axes, ways, strict=False):
            for p, ratio in some:
                if (p.cell.precision, kernel(p)) == (precision, name):
                    chart.barh(axes, variants.index(p.cell.variant), ratio, p.cell.mechanism)
            axes.axvline(1, color=INK, linewidth=0.8)
            axes.set_yticks(range(len(variants)), variants)
            axes.set_ylim(len(variants) - 0.4, -0.6)
            axes.set_xlim(left=0)
            axes.grid(visible=False, axis="y")
            axes.set_title(f"{precision}, {name}")
            axes.set_xlabel("speed over eager fp32")
        for axes in chart.axes[len(ways) :]:
            axes.set_visible(False)
        charts.append(chart)
    return charts
