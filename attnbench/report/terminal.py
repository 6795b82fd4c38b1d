"""Tables for the terminal: one per comparison group, fastest first; failed and declined cells are rows too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench import inert
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan
from attnbench.report import numbers, prose
from attnbench.report.tables import Table as DataTable
from attnbench.report.tables import cell_text
from attnbench.results import flags
from attnbench.results.record import Record

if TYPE_CHECKING:
    from attnbench.analysis.ties import Resolution
    from attnbench.results.store import Run

_STYLE = {"ok": "", "declined": "dim", "oom": "magenta", "crashed": "red", "timeout": "red", "failed": "red"}
FULL_WIDTH = 130  # characters of the full table, used for a pipe; a narrower terminal shows fewer columns


def open_console() -> Console:
    """Open stdout: as wide as the terminal, or FULL_WIDTH if stdout is not one."""
    console = Console()
    return console if console.is_terminal else Console(width=FULL_WIDTH)


def inert_text(words: str, style: str = "", *, lines: bool = False) -> Text:
    """Words from outside for the terminal: neither markup nor escape sequences act; `lines`: keep line breaks."""
    return Text(inert.terminal(words, lines=lines), style=style)


def print_words(console: Console, words: str, style: str = "", *, lines: bool = False, hang: int | None = None) -> None:
    """Print a sentence: on a terminal broken between words, for a pipe in one line, which other programs can search.

    `lines`: keep the line breaks of `words`; `hang`: as of `prose.wrap`.
    """
    for line in inert.terminal(words, lines=lines).splitlines():
        for part in prose.wrap(line, console.width, hang) if console.is_terminal else [line]:
            console.print(Text(part, style=style), soft_wrap=True)


def result_tables(
    records: Sequence[Record], width: int = FULL_WIDTH, resolutions: Mapping[str, Resolution] = MappingProxyType({})
) -> list[Table]:
    """Make one table for each comparison group.

    Args:
        records: of one run.
        width: characters of the widest table.
        resolutions: by group, as `ties.resolve_run` gives them.
    """
    return [_table(group, width, resolutions.get(name)) for name, group in _by_group(records).items()]


def _by_group(records: Iterable[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.cell.group, []).append(record)
    return {name: sorted(group, key=_order) for name, group in groups.items()}


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a run, each with its conditions and what it resolved above it.

    Below them stand the number of each outcome, and whether the machine was disturbed.
    """
    from attnbench.analysis.ties import resolve_run  # numpy, which `attnbench plan` does without

    records = run.records
    resolutions = resolve_run(run)
    for name, group in _by_group(records).items():
        for line in _heading(group, run.facts.machine, resolutions.get(name)):
            console.print(inert_text(line))
        table = _table(group, console.width, resolutions.get(name))
        console.print(table)
        if _NOTES.heading not in (column.header for column in table.columns):
            for line in _notes_below(group):
                console.print(inert_text(line))
    if run.facts.within_s is not None:
        for line in leader_lines(records, resolutions):
            print_words(console, line)
    print_words(console, count_outcomes(records))
    disturbed = flags.advice([r.flags for r in records if "throughput_img_per_s" in r.values])
    if disturbed:
        print_words(console, disturbed, "yellow")


def leader_lines(records: Sequence[Record], resolutions: Mapping[str, Resolution]) -> list[str]:
    """Of each comparison group, which of its fastest arms are separated and which are ties."""
    from attnbench.analysis.screening import leaders

    lines = []
    for group, resolution in resolutions.items():
        timed = [r for r in records if r.cell.group == group and r.cell.id in resolution.letters]
        timed.sort(key=lambda r: -float(r.values["throughput_img_per_s"]))
        if not timed:
            continue
        first = timed[0].cell
        cells = [r.cell for r in timed]
        names = {cell.id: f"{cell.variant}{_execution(cell, cells)}" for cell in cells}
        shape = f" dim {first.dim}" if first.scope == "layer" else ""
        lines.append(
            f"fastest at {first.conditions()}{shape}: {leaders([r.cell.id for r in timed], resolution.letters, names)}"
        )
    return lines


def _execution(cell: Cell, group: Sequence[Cell]) -> str:
    """How a cell is executed, where the group has more than one way."""
    return f" ({cell.execution})" if len({other.execution for other in group}) > 1 else ""


def count_outcomes(records: Iterable[Record]) -> str:
    """Count the outcomes: `40 cells: 37 ok, 2 failed, 1 declined`."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record.outcome] = counts.get(record.outcome, 0) + 1
    words = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items(), key=lambda kv: (kv[0] != "ok", kv[0])))
    total = sum(counts.values())
    return f"{total} cell{'s' if total != 1 else ''}: {words}." if total else "no cells."


def plan_tables(plan: Plan, *, every_cell: bool = False) -> list[Table]:
    """A row for each comparison group and for each reason for which cells are declined; or one for every cell."""
    if every_cell:
        return [_cells_of_plan(plan)]
    groups = Table(
        title=numbers.counted(len(plan.groups()), "comparison"), title_justify="left", box=None, pad_edge=False
    )
    for name in ("timed together", "cells", "declined"):
        groups.add_column(name, overflow="fold", justify="left" if name == "timed together" else "right")
    for cells in plan.groups().values():
        first = cells[0]
        shape = f" dim {first.dim}, {first.heads} heads" if first.scope == "layer" else ""
        declined = sum(c.id in plan.declined for c in cells)
        conditions = f"{first.res_h}x{first.res_w} batch {first.batch} {first.device} {first.precision} {first.pass_}"
        groups.add_row(inert_text(conditions + shape), str(len(cells)), str(declined or "-"))
    by_reason: dict[str, list[str]] = {}
    for cell in plan.cells:
        if cell.id in plan.declined:
            alike = plan.declined[cell.id].replace(cell.variant, "it", 1)
            by_reason.setdefault(alike, []).append(cell.variant)
    if not by_reason:
        return [groups]
    title = f"{numbers.counted(len(plan.declined), 'cell')} declined"
    declines = Table(title=title, title_justify="left", box=None, pad_edge=False)
    declines.add_column("variants", overflow="fold")
    declines.add_column("reason", overflow="fold")
    for reason, variants in by_reason.items():
        declines.add_row(inert_text(", ".join(dict.fromkeys(variants))), inert_text(reason, "yellow"))
    return [groups, declines]


def _cells_of_plan(plan: Plan) -> Table:
    title = f"{numbers.counted(len(plan.cells), 'cell')}, {len(plan.declined)} declined"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("variant", "conditions", "grid", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name in ("variant", "grid"))
    for cell in plan.cells:
        reason = plan.declined.get(cell.id)
        verdict = inert_text(f"declined: {reason}", "yellow") if reason else Text("will be measured", style="dim")
        grid = f"{cell.grid[0]}x{cell.grid[1]}" if cell.scope == "layer" else "-"
        table.add_row(inert_text(cell.variant), inert_text(cell.conditions()), grid, verdict)
    return table


def _table(rows: Sequence[Record], width: int, resolution: Resolution | None) -> Table:
    """The columns that fit beside each other."""
    letters = resolution.letters if resolution else {}
    columns = _fitting(_columns(rows, letters), rows, width)
    table = Table(box=None, pad_edge=False)
    fits = sum(_width_of(c, rows) + 2 for c in columns) <= width + 2
    for column in columns:
        left = column.heading in ("mechanism", "notes", "ties", *_AXES)
        side: Literal["left", "right"] = "left" if left else "right"
        table.add_column(column.heading, justify=side, no_wrap=fits and column is not _NOTES, overflow="fold")
    for record in rows:
        table.add_row(*(Text(inert.terminal(c.text(record)), style=c.style(record)) for c in columns))
    return table


def _heading(records: Sequence[Record], machine: str, resolution: Resolution | None) -> list[str]:
    cell = records[0].cell
    shape = f", dim {cell.dim}, {cell.heads} heads, stride {cell.stride}" if cell.scope == "layer" else ""
    shared = f"{cell.res_h}x{cell.res_w} px, batch {cell.batch}, {cell.precision}, {cell.pass_}{shape}"
    name = next((r.words["device_name"] for r in records if "device_name" in r.words), cell.device)
    name += f" ({machine})" if machine else ""
    threads = f", {cell.threads} threads, allocator {cell.allocator}" if cell.device == "cpu" else ""
    lines = [shared, f"{name}{threads}", resolution.sentence if resolution else ""]
    return [line for line in lines if line]


def _notes_below(rows: Sequence[Record]) -> list[str]:
    """What the rows' notes say, each once, with what it is said of: `noisy: hilo, hornet`; `msa: oom: why`."""
    flagged: dict[str, list[str]] = {}
    lost: dict[str, list[str]] = {}
    for record in rows:
        name = f"{record.cell.variant}{_execution(record.cell, [r.cell for r in rows])}"
        for note in record.flags if record.outcome == "ok" else (_note(record),):
            (flagged if record.outcome == "ok" else lost).setdefault(note, []).append(name)
    return [
        *(f"{note}: {'all' if len(names) == len(rows) else ', '.join(names)}" for note, names in flagged.items()),
        *(f"{', '.join(names)}: {note}" for note, names in lost.items()),
    ]


def abbreviate(letters: str) -> str:
    """Four or more consecutive tie letters as a range: `bcdef` becomes `b-f`."""
    if not letters.isalpha():  # a letter with a number is one name
        return letters
    runs: list[str] = []
    for letter in letters:
        if runs and ord(letter) == ord(runs[-1][-1]) + 1:
            runs[-1] += letter
        else:
            runs.append(letter)
    return "".join(f"{run[0]}-{run[-1]}" if len(run) > 3 else run for run in runs)


def _axis(cell: Cell, name: str) -> str:
    """The cell's value of an axis that varies, as a word."""
    value = getattr(cell, name)
    return str(value) if isinstance(value, str) else "yes" if value else "no"


def _order(record: Record) -> tuple[int, float, str]:
    return (record.outcome != "ok", -record.values.get("throughput_img_per_s", 0.0), record.cell.variant)


class _Column(NamedTuple):
    heading: str
    text: Callable[[Record], str]
    style: Callable[[Record], str] = lambda _: ""


def _estimate(value: str, low: str, high: str, after: str = "") -> Callable[[Record], str]:
    """A value with its interval, or `-`."""

    def text(record: Record) -> str:
        v = record.values
        if value not in v:
            return "-"
        return numbers.estimate(v[value], v.get(low), v.get(high), 3) + after

    return text


def _warn(record: Record) -> str:
    uncertainty = numbers.uncertainty_pct(record.values)
    return "yellow" if uncertainty is not None and uncertainty > numbers.WARN_PCT else ""


def _note(record: Record) -> str:
    return " ".join(record.flags) if record.outcome == "ok" else f"{record.outcome}: {record.reason}"


_AXES = ("kernel", "runtime", "graphs")
_VARIANT = _Column("mechanism", lambda r: r.cell.variant, lambda r: _STYLE[r.outcome])
_RATIO = _Column("vs reference", _estimate("ratio_to_reference", "ratio_low", "ratio_high"))
_SPEED = _Column("img/s", _estimate("throughput_img_per_s", "throughput_low", "throughput_high"))
_MEMORY = _Column("peak memory", lambda r: numbers.size(r.values.get("peak_memory_bytes")))
_UNCERTAINTY = _Column("± %", lambda r: numbers.percent(numbers.uncertainty_pct(r.values)), _warn)
_MACS = _Column("MACs", lambda r: _macs(r))
_PARAMS = _Column("params", lambda r: numbers.si(r.values.get("params")))
_NOTES = _Column("notes", _note, lambda r: _STYLE[r.outcome] or "yellow")
# Shown where a record has them.
_RARE = {
    "launch_share": _Column(
        "launch", lambda r: f"{r.values['launch_share']:.0%}" if "launch_share" in r.values else "-"
    ),
    "runtime_error": _Column("off eager", lambda r: _error(r.values.get("runtime_error"))),
    "error_rms": _Column("off float64", lambda r: _error(r.values.get("error_rms"))),
}
NOTES_AT_LEAST = 24  # characters of the column of notes; with less room they stand below the rows


def _macs(record: Record) -> str:
    text = numbers.si(record.values.get("macs"))
    return numbers.at_least(text, lower_bound="macs" in record.values and numbers.LOWER_BOUND in record.flags)


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _columns(rows: Sequence[Record], letters: Mapping[str, str]) -> list[_Column]:
    """Every column that one of these rows fills, the most important first."""
    axes = [_axis_column(name) for name in _AXES if len({getattr(r.cell, name) for r in rows}) > 1]
    ties = [_Column("ties", lambda r: abbreviate(letters.get(r.cell.id, "")))] if letters else []
    rare = [column for name, column in _RARE.items() if any(name in r.values for r in rows)]
    ratios = any("ratio_to_reference" in r.values for r in rows)
    notes = [_NOTES] if any(map(_note, rows)) else []
    speed = [_RATIO, _MEMORY, _UNCERTAINTY, *ties, *rare, *notes, _SPEED] if ratios else [
        _SPEED, _MEMORY, _UNCERTAINTY, *ties, *rare, *notes,
    ]  # fmt: skip
    return [_VARIANT, *axes, *(c for c in (*speed, _MACS, _PARAMS) if any(c.text(r) not in ("", "-") for r in rows))]


def _fitting(columns: Sequence[_Column], rows: Sequence[Record], width: int) -> list[_Column]:
    """The columns that fit into so many characters, variant and speed in any case; ties and notes stand last."""
    least = 3 if len(columns) > 2 and columns[1].heading in _AXES else 2
    kept: list[_Column] = []
    room = width
    for place, column in enumerate(columns):
        need = _width_of(column, rows)
        if place < least or need + 2 <= room:
            kept.append(column)
            room -= need + 2
    return sorted(kept, key=lambda c: ("ties", "notes").index(c.heading) if c.heading in ("ties", "notes") else -1)


def _width_of(column: _Column, rows: Sequence[Record]) -> int:
    """The characters that a column needs."""
    if column is _NOTES:
        return NOTES_AT_LEAST
    return max(cell_len(inert.terminal(text)) for text in (column.heading, *(column.text(r) for r in rows)))


def _axis_column(name: str) -> _Column:
    return _Column(name, lambda r: _axis(r.cell, name))


def rich_tables(source: DataTable, width: int) -> list[Table]:
    """A table of a report; where it is wider than `width`, several, each with its first column and as many as fit."""
    texts = [[c.title, *(cell_text(row[n], c) for row in source.rows)] for n, c in enumerate(source.columns)]
    widths = [max(cell_len(inert.terminal(text)) for text in column) for column in texts]
    parts: list[list[int]] = []
    room = 0
    for place in range(1, len(widths)):
        if widths[place] + 2 > room:
            parts.append([0])
            room = width - widths[0]
        parts[-1].append(place)
        room -= widths[place] + 2
    return [
        rich_table(
            replace(
                source,
                title=source.title if number == 0 else f"{source.title}, continued",
                columns=tuple(source.columns[place] for place in part),
                rows=tuple(tuple(row[place] for place in part) for row in source.rows),
            )
        )
        for number, part in enumerate(parts)
    ]


def rich_table(source: DataTable, most: int | None = None) -> Table:
    """The first `most` rows of a table of a report, all where None, for the terminal."""
    shown = Table(title=inert_text(source.title), title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(source.columns):
        justify: Literal["left", "right"] = "right" if source.numeric(place) else "left"
        shown.add_column(column.title, overflow="fold", justify=justify, no_wrap=source.numeric(place))
    for row in source.rows[:most]:
        shown.add_row(*(inert_text(cell_text(v, c)) for v, c in zip(row, source.columns, strict=True)))
    return shown
