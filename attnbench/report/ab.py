"""Two states of a repository against each other, as Markdown for a pull request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.analysis.compare import Comparison, Row
from attnbench.inert import markdown


@dataclass(frozen=True)
class OutputComparison:
    """How far the outputs of two versions are apart, in one precision.

    Attributes:
        variant: of head; `precision` and `kernel` of the calls.
        difference: greatest |difference| over greatest |output of base|; None where the outputs cannot be compared.
        tolerance: what rounding in this precision explains.
        why: the outputs cannot be compared, in words.
    """

    variant: str
    precision: str
    kernel: str
    difference: float | None
    tolerance: float
    why: str = ""

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.difference is not None and self.difference <= self.tolerance

    def text(self) -> str:
        """In one sentence."""
        where = f"{self.variant} {self.precision} {self.kernel}"
        if self.difference is None:
            return f"{where}: outputs not compared: {self.why}"
        relation = "within" if self.agrees else "beyond"
        return (
            f"{where}: outputs differ by {self.difference:.1e} of the largest, {relation} the tolerance "
            f"{self.tolerance:g} of {self.precision}"
        )


def as_markdown(
    found: Comparison, agreements: Iterable[OutputComparison], titles: tuple[str, str], machine: str
) -> str:
    """A table with a row for each comparison, what the outputs said, and what was compared.

    Args:
        found: head against base.
        agreements: of their outputs.
        titles: of base and of head.
        machine: its short name.
    """
    lines = [
        f"### attnbench: {markdown(titles[1])} against {markdown(titles[0])}",
        "",
        f"| variant | conditions | speed ratio | {found.level:.0%} interval | verdict |",
        "|---|---|---:|---:|---|",
        *(_row(row) for row in found.rows),
        "",
        *(f"- {markdown(each.text(), block=True)}" for each in agreements),
        "",
        f"A ratio above 1: head is faster. Equivalent: within {found.margin:.1%}. Measured on {markdown(machine)}.",
        *(markdown(note, block=True) for note in found.notes),
    ]
    return "\n".join(lines) + "\n"


def _row(row: Row) -> str:
    ratio, interval = "-", "-"
    if math.isfinite(row.estimate):
        ratio = f"{row.estimate:.3f}"
    if math.isfinite(row.high):
        interval = f"{row.low:.3f} to {row.high:.3f}"
    cells = (markdown(row.variant), markdown(row.conditions), ratio, interval, f"**{row.verdict}**")
    return f"| {' | '.join(cells)} |"
