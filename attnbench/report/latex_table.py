r"""A table of a report for `\input` in a two-column paper: booktabs and siunitx in `table*` at `\footnotesize`.

Nothing is scaled. A table that is wider than the text stands in two or more tabulars below each other, each with the
first column; one that is higher than a page goes on in a `table*` on the next page. Internal columns are left out, and
what is the same in every row is said once, below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from attnbench import inert
from attnbench.report import latex_widths as widths
from attnbench.report import siunitx
from attnbench.report.evidence import Estimate
from attnbench.report.latex_widths import ELASTIC, GAP, TEXT_WIDTH, Extent
from attnbench.report.tables import Column, Table, Value, cell_text, headed, runs

PAGE_LINES = 54  # of \footnotesize on a page of `article`; conferences' pages are higher
HALF = "In a cell, ± stands before half of the interval; other forms of this table have both of its ends in brackets."
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_NO_NUMBER = ("", "-", "–")


@dataclass(frozen=True)
class _Set:
    """A column as it is set: its cells for LaTeX, and the same as plain text, by which it is measured."""

    column: Column
    cells: tuple[str, ...]
    plain: tuple[str, ...]
    format: str  # of siunitx; empty for text

    @cached_property
    def extent(self) -> Extent:
        cells = max(map(widths.width, self.plain), default=0.0)
        least = max(widths.longest_piece(self.column.title), widths.longest_piece(self.column.group))
        if self.format or cells <= ELASTIC:
            return Extent(max(least, cells), max(least, cells), self.column.group)
        pieces = max(map(widths.longest_piece, self.plain))
        return Extent(max(least, pieces, ELASTIC), max(least, cells), self.column.group)

    @property
    def elastic(self) -> bool:
        return self.extent.natural > self.extent.least


def latex(table: Table) -> str:
    """The table as one `table*` or, where a page cannot hold it, as several that share one number."""
    table = _without_repeats(_without_internal(table))
    if not table.rows:
        none = Column("none", "")
        table = replace(table, columns=(none,), rows=(("No rows.",),))
    columns = [_set(table, place) for place in range(len(table.columns))]
    tabulars = [_Tabular([columns[place] for place in places]) for places in widths.panels([c.extent for c in columns])]
    caption, notes = inert.plain(table.caption), [*table.notes]
    if any(r"\pm" in cell for c in columns for cell in c.cells):
        notes.insert(0, HALF)
    parts = _parts(tabulars, len(table.rows), _height([caption]), _height(notes))
    label = rf"\label{{tab:{_slug(table.name)}}}"
    out = [siunitx.PACKAGES]
    for number, rows in enumerate(parts):
        first, last = number == 0, number == len(parts) - 1
        out += [
            r"\begin{table*}[tp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{inert.latex(caption)}}}{label}"
            if first
            else r"\addtocounter{table}{-1}\caption{(continued)}",
            r"\smallskip",
            siunitx.SETUP,
            "\n\\par\\medskip\n".join(t.written(rows) for t in tabulars) if rows else "%",
            *([r"\par\smallskip\raggedright", *(rf"{widths.breakable(n)}\par" for n in notes)] if last else []),
            r"\end{table*}",
            *([] if last else [r"\clearpage"]),
        ]
    return "\n".join([*out, ""])


def _without_internal(table: Table) -> Table:
    return _only(table, [place for place, column in enumerate(table.columns) if not column.internal])


def _without_repeats(table: Table) -> Table:
    """Without the columns of text that are empty, or the same in every row: these become a note."""
    if len(table.rows) < 2:  # one row repeats nothing
        return table
    same = {
        place: table.rows[0][place]
        for place in range(1, len(table.columns))
        if not table.numeric(place) and len({row[place] for row in table.rows}) == 1
    }
    said = [f"{headed(table.columns[place])}: {value}" for place, value in same.items() if value]
    kept = _only(table, [place for place in range(len(table.columns)) if place not in same])
    return replace(kept, notes=(f"In every row: {'; '.join(said)}.", *kept.notes)) if said else kept


def _only(table: Table, kept: Sequence[int]) -> Table:
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)


def _set(table: Table, place: int) -> _Set:
    column, values = table.columns[place], [row[place] for row in table.rows]
    plain = [inert.plain(cell_text(v, column)) for v in values]
    numbers = [text for text in plain if _NUMBER.fullmatch(text)]
    printed = numbers and all(text in _NO_NUMBER for text in plain if text not in numbers)
    if not (printed or table.numeric(place)):
        return _Set(column, tuple(map(widths.breakable, plain)), tuple(plain), "")
    cells = tuple(_number(v, column) for v in values)
    digits = siunitx.digits_of(cells)
    plain = [_as_plain(c) if c.startswith("{") or digits is None else digits.widest for c in cells]
    return _Set(column, cells, tuple(plain), siunitx.column(cells))


def _number(value: Value, column: Column) -> str:
    if isinstance(value, Estimate):
        return siunitx.cell(value.over(column.scale), column.digits)
    text = inert.plain(value or "")
    if text in _NO_NUMBER:
        return siunitx.cell(None)
    return text if _NUMBER.fullmatch(text) else f"{{{inert.latex(text)}}}"


def _as_plain(cell: str) -> str:
    return cell.strip("{}").replace(r"\pm", "±").replace(r"$\ge$", "≥")


@dataclass(frozen=True)
class _Tabular:
    """Columns that stand beside each other."""

    columns: Sequence[_Set]

    @cached_property
    def widths(self) -> list[float]:
        """Points of each column."""
        return widths.shared_out([c.extent for c in self.columns])

    def height(self, row: int) -> int:
        """Lines of a row."""
        return max(
            len(widths.lines(c.plain[row], room)) if c.elastic else 1
            for c, room in zip(self.columns, self.widths, strict=True)
        )

    def written(self, rows: Sequence[int]) -> str:
        """The tabular of some rows."""
        form = "".join(map(_form, self.columns, self.widths))
        head = " & ".join(map(_heading, self.columns, self.widths))
        body = [" & ".join(c.cells[row] for c in self.columns) + r" \\" for row in rows]
        begin, end = rf"\begin{{tabular}}{{@{{}}{form}@{{}}}}", r"\end{tabular}"
        return "\n".join([begin, r"\toprule", *self._groups(), rf"{head} \\", r"\midrule", *body, r"\bottomrule", end])

    @property
    def head(self) -> int:
        """Lines of the headings and of the space around the tabular."""
        title = max(len(widths.lines(c.column.title, room)) for c, room in zip(self.columns, self.widths, strict=True))
        return title + max(len(widths.lines(c.column.group, c.extent.least)) for c in self.columns) + 3

    def _groups(self) -> list[str]:
        """The line above the headings, with its rules; nothing where no column has a group."""
        if not any(c.column.group for c in self.columns):
            return []
        cells, rules, place = [], [], 0
        for name, count in runs(c.column.group for c in self.columns):
            room = sum(self.widths[place : place + count]) + GAP * (count - 1)
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_stacked(name, room, 'c')}}}")
            if name:
                rules.append(rf"\cmidrule(lr){{{place + 1}-{place + count}}}")
            place += count
        return [" & ".join(cells) + r" \\", "".join(rules)]


def _form(c: _Set, room: float) -> str:
    if c.format:
        return c.format
    return rf">{{\raggedright\arraybackslash\hspace{{0pt}}}}p{{{room:.1f}pt}}" if c.elastic else "l"


def _heading(c: _Set, room: float) -> str:
    return f"{{{_stacked(c.column.title, room, 'c' if c.format else 'l')}}}"


def _stacked(text: str, room: float, align: str) -> str:
    """A heading in as many lines as its column needs."""
    found = [inert.latex(line) for line in widths.lines(inert.plain(text), room)]
    stacked = r"\\".join(found)
    return rf"\begin{{tabular}}[b]{{@{{}}{align}@{{}}}}{stacked}\end{{tabular}}" if len(found) > 1 else stacked


def _height(texts: Sequence[str]) -> int:
    """Lines of paragraphs as wide as the text."""
    return sum(math.ceil(1.1 * widths.width(text) / TEXT_WIDTH) + 1 for text in texts)


def _parts(tabulars: Sequence[_Tabular], rows: int, caption: int, notes: int) -> list[list[int]]:
    """The rows that each page holds; a last page without rows is for notes that do not fit below the last."""
    head = sum(t.head for t in tabulars)
    found: list[list[int]] = [[]]
    filled = caption + head
    for row in range(rows):
        height = sum(t.height(row) for t in tabulars)
        if found[-1] and filled + height > PAGE_LINES:
            found.append([])
            filled = 2 + head
        found[-1].append(row)
        filled += height
    return [*found, []] if filled + notes > PAGE_LINES and notes else found


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
