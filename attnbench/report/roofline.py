"""The roofline: speed in MACs per second over arithmetic intensity, under the ceilings that the run measured.

The roof is min(greatest rate of multiply-accumulates, intensity x rate of a copy). The intensity is an upper bound: it
counts weights, input and output once each (`--measure breakdown`). Only forward passes have one. A rate above the
greatest of multiply-accumulates is an error; one above the copy's is a layer whose data stayed in the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.report.chart import Chart, log_axes
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.grouping import SPEED, comparable, condition, fastest, size, suffix, value, where
from attnbench.report.style import INK
from attnbench.report.tables import Column, Table, Value
from attnbench.report.tradeoff import chosen, panels
from attnbench.results.store import read_ceilings

INTENSITY = "intensity_macs_per_byte"
ABOVE = "above_roofline"


@dataclass(frozen=True)
class Roof:
    """The ceilings of one condition: multiply-accumulates and bytes per second."""

    macs_per_s: float
    bytes_per_s: float

    def at(self, intensity: float) -> float:
        """The greatest possible MACs per second at so many MACs per byte."""
        return min(self.macs_per_s, intensity * self.bytes_per_s)

    @property
    def ridge(self) -> float:
        """The MACs per byte at which the two ceilings meet."""
        return self.macs_per_s / self.bytes_per_s


@dataclass(frozen=True)
class Group:
    """Points of one condition and resolution, and the roof over them."""

    points: Sequence[Point]
    roof: Roof


def grouped(evidence: Evidence) -> list[Group]:
    """The comparable forward points that have MACs, a speed and an intensity, where a run holds their ceilings."""
    found = [ps for ps in comparable(evidence, "macs", SPEED, INTENSITY) if ps[0].cell.pass_ == "forward"]
    folders = {run.id: run.folder for run in evidence.runs}
    wanted = {folders[p.run_id] for ps in found for p in ps}
    ceilings = {folder: read_ceilings(folder) for folder in sorted(wanted)}
    groups = []
    for points in found:
        cell = points[0].cell
        key = (cell.device, cell.precision, cell.threads, cell.allocator)
        mine = [c for run in sorted({p.run_id for p in points}) for c in ceilings[folders[run]] if c.key == key]
        rates = [c.peak_macs_per_s for c in mine if c.peak_macs_per_s]
        copies = [c.bytes_per_s for c in mine if c.bytes_per_s]
        if rates and copies:
            groups.append(Group(points, Roof(max(rates), max(copies))))
    return groups


def charts(evidence: Evidence) -> list[Chart]:
    """Every mechanism under the roof, one panel a resolution; a hollow point is above the rate of the arithmetic."""
    found = [g for g in grouped(evidence) if any(value(p, "macs") for p in g.points)]
    roofs = {_key(g.points): g.roof for g in found}
    return [
        _chart(f"roofline{suffix(place)}", [Group(points, roofs[_key(points)]) for points in sizes])
        for place, sizes in enumerate(chosen([list(g.points) for g in found]), 1)
    ]


def table(evidence: Evidence) -> Table:
    """Each mechanism's intensity, rate and shares of the two ceilings, the fastest first."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for group in grouped(evidence):
        counted = [p for p in group.points if value(p, "macs")]
        for p in sorted(counted, key=lambda p: (-_rate(p).value, p.cell.variant)):
            intensity, rate, roof = value(p, INTENSITY), _rate(p), group.roof
            limit = "memory" if intensity < roof.ridge else "arithmetic"
            shares = (rate.over(roof.macs_per_s), rate.over(intensity * roof.bytes_per_s))
            rows.append((where(p), p.cell.variant, Estimate(intensity), rate, *shares, limit, " ".join(p.flags)))
            marks.append(p.cell.mechanism)
    return Table(
        name="roofline",
        title="The roofline",
        caption="Per condition the rate that each variant reaches, over the greatest measured rate of "
        "multiply-accumulates and over the rate at which a copy would bring its bytes. A share of the arithmetic above "
        "1 is impossible: the ceiling or the time is wrong. A share of the copy above 1 shows data in the caches.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "variant"),
            Column(INTENSITY, "intensity, at most", "MACs/byte"),
            Column("macs_per_s", "rate", "GMACs/s", 1e9),
            Column("share_macs", "share of the arithmetic", digits=3),
            Column("share_copy", "share of the copy", digits=3),
            Column("limit", "lower ceiling"),
            Column("flags", "flags", internal=True),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
    )


def _chart(name: str, sizes: Sequence[Group]) -> Chart:
    chart = panels(name, "The roofline", [g.points for g in sizes])
    above = sorted({p.cell.variant for g in sizes for p in _counted(g) if _is_above(p, g.roof)})
    cached = sorted({p.cell.variant for g in sizes for p in _counted(g) if _is_cached(p, g.roof)})
    free = sorted({p.cell.variant for g in sizes for p in g.points if not value(p, "macs")})
    chart.caption = (
        f"{condition([g.points for g in sizes])}. Lines are the measured ceilings: a copy's rate times the intensity, "
        "and the greatest measured rate of multiply-accumulates. The intensity counts weights, input and output once, "
        "so the true one is lower."
        + (f" Hollow, above the arithmetic, so the ceiling or the time is wrong: {', '.join(above)}." if above else "")
        + (
            f" Faster than a copy brings the bytes, so they stayed in the caches: {', '.join(cached)}."
            if cached
            else ""
        )
        + (f" Zero has no place on a logarithmic axis: {', '.join(free)} (0 MACs counted)." if free else "")
    )
    chart.choose(sizes[-1].points[0].reference, fastest(_counted(sizes[-1])))
    for axes, group in zip(chart.axes, sizes, strict=True):
        points, roof = _counted(group), group.roof
        at = [value(p, INTENSITY) for p in points]
        left, right = min(*at, roof.ridge) / 2, max(*at, roof.ridge) * 2
        xs = [left, roof.ridge, right]
        axes.plot(xs, [roof.at(x) / 1e9 for x in xs], color=INK, linewidth=1.0, zorder=0)
        for p in points:
            y = _rate(p).over(1e9)
            chart.point(axes, value(p, INTENSITY), y, p.cell.mechanism, hollow=_is_above(p, roof))
        axes.set_title(f"{size(points[0])}: {len(points)} variants")
        axes.set_xlabel("arithmetic intensity, at most (MACs per byte)")
        axes.set_ylabel("speed (GMACs/s)" if axes is chart.axes[0] else "")
        log_axes(axes)
    for axes, group in zip(chart.axes, sizes, strict=True):
        chart.labels(
            axes,
            [(p.cell.mechanism, p.cell.variant, value(p, INTENSITY), _rate(p).value / 1e9) for p in _counted(group)],
        )
    return chart


def _key(points: Sequence[Point]) -> tuple[str, str]:
    return points[0].run_id, points[0].cell.id


def _counted(group: Group) -> list[Point]:
    return [p for p in group.points if value(p, "macs")]


def _rate(p: Point) -> Estimate:
    """MACs per second, with the interval of the throughput."""
    speed = p.get(SPEED)
    assert speed is not None
    return speed.over(1 / value(p, "macs"))


def _is_above(p: Point, roof: Roof) -> bool:
    return ABOVE in p.flags or _rate(p).value > roof.macs_per_s


def _is_cached(p: Point, roof: Roof) -> bool:
    return not _is_above(p, roof) and _rate(p).value > value(p, INTENSITY) * roof.bytes_per_s
