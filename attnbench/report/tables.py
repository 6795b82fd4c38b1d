"""A table as data, and the same table as Markdown and CSV; `latex_table` writes it for a paper.

A number has `Column.digits` significant digits (4 if not set) in Markdown and on the page, as
`attnbench.report.numbers` writes them. In CSV a whole number, such as a count, is written in full, and any other has
`DATA_DIGITS`. That is ten times finer than any interval that we measure, and coarse enough that the last bits
of a result, which depend on the CPU and on the version of a library, never reach a file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from attnbench import inert
from attnbench.report import numbers
from attnbench.report.evidence import Estimate

DATA_DIGITS = 6

Value = str | Estimate | None


@dataclass(frozen=True)
class Column:
    """A heading, its unit, and by what a number is divided before it is printed.

    Attributes:
        warn: the page colours a number above it.
        internal: what a paper does not print: LaTeX leaves it out.
    """

    key: str
    heading: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 4
    group: str = ""
    warn: float | None = None
    internal: bool = False

    @property
    def title(self) -> str:
        """Heading and unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


@dataclass(frozen=True)
class Table:
    """Rows of values under columns. `marks` names the mechanism of each row, for the page's filters."""

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = field(default=())

    def numeric(self, place: int) -> bool:
        """Whether a column holds numbers."""
        return any(isinstance(row[place], Estimate) for row in self.rows)


def data_number(x: float | None) -> str:
    """A number as CSV has it: see the module for its digits; empty for None."""
    if x is None:
        return ""
    if not math.isfinite(x):
        return repr(x)
    rounded = x if float(x).is_integer() else float(f"{x:.{DATA_DIGITS}g}")
    return str(int(rounded)) if float(rounded).is_integer() and abs(rounded) < 1e18 else repr(float(rounded))


def cell_text(value: Value, column: Column) -> str:
    """A value as it is printed: `12.3 [12.1, 12.6]`, `≥ 0`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    low, high = (None if end is None else end / column.scale for end in (value.low, value.high))
    text = numbers.estimate(value.value / column.scale, low, high, column.digits)
    return numbers.at_least(text, lower_bound=value.at_least)


def markdown(table: Table) -> str:
    """GitHub's Markdown; every text is escaped."""
    lines = [f"## {inert.markdown(table.title)}", "", inert.markdown(table.caption, block=True), ""]
    if table.rows:
        lines.append("| " + " | ".join(inert.markdown(headed(c)) for c in table.columns) + " |")
        lines.append("|" + "|".join("---:" if table.numeric(i) else "---" for i in range(len(table.columns))) + "|")
        for row in table.rows:
            cells = (inert.markdown(cell_text(v, c)) for v, c in zip(row, table.columns, strict=True))
            lines.append("| " + " | ".join(cells) + " |")
    else:
        lines.append("No rows.")
    lines += ["", *(f"- {inert.markdown(note, block=True)}" for note in table.notes)] if table.notes else []
    return "\n".join(lines).rstrip() + "\n"


def comma_separated(table: Table) -> str:
    """CSV with plain numbers; an estimate with an interval fills three columns."""
    wide = [
        any(isinstance(row[i], Estimate) and row[i].low is not None for row in table.rows)  # type: ignore[union-attr]  # isinstance guards it
        for i in range(len(table.columns))
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []
    for column, three in zip(table.columns, wide, strict=True):
        header += [column.key, f"{column.key}_low", f"{column.key}_high"] if three else [column.key]
    writer.writerow(header)
    for row in table.rows:
        line: list[str] = []
        for value, three in zip(row, wide, strict=True):
            if isinstance(value, Estimate):
                ends = [value.low, value.high] if three else []
                line += [data_number(x) for x in (value.value, *ends)]
            else:
                line += [inert.spreadsheet(value or ""), *([""] * 2 if three else [])]
        writer.writerow(line)
    return out.getvalue()


def runs(names: Iterable[str]) -> list[tuple[str, int]]:
    """The names with how often each stands in a row; an empty name is never joined with the next."""
    found: list[tuple[str, int]] = []
    for name in names:
        if found and found[-1][0] == name and name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


def heading_groups(table: Table) -> list[tuple[str, int]]:
    """The line above the headings: (name, number of columns); empty when no column has a group."""
    return runs(c.group for c in table.columns) if any(c.group for c in table.columns) else []


def headed(column: Column) -> str:
    """The heading with its group: `MACs (G): ratio`."""
    return f"{column.group}: {column.title}" if column.group else column.title
