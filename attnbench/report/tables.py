"""A table as data, and the same table as Markdown, CSV and LaTeX.

A number has `Column.digits` significant digits (4 if not set) in Markdown, LaTeX and on the page, as
`attnbench.report.numbers` writes them. In CSV a whole number, such as a count, is written in full, and any other has
`DATA_DIGITS`. That is ten times finer than any interval that we measure, and coarse enough that the last bits
of a result, which depend on the CPU and on the version of a library, never reach a file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

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
        lines.append("| " + " | ".join(inert.markdown(_headed(c)) for c in table.columns) + " |")
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


LONG, WIDE_TEXT = 45, 40


def latex(table: Table) -> str:
    r"""A `booktabs` table for `\input`: fitted to the text's width, or a `longtable` where it has many rows.

    Needs booktabs, longtable and graphicx. Internal columns are left out.
    """
    table = _without_internal(table)
    align = "".join(_align(table, i) for i in range(len(table.columns)))
    head = [*_group_line(table.columns), " & ".join(inert.latex(c.title) for c in table.columns) + r" \\"]
    body = [
        " & ".join(inert.latex(cell_text(v, c)) for v, c in zip(row, table.columns, strict=True)) + r" \\"
        for row in table.rows
    ] or [rf"\multicolumn{{{len(table.columns)}}}{{l}}{{No rows.}} \\"]
    caption = rf"\caption{{{inert.latex(table.caption)}}}\label{{tab:{_slug(table.name)}}}"
    notes = [rf"\noindent {inert.latex(note)}\par" for note in table.notes]
    lines = [r"% needs \usepackage{booktabs}, \usepackage{longtable} and \usepackage{graphicx}"]
    if len(table.rows) > LONG:
        lines += [
            r"\begingroup\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\begin{{longtable}}{{{align}}}",
            caption + r"\\",
            r"\toprule",
            *head,
            r"\midrule",
            r"\endfirsthead",
            r"\toprule",
            *head,
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endlastfoot",
            *body,
            r"\end{longtable}",
            *notes,
            r"\endgroup",
        ]
    else:
        lines += [
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            caption,
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\scriptsize\raggedright",
            *notes,
            r"\end{table*}",
        ]
    return "\n".join([*lines, ""])


def _without_internal(table: Table) -> Table:
    kept = [place for place, column in enumerate(table.columns) if not column.internal]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)


def _align(table: Table, place: int) -> str:
    if table.numeric(place):
        return "r"
    widest = max((len(cell_text(row[place], table.columns[place])) for row in table.rows), default=0)
    return "l" if widest <= WIDE_TEXT else r"p{0.3\textwidth}"


def _group_line(columns: Sequence[Column]) -> list[str]:
    if not any(c.group for c in columns):
        return []
    cells, rules, place = [], [], 1
    for name, width in _runs(c.group for c in columns):
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{inert.latex(name)}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    return [" & ".join(cells) + r" \\", "".join(rules)]


def _runs(names: Iterable[str]) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for name in names:
        if found and found[-1][0] == name and name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


def heading_groups(table: Table) -> list[tuple[str, int]]:
    """The line above the headings: (name, number of columns); empty when no column has a group."""
    return _runs(c.group for c in table.columns) if any(c.group for c in table.columns) else []


def _headed(column: Column) -> str:
    return f"{column.group}: {column.title}" if column.group else column.title


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
