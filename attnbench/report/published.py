"""The papers' tables: published, measured and their ratio side by side, or the reason why there is no partner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attnbench import published
from attnbench.published.layouts import LAYOUTS, Layout, Metric
from attnbench.published.partners import Partner
from attnbench.report import matching
from attnbench.report.evidence import Estimate, Evidence, Point, conditions
from attnbench.report.tables import Column, Table, Value


@dataclass(frozen=True)
class Pair:
    """One published figure and what stands beside it."""

    file: str
    row: str
    metric: Metric
    printed: str
    measured: Estimate | None
    point: Point | None
    reason: str
    remarks: tuple[str, ...]

    @property
    def value(self) -> float | None:
        """The published number; None where none is printed."""
        try:
            return float(self.printed)
        except ValueError:
            return None

    @property
    def shown(self) -> Estimate | None:
        """What was measured, in the published unit."""
        return self.measured.over(self.metric.scale) if self.measured else None

    @property
    def ratio(self) -> Estimate | None:
        """Measured / published."""
        return self.shown.over(self.value) if self.shown and self.value else None

    @property
    def prints_alike(self) -> bool | None:
        """Whether the measured number, rounded to the published digits, is the published one."""
        if self.shown is None or self.value is None:
            return None
        decimals = len(self.printed.partition(".")[2])
        return f"{self.shown.value:.{decimals}f}" == f"{self.value:.{decimals}f}"


def pairs(evidence: Evidence, layout: Layout, machines: Mapping[str, str]) -> list[list[Pair]]:
    """Per published row its pairs; `machines` says whose numbers to take for `cpu` and for `gpu`."""
    rows = published.read(layout.file)
    return [[_pair(evidence, layout, metric, row, rows, machines) for metric in layout.metrics] for row in rows]


def _pair(
    evidence: Evidence,
    layout: Layout,
    metric: Metric,
    row: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
    machines: Mapping[str, str],
) -> Pair:
    label, printed = layout.label_of(row), metric.printed(row, rows)
    if not metric.quantity:
        return Pair(layout.file, label, metric, printed, None, None, metric.why_not, ())
    partner = metric.partner_of(row)
    if not partner[1]:
        return Pair(layout.file, label, metric, printed, None, None, "this project has no such model", ())
    best, reason = best_point(evidence, metric, partner, metric.resolution_of(row), machines)
    if best is None:
        return Pair(layout.file, label, metric, printed, None, None, reason, ())
    point, estimate = best
    return Pair(layout.file, label, metric, printed, estimate, point, "", tuple(_remarks(metric, point)))


def best_point(
    evidence: Evidence,
    metric: Metric,
    partner: Partner,
    resolution: tuple[int, int],
    machines: Mapping[str, str],
) -> tuple[tuple[Point, Estimate] | None, str]:
    """The point that may stand beside a published figure and its value, or why there is none."""
    points = matching.partners(evidence, partner, resolution)
    if not points:
        return None, "its partner is not in these runs"
    if metric.device:
        machine = machines.get(metric.device)
        on_it = matching.partners(evidence, partner, resolution, machine) if machine else ()
        right = [p for p in on_it if matching.is_on(p, metric.device) and p.cell.pass_ == metric.pass_]
        if metric.device_name:
            right = [p for p in right if metric.device_name.lower() in p.machine.lower()]
        if not right:
            what = metric.device_name or {"cpu": "CPU", "gpu": "GPU"}[metric.device]
            return None, f"no {metric.pass_} pass on a {what} in these runs"
        plain = [p for p in right if matching.ran_as_published(p.cell)]
        if not plain:
            return None, "measured, but not in fp32 with the eager kernel"
        points = matching.nearest_first(plain, metric.batch)
    found = matching.first_value(points, metric.quantities)
    if found:
        return found, ""
    bad = next((p for p in points if not p.ok), None)
    return None, f"{bad.outcome}: {bad.reason}" if bad else "not counted or measured in these runs"


def _remarks(metric: Metric, point: Point) -> Iterator[str]:
    if metric.device:
        if point.cell.batch != metric.batch:
            yield f"measured at batch {point.cell.batch}, published at {metric.batch}"
        if point.cell.precision != "fp32":
            yield f"measured in {point.cell.precision}"
        if point.flags:
            yield f"flagged: {' '.join(point.flags)}"
    if metric.quantity == "macs_mmdet" and point.get("macs_mmdet") is None:
        yield "counted as multiply-accumulates of all operators; the published count follows mmdetection's rule"


def tables(evidence: Evidence) -> list[Table]:
    """Every table of the papers, in their order."""
    return [table(evidence, layout) for layout in LAYOUTS]


def partnered(evidence: Evidence) -> list[Table]:
    """The tables that have a partner in these runs, whole, and those that describe what such a table counts."""
    by_file = {layout.file: table(evidence, layout) for layout in LAYOUTS}
    return [by_file[layout.file] for layout in LAYOUTS if any(by_file[layout.counted_in or layout.file].marks)]


def _lines(evidence: Evidence) -> list[dict[str, str]]:
    """Whose numbers stand in the first, second, ... line of a published row: one CPU and one GPU each."""
    kinds = {kind: evidence.machines_with(kind) for kind in ("cpu", "gpu")}
    count = max(1, *(len(found) for found in kinds.values()))
    return [{k: found[i] for k, found in kinds.items() if i < len(found)} for i in range(count)]


def table(evidence: Evidence, layout: Layout) -> Table:
    """One table of the papers."""
    lines = _lines(evidence)
    by_line = [pairs(evidence, layout, line) for line in lines]
    alone = [_shared_reason(by_line, i) for i in range(len(layout.metrics))]
    letters: dict[str, str] = {}
    rows: list[tuple[Value, ...]] = []
    marks: list[str] = []
    for place, row in enumerate(published.read(layout.file)):
        here = [any(p.point and p.metric.device for p in found[place]) for found in by_line]
        for line, found, has in zip(lines, by_line, here, strict=True):
            some = found[place]
            if not has and (any(here) or line is not lines[0]):
                continue
            values: list[Value] = [layout.label_of(row)]
            if len(lines) > 1:
                values.append("; ".join(line.values()))
            values += _values(some, alone, letters)
            point = next((p.point for p in some if p.point), None)
            rows.append((*values, _note(some, letters)))
            marks.append(point.cell.mechanism if point else "")
    notes = [f"({letter}) {reason}." for reason, letter in letters.items()]
    for metric, reason in zip(layout.metrics, alone, strict=True):
        if reason and metric.quantity:
            notes.append(f"{metric.heading}: no partner in any row: {reason}.")
    return Table(
        name=layout.file.replace("_", "-"),
        title=layout.title,
        caption=_caption(evidence, layout, by_line),
        columns=_columns(layout, alone, len(lines) > 1),
        rows=tuple(rows),
        notes=(*layout.notes, *notes),
        marks=tuple(marks),
    )


def with_partner(table: Table) -> Table:
    """Only the rows of a published table that have a partner in these runs, and the notes that they refer to."""
    kept = [place for place, mark in enumerate(table.marks) if mark]
    rows = tuple(table.rows[place] for place in kept)
    said = " ".join(value for row in rows for value in row if isinstance(value, str))
    notes = tuple(n for n in table.notes if not n.startswith("(") or n.partition(" ")[0] in said)
    return replace(table, rows=rows, marks=tuple(table.marks[place] for place in kept), notes=notes)


def _shared_reason(by_line: Sequence[Sequence[Sequence[Pair]]], place: int) -> str:
    """The one reason why a metric has no partner in any row; empty when some row has one or reasons differ."""
    found = {row[place].reason if row[place].measured is None else "" for rows in by_line for row in rows}
    return next(iter(found)) if len(found) == 1 else ""


def _columns(layout: Layout, alone: Sequence[str], several: bool) -> tuple[Column, ...]:
    columns = [Column("row", layout.row)]
    if several:
        columns.append(Column("machine", "measured on"))
    for metric, reason in zip(layout.metrics, alone, strict=True):
        group = f"{metric.heading} ({metric.unit})" if metric.unit else metric.heading
        if metric.published:
            columns.append(
                Column(f"{metric.key}_published", "published" if not reason else "as published", digits=6, group=group)
            )
        if not reason:
            columns.append(Column(f"{metric.key}_measured", metric.word, digits=metric.digits, group=group))
            if metric.published:
                columns.append(Column(f"{metric.key}_ratio", "ratio", digits=4, group=group))
    return (*columns, Column("notes", "notes"))


def _values(row: Sequence[Pair], alone: Sequence[str], letters: dict[str, str]) -> Iterator[Value]:
    for pair, shared in zip(row, alone, strict=True):
        if pair.metric.published:
            yield pair.printed
        if not shared:
            text = pair.point is not None and pair.metric.quantity == "settings"
            yield _settings(pair.point) if text and pair.point else pair.shown or f"({_letter(pair.reason, letters)})"
            if pair.metric.published:
                yield pair.ratio


def _settings(point: Point) -> str:
    return "; ".join(f"{k}={v}" for k, v in point.cell.settings) or "none"


def _note(row: Sequence[Pair], letters: dict[str, str]) -> str:
    return " ".join(f"({_letter(remark, letters)})" for remark in dict.fromkeys(r for p in row for r in p.remarks))


def _letter(reason: str, letters: dict[str, str]) -> str:
    if reason not in letters:
        count = len(letters)
        letters[reason] = (chr(ord("a") + count // 26 - 1) if count >= 26 else "") + chr(ord("a") + count % 26)
    return letters[reason]


def _caption(evidence: Evidence, layout: Layout, by_line: Sequence[Sequence[Sequence[Pair]]]) -> str:
    used = [p.point for rows in by_line for row in rows for p in row if p.point and p.metric.device]
    seen = dict.fromkeys(f"{p.machine}: {conditions(p.cell)}, {p.cell.kernel} kernel" for p in used)
    count = sum(p.measured is not None for rows in by_line[:1] for row in rows for p in row)
    asked = sum(bool(p.metric.quantity) for rows in by_line[:1] for row in rows for p in row)
    text = f"{layout.caption} Ratio: measured / published. {count} of {asked} figures have a measured partner."
    return f"{text} Measured on {'; '.join(seen)}." if seen else text


def long_table(evidence: Evidence) -> Table:
    """Every published figure in one row of its own, for scripts."""
    rows: list[tuple[Value, ...]] = []
    for line in _lines(evidence):
        for layout in LAYOUTS:
            for row in pairs(evidence, layout, line):
                for p in row:
                    point = p.point
                    rows.append(
                        (
                            p.file,
                            p.row,
                            p.metric.key,
                            p.metric.unit,
                            p.printed,
                            p.shown,
                            p.ratio,
                            {True: "yes", False: "no", None: ""}[p.prints_alike],
                            point.cell.variant if point else "",
                            point.machine if point and p.metric.device else "",
                            point.cell.conditions() if point else "",
                            point.run_id if point else "",
                            " ".join(point.flags) if point else "",
                            p.reason or "; ".join(p.remarks),
                        )
                    )
    keys = [
        "file",
        "row",
        "quantity",
        "unit",
        "published",
        "measured",
        "ratio",
        "prints_alike",
        "variant",
        "machine",
        "conditions",
        "run",
        "flags",
        "note",
    ]
    return Table(
        "published-all", "Every published figure", "One figure a row.", tuple(Column(k, k) for k in keys), tuple(rows)
    )


def agreement(evidence: Evidence) -> str:
    """A sentence on how many published counts are reproduced to their printed digits."""
    first = _lines(evidence)[0]
    counted = [
        p.prints_alike
        for layout in LAYOUTS
        for row in pairs(evidence, layout, first)
        for p in row
        if not p.metric.device and p.prints_alike is not None
    ]
    if not counted:
        return ""
    return (
        f"Of {len(counted)} published parameter and MAC counts with a partner here, {sum(counted)} are met "
        "to the printed digit."
    )
