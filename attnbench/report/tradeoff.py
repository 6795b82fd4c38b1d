"""FLOPs against measured speed, and the Pareto front of speed and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from attnbench.analysis import statistics
from attnbench.report.chart import Chart, log_axes
from attnbench.report.evidence import Estimate, Evidence, Point, groups
from attnbench.report.grouping import (
    GROUP,
    MEMORY,
    SPEED,
    comparable,
    condition,
    fastest,
    left_out,
    size,
    suffix,
    usual,
    value,
    where,
)
from attnbench.report.mixing import mixing
from attnbench.report.names import display
from attnbench.report.numbers import number
from attnbench.report.style import INK
from attnbench.report.tables import Column, Table, Value


def rank_correlation(points: Sequence[Point]) -> tuple[float, float]:
    """Spearman's rho and Kendall's tau of MACs and time per image; nan where one of the two is the same for all."""
    counts = [value(p, "macs") for p in points]
    times = [1 / value(p, SPEED) for p in points]
    return statistics.spearman_rho(counts, times), statistics.kendall_tau(counts, times)


def at_the_papers_size(evidence: Evidence, machine: str) -> list[Point]:
    """The largest group of layers at 224x224 in a forward pass on a machine that have MACs and a speed."""
    there = tuple(
        p
        for p in evidence.points
        if p.machine == machine
        and (p.cell.scope, p.cell.res_h, p.cell.res_w, p.cell.pass_) == ("layer", 224, 224, "forward")
    )
    found = comparable(replace(evidence, points=there), "macs", SPEED)
    return max(found, key=lambda ps: (len(ps), ps[0].cell.precision == "fp32", ps[0].cell.batch == 64), default=[])


def speed(p: Point) -> float:
    """Images per second."""
    return value(p, SPEED)


def macs(p: Point) -> float:
    """Multiply-accumulates per image."""
    return value(p, "macs")


def fewest(points: Sequence[Point]) -> Point:
    """The point with the fewest MACs; among those with a complete count, where there are any."""
    whole = [p for p in points if "lower_bound" not in p.flags]
    return min(whole or points, key=lambda p: (macs(p), p.cell.variant))


def flops_table(evidence: Evidence) -> Table:
    """How well MACs predict the speed, per condition."""
    rows: list[tuple[Value, ...]] = []
    for points in comparable(evidence, "macs", SPEED):
        rho, tau = rank_correlation(points)
        fast = max(points, key=lambda p: value(p, SPEED))
        rows.append(
            (
                where(points[0]),
                str(len(points)),
                Estimate(rho) if math.isfinite(rho) else None,
                Estimate(tau) if math.isfinite(tau) else None,
                fewest(points).cell.variant,
                fast.cell.variant,
            )
        )
    return Table(
        name="flops-against-speed",
        title="Do FLOPs predict the speed?",
        caption="Rank correlation of MACs with the time of an image, over the mechanisms measured under one "
        "condition: 1 means that fewer MACs always "
        "are faster, 0 that they predict nothing.",
        columns=(
            Column("condition", "condition"),
            Column("mechanisms", "variants"),
            Column("spearman", "Spearman's rho", digits=2),
            Column("kendall", "Kendall's tau", digits=2),
            Column("fewest", "fewest MACs"),
            Column("fastest", "fastest"),
        ),
        rows=tuple(rows),
    )


def _counted(points: Sequence[Point]) -> list[Point]:
    """Those that have MACs."""
    return [p for p in points if macs(p)]


def _many(found: Sequence[list[Point]]) -> list[list[Point]]:
    """What is worth a chart: three variants or more; the tables hold the others too."""
    return [points for points in found if len(points) > 2]


def chosen(found: Sequence[list[Point]]) -> list[list[list[Point]]]:
    """Per condition up to three resolutions: the smallest, a middle one, the largest."""
    by_condition: dict[tuple[object, ...], list[list[Point]]] = {}
    for points in found:
        key = next(iter(groups(points, *GROUP)))
        by_condition.setdefault(key, []).append(points)
    return [
        [sizes[i] for i in sorted({0, len(sizes) // 2, len(sizes) - 1})]
        for sizes in (sorted(s, key=lambda ps: ps[0].cell.res_h * ps[0].cell.res_w) for s in by_condition.values())
    ]


def flops_charts(evidence: Evidence) -> list[Chart]:
    """MACs against throughput, with the rank correlation; a variant without MACs counts in the correlation alone."""
    charts = []
    found = [points for points in comparable(evidence, "macs", SPEED) if len(_counted(points)) > 2]
    for number_, sizes in enumerate(chosen(found), 1):
        chart = panels(f"flops-speed{suffix(number_)}", "FLOPs against measured speed", sizes)
        chart.caption = (
            f"{condition(sizes)}. If FLOPs predicted the speed, the points would fall from the upper "
            "left to the lower right; rho is Spearman's rank correlation of MACs and time."
        )
        free = sorted({p.cell.variant for points in sizes for p in points if not macs(p)})
        if free:
            chart.caption += f" Zero has no place on a logarithmic axis: {', '.join(free)} (0 MACs counted)."
        chart.choose(sizes[-1][0].reference, fastest(usual(_counted(sizes[-1]), SPEED, "macs")[0]))
        chart.caption += _beyond(sizes, "macs")
        for axes, points in zip(chart.axes, sizes, strict=True):
            for p in usual(_counted(points), SPEED, "macs")[0]:
                speed = p.get(SPEED)
                if speed:
                    chart.point(axes, macs(p) / 1e9, speed, p.cell.mechanism)
            rho, _ = rank_correlation(points)
            axes.set_title(f"{size(points[0])}: rho {rho:.2f}, {len(points)} variants")
            axes.set_xlabel("MACs per image (G)")
            axes.set_ylabel("throughput (img/s)" if axes is chart.axes[0] else "")
            log_axes(axes)
        for axes, points in zip(chart.axes, sizes, strict=True):
            chart.labels(
                axes,
                [
                    (p.cell.mechanism, p.cell.variant, macs(p) / 1e9, value(p, SPEED))
                    for p in usual(_counted(points), SPEED, "macs")[0]
                ],
            )
        charts.append(chart)
    return charts


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both speed and memory, the fastest first."""

    def beats(a: Point, b: Point) -> bool:
        better = value(a, SPEED) >= value(b, SPEED) and value(a, MEMORY) <= value(b, MEMORY)
        return better and (value(a, SPEED), value(a, MEMORY)) != (value(b, SPEED), value(b, MEMORY))

    best = [p for p in points if not any(beats(q, p) for q in points)]
    return sorted(best, key=lambda p: (-value(p, SPEED), p.cell.variant))


def _competes(p: Point) -> bool:
    """Whether a point is in the charts of fronts: pooling beats every layer in both and would be the whole front."""
    return p.cell.scope != "layer" or mixing(p.cell.variant)[0] == "attention"


def pareto_charts(evidence: Evidence) -> list[Chart]:
    """Memory against throughput and the front of the two."""
    charts = []
    every = comparable(evidence, SPEED, MEMORY)
    found = [[p for p in points if _competes(p)] for points in every]
    others = {display(p.cell.variant) for points in every for p in points if not _competes(p)}
    for number_, sizes in enumerate(chosen(_many(found)), 1):
        chart = panels(f"pareto{suffix(number_)}", "Speed and memory: the Pareto front", sizes)
        chart.caption = (
            f"{condition(sizes)}. Filled points are on the front: nothing measured here is both "
            "faster and smaller. Upper left is better."
        )
        if others and sizes[0][0].cell.scope == "layer":
            chart.caption += f" Token mixers without attention are left out: {', '.join(sorted(others))}."
        chart.choose(sizes[-1][0].reference, fastest(usual(sizes[-1], SPEED, MEMORY)[0]))
        chart.caption += _beyond(sizes, MEMORY)
        for axes, points in zip(chart.axes, sizes, strict=True):
            best, inside = front(points), usual(points, SPEED, MEMORY)[0]
            stairs = sorted((value(p, MEMORY) / 2**20, value(p, SPEED)) for p in best if p in inside)
            axes.step(
                [x for x, _ in stairs],
                [y for _, y in stairs],
                where="post",
                color=INK,
                linewidth=0.9,
                alpha=0.6,
                zorder=0,
            )
            for p in inside:
                speed = p.get(SPEED)
                if speed:
                    chart.point(axes, value(p, MEMORY) / 2**20, speed, p.cell.mechanism, hollow=p not in best)
            axes.set_title(f"{size(points[0])}: {len(best)} of {len(points)} on the front")
            axes.set_xlabel("peak memory (MiB)")
            axes.set_ylabel("throughput (img/s)" if axes is chart.axes[0] else "")
            log_axes(axes)
        for axes, points in zip(chart.axes, sizes, strict=True):
            chart.labels(
                axes,
                [
                    (p.cell.mechanism, p.cell.variant, value(p, MEMORY) / 2**20, value(p, SPEED))
                    for p in usual(points, SPEED, MEMORY)[0]
                ],
            )
        charts.append(chart)
    return charts


def _beyond(sizes: Sequence[list[Point]], other: str) -> str:
    """What is beyond the axes of speed and another quantity, per panel."""
    found = [(points[0], usual([p for p in points if value(p, other)], SPEED, other)[1]) for points in sizes]
    return left_out(
        [f"{p.cell.variant} at {size(one)} ({number(value(p, SPEED))} img/s)" for one, ps in found for p in ps]
    )


def pareto_table(evidence: Evidence) -> Table:
    """The members of every front."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for points in comparable(evidence, SPEED, MEMORY):
        for p in front(points):
            rows.append((where(p), p.cell.variant, p.get(SPEED), p.get(MEMORY), p.get("ratio_to_reference")))
            marks.append(p.cell.mechanism)
    return Table(
        name="pareto",
        title="The Pareto front of speed and memory",
        caption="Per condition the variants that no other measured one beats in both, the fastest first.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column(SPEED, "throughput", "img/s"),
            Column(MEMORY, "peak memory", "MiB", 2**20),
            Column("ratio", "speed ratio", "x", digits=3),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
    )


def panels(name: str, title: str, sizes: Sequence[Sequence[Point]]) -> Chart:
    """A chart with one panel a size."""
    return Chart(name, title, size=(1.2 + 4.6 * len(sizes), 4.8), panels=(1, len(sizes)))
