"""Evidence -> charts of what was measured: over resolution, FLOPs against speed, the Pareto front, kernels."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.report.chart import Chart, tall, tick
from attnbench.report.evidence import Evidence, Point, conditions, groups
from attnbench.report.grouping import fastest, left_out, usual_range

GROUP = ("machine", "device", "precision", "pass_", "batch", "dim", "heads", "stride", "threads", "allocator", "scope")


def over_resolution(evidence: Evidence) -> list[Chart]:
    """Figure 3: MACs, throughput and memory over resolution, a cross for a cell without numbers."""
    charts = []
    eager = [p for p in evidence.points if p.cell.as_published and p.cell.scope == "layer"]
    found = list(groups(eager, *GROUP).values())
    several = [ps for ps in found if len({_pixels(p) for p in ps}) > 1]
    for number_, points in enumerate(several or found[:1], 1):
        chart = Chart(
            f"fig3-resolution{'' if number_ == 1 else f'-{number_}'}",
            "Figure 3: cost, speed and memory over resolution",
            size=(11.5, tall(len({p.cell.variant for p in points}), 4.4)),
            panels=(1, 3),
            room=0.13,
        )
        chart.caption = (
            f"Layers on {points[0].machine}: {conditions(points[0].cell)}, eager kernel. Bars are the interval "
            "of the median; "
            "a cross is a cell that ran out of memory, declined or failed. Logarithmic axes."
            + ("" if several else " These runs hold one resolution only.")
        )
        _panels(chart, points)
        charts.append(chart)
    return charts


# What has a colour in Figure 3, of the mechanisms that the paper compares.
IN_THE_PAPER = ("hilo", "sra", "window", "cswin", "xca")

PANELS = (
    ("macs", "MACs per image (G)", 1e9),
    ("throughput_img_per_s", "throughput (img/s)", 1.0),
    ("peak_memory_bytes", "peak memory (MiB)", 2**20),
)


def _panels(chart: Chart, points: Sequence[Point]) -> None:
    by_variant = {v[0]: sorted(ps, key=_pixels) for v, ps in groups(points, "variant").items()}
    reference = next((p.reference for p in points if p.reference), "msa")
    chart.choose(
        reference, [v for v in IN_THE_PAPER if v in by_variant] or fastest([p[-1] for p in by_variant.values()])
    )
    left: list[str] = []
    for axes, (quantity, label, scale) in zip(chart.axes, PANELS, strict=True):
        ends = []
        bad: list[str] = sorted(
            v for v, line in by_variant.items() if any(not p.ok and p.get(quantity) is None for p in line)
        )
        numbers = [e.value / scale for p in points if (e := p.get(quantity)) and e.value > 0]
        low, high = usual_range(numbers)
        for variant, line in sorted(by_variant.items()):
            found = [(p, p.get(quantity)) for p in line]
            measured = [(p, e.over(scale)) for p, e in found if e is not None and e.value > 0]
            name = line[0].cell.mechanism
            if not all(low <= e.value <= high for _, e in measured):
                left.append(f"{variant} ({label})")
                continue
            if len(measured) > 1:
                chart.line(axes, [_pixels(p) for p, _ in measured], [e.value for _, e in measured], name)
            for p, e in measured:
                chart.point(axes, _pixels(p), e, name)
            for p, none in found:
                if none is None and not p.ok:
                    chart.cross(axes, _pixels(p), name, row=bad.index(variant))
            if measured:
                ends.append((name, _pixels(measured[-1][0]), measured[-1][1].value))
        axes.set_title(label)
        axes.set_xlabel("resolution (pixels, side of a square of equal area)")
        if not ends:
            chart.empty(axes, "no cell of this group has this number")
            continue
        _log(axes, sorted({_pixels(p) for p in points}))
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top * (top / bottom) ** min(0.5, 0.055 * len(bad)))
        chart.end_labels(axes, ends)
    chart.caption += left_out(left)


def _log(axes: object, xs: Sequence[float]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    from attnbench.report.log_scale import LogScale

    assert isinstance(axes, Axes)
    axes.set_xscale(LogScale(axes.xaxis))
    axes.set_yscale(LogScale(axes.yaxis))
    axes.xaxis.set_major_locator(FixedLocator(list(xs)))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = min(xs), max(xs)
    axes.set_xlim(low / 1.15, high * 1.15)


def _pixels(point: Point) -> float:
    return float(point.cell.res_h * point.cell.res_w) ** 0.5
