"""Published parameters and MACs that our counts do not meet: published, measured, why they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.published.differences import absent, by_cell
from attnbench.published.layouts import LAYOUTS, Layout
from attnbench.report.evidence import Estimate, Evidence
from attnbench.report.published import Pair, pairs
from attnbench.report.tables import Column, Table
from attnbench.results.record import QUANTITIES

MACS = ("macs", "macs_fvcore", "macs_mmdet")
COUNTS = ("params", *MACS)
EQUAL, KNOWN, INFERRED, UNKNOWN, ALONE = STATES = ("equal", "known", "inferred", "unknown", "alone")


@dataclass(frozen=True)
class Counted:
    """One published params or MACs cell, and what is known of the count beside it."""

    layout: Layout
    pair: Pair

    @property
    def key(self) -> tuple[str, str, str]:
        """File, row and column: what names the cell in `differences.toml`."""
        return self.pair.file, self.pair.row, self.pair.metric.key

    @property
    def exact(self) -> int | None:
        """Our count to the unit."""
        return round(self.pair.measured.value) if self.pair.measured else None

    @property
    def ours(self) -> str:
        """Our count at the published digits."""
        decimals = len(self.pair.printed.partition(".")[2])
        return f"{self.pair.shown.value:.{decimals}f}" if self.pair.shown else ""

    @property
    def difference_pct(self) -> Estimate | None:
        """How far ours lies from the published figure, in per cent of it."""
        return Estimate(100 * (self.pair.ratio.value - 1)) if self.pair.ratio else None

    @property
    def other_counts(self) -> tuple[str, ...]:
        """The other counts of the same record that print as published."""
        pair = self.pair
        if pair.point is None or pair.metric.quantity not in MACS:
            return ()
        found = {q: e for q in MACS if q != self.quantity and (e := pair.point.get(q))}
        decimals = len(pair.printed.partition(".")[2])
        return tuple(q for q, e in found.items() if f"{e.value / pair.metric.scale:.{decimals}f}" == pair.printed)

    @property
    def quantity(self) -> str:
        """The quantity that stands beside the published figure."""
        point = self.pair.point
        return next((q for q in self.pair.metric.quantities if point and point.get(q)), "")

    @property
    def state(self) -> str:
        """Equal at the printed digits, differing for a known, inferred or unknown reason, or alone."""
        if self.pair.prints_alike is None:
            return ALONE
        if self.pair.prints_alike:
            return EQUAL
        reason = by_cell().get(self.key)
        if reason:
            return reason.cause
        return KNOWN if self.other_counts else UNKNOWN

    @property
    def why(self) -> str:
        """Why it differs, or has no partner."""
        if self.exact is None:
            return absent().get(self.key[:2], self.pair.reason)
        reason = by_cell().get(self.key)
        if reason:
            return reason.text(self.exact)
        return f"{alike(self.other_counts)} as published" if self.other_counts else UNKNOWN


def alike(quantities: Sequence[str]) -> str:
    """Which counts: `fvcore's count prints`."""
    return f"{' and '.join(QUANTITIES[q].heading for q in quantities)} print{'s' if len(quantities) == 1 else ''}"


def counted(evidence: Evidence) -> list[Counted]:
    """Every published params and MACs cell of every table, in their order."""
    return [
        Counted(layout, pair)
        for layout in LAYOUTS
        for row in pairs(evidence, layout, {})
        for pair in row
        if pair.metric.quantity in COUNTS and pair.printed
    ]


def tables(evidence: Evidence) -> list[Table]:
    """How many cells agree, and every one that does not."""
    cells = counted(evidence)
    return [_summary(cells), _differences(cells)]


def _differences(cells: Sequence[Counted]) -> Table:
    apart = [c for c in cells if c.state in (KNOWN, INFERRED, UNKNOWN)]
    return Table(
        name="differences",
        title="Published, measured, why they differ",
        caption="Every published figure of parameters or MACs that has a counted partner in these runs and does not "
        "print alike. Ours: counted, at the published digits and to the unit; the difference is a share of the "
        "published figure. Inferred: a sum fits, and little else speaks for the reason. Unknown: neither the papers "
        "nor their code tell it.",
        columns=(
            Column("table", "table"),
            Column("row", "row"),
            Column("quantity", "quantity"),
            Column("published", "published"),
            Column("ours", "ours"),
            Column("exact", "to the unit"),
            Column("difference_pct", "difference", "%", digits=3),
            Column("prints_alike", "prints as published"),
            Column("why", "why"),
        ),
        rows=tuple(
            (
                short(c.layout),
                c.pair.row,
                f"{c.pair.metric.heading} ({c.pair.metric.unit})",
                c.pair.printed,
                c.ours,
                str(c.exact),
                c.difference_pct,
                ", ".join(c.other_counts),
                c.why,
            )
            for c in apart
        ),
        notes=(
            "Prints as published: another count of the same record, by its name in the exported columns: "
            + "; ".join(f"{q}: {QUANTITIES[q].heading}" for q in MACS)
            + ".",
        ),
        marks=tuple(c.pair.point.cell.mechanism if c.pair.point else "" for c in apart),
    )


def _summary(cells: Sequence[Counted]) -> Table:
    by_table = [(short(layout), layout.file, [c for c in cells if c.layout is layout]) for layout in LAYOUTS]
    rows = [(name, file, found) for name, file, found in by_table if found]
    return Table(
        name="differences-summary",
        title="How many published counts are met",
        caption="Cells of parameters and MACs that the papers print, and what our counts say of them. "
        f"{tally(cells)} Accuracy, speed and memory are not counted here.",
        columns=(
            Column("table", "table"),
            Column("file", "file"),
            Column("cells", "cells"),
            Column("equal", "equal at the printed digits"),
            Column("known", "differ, reason known"),
            Column("inferred", "differ, reason inferred"),
            Column("unknown", "differ, reason unknown"),
            Column("alone", "no partner"),
            Column("why", "why there is no partner"),
        ),
        rows=(
            *((name, file, *_numbers(found), _lacking(found)) for name, file, found in rows),
            ("all", "", *_numbers(cells), ""),
        ),
    )


def _numbers(cells: Sequence[Counted]) -> tuple[str, ...]:
    states = Counter(c.state for c in cells)
    return tuple(str(n) for n in (len(cells), *(states[s] for s in STATES)))


def _lacking(cells: Sequence[Counted]) -> str:
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.state == ALONE:
            reasons.setdefault(cell.why, []).append(cell.pair.row)
    return "; ".join(f"{why}: {', '.join(dict.fromkeys(rows))}" for why, rows in reasons.items())


def tally(cells: Sequence[Counted]) -> str:
    """The whole in one sentence."""
    states = Counter(c.state for c in cells)
    return (
        f"Of {len(cells)} cells {states[EQUAL]} are equal at the printed digits, {states[KNOWN]} differ for a known "
        f"reason, {states[INFERRED]} for an inferred and {states[UNKNOWN]} for an unknown one, {states[ALONE]} have no "
        "partner."
    )


def short(layout: Layout) -> str:
    """`Table 1` of `Table 1: ImageNet-1K classifiers`."""
    return layout.title.partition(":")[0]
