"""Tables for the terminal: one per comparison group, fastest first; failed and declined cells are rows too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench import inert
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan
from attnbench.report.tables import Table as DataTable
from attnbench.report.tables import cell_text
from attnbench.results import flags
from attnbench.results.record import Record

if TYPE_CHECKING:
    from attnbench.analysis.ties import Resolution
    from attnbench.results.store import Run

_STYLE = {"ok": "", "declined": "dim", "oom": "magenta", "crashed": "red", "timeout": "red", "failed": "red"}
UNRESOLVED = 10.0  # an interval whose ends differ by more than this factor tells nothing
FULL_WIDTH = 130  # characters of the full table, used for a pipe; a narrower terminal shows fewer columns


def open_console() -> Console:
    """Open stdout: as wide as the terminal, or FULL_WIDTH if stdout is not one."""
    console = Console()
    return console if console.is_terminal else Console(width=FULL_WIDTH)


def inert_text(words: str, style: str = "", *, lines: bool = False) -> Text:
    """Words from outside for the terminal: neither markup nor escape sequences act; `lines`: keep line breaks."""
    return Text(inert.terminal(words, lines=lines), style=style)


def result_tables(
    records: Sequence[Record],
    width: int = FULL_WIDTH,
    machine: str = "",
    resolutions: Mapping[str, Resolution] = MappingProxyType({}),
) -> list[Table]:
    """Make one table for each comparison group, with what the group resolved above it.

    Args:
        records: of one run.
        width: characters of the widest table.
        machine: its short name.
        resolutions: by group, as `ties.resolve_run` gives them.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.cell.group, []).append(record)
    return [_table(group, width, machine, resolutions.get(name)) for name, group in groups.items()]


def print_results(run: Run, console: Console) -> None:
    """Print the tables of a run; below them the number of each outcome, and whether the machine was disturbed."""
    from attnbench.analysis.summarize import flag_wide  # numpy, which `attnbench plan` does without
    from attnbench.analysis.ties import resolve_run

    groups: dict[str, list[Record]] = {}
    for record in run.records:
        groups.setdefault(record.cell.group, []).append(record)
    records = [record for group in groups.values() for record in flag_wide(group)]
    for table in result_tables(records, console.width, run.facts.machine, resolve_run(run)):
        console.print(table)
    console.print(Text(count_outcomes(records)))
    disturbed = flags.advice([r.flags for r in records if "throughput_img_per_s" in r.values])
    if disturbed:
        console.print(Text(disturbed, style="yellow"), soft_wrap=True)


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
    groups = Table(title=f"{len(plan.groups())} comparisons", title_justify="left", box=None)
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
    declines = Table(title=f"{len(plan.declined)} cells declined", title_justify="left", box=None)
    declines.add_column("variants", overflow="fold")
    declines.add_column("reason", overflow="fold")
    for reason, variants in by_reason.items():
        declines.add_row(inert_text(", ".join(dict.fromkeys(variants))), inert_text(reason, "yellow"))
    return [groups, declines]


def _cells_of_plan(plan: Plan) -> Table:
    table = Table(title=f"{len(plan.cells)} cells, {len(plan.declined)} declined", title_justify="left", box=None)
    for name in ("variant", "conditions", "grid", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name in ("variant", "grid"))
    for cell in plan.cells:
        reason = plan.declined.get(cell.id)
        verdict = inert_text(f"declined: {reason}", "yellow") if reason else Text("will be measured", style="dim")
        grid = f"{cell.grid[0]}x{cell.grid[1]}" if cell.scope == "layer" else "-"
        table.add_row(inert_text(cell.variant), inert_text(cell.conditions()), grid, verdict)
    return table


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Format a number with an SI prefix and significant digits, e.g. `521 M` or `1.87 G`; None as `-`."""
    if value is None:
        return "-"
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{significant(value / limit, digits)} {prefix}{unit}"
    return f"{significant(value, digits)} {unit}".rstrip()


def significant(value: float, digits: int = 3) -> str:
    """Format a number with `digits` significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def mebibytes(value: float | None) -> str:
    """Format bytes as MiB with three significant digits; None as `-`."""
    return "-" if value is None else f"{significant(value / 2**20)} MiB"


def _table(records: Sequence[Record], width: int, machine: str, resolution: Resolution | None) -> Table:
    first = records[0].cell
    shape = f", dim {first.dim}, {first.heads} heads, stride {first.stride}" if first.scope == "layer" else ""
    shared = f"{first.res_h}x{first.res_w} px, batch {first.batch}, {first.precision}, {first.pass_}{shape}"
    name = next((r.words["device_name"] for r in records if "device_name" in r.words), first.device)
    name += f" ({machine})" if machine else ""
    threads = f", {first.threads} threads, allocator {first.allocator}" if first.device == "cpu" else ""
    lines = [shared, f"{name}{threads}", resolution.sentence if resolution else ""]
    table = Table(
        title=Text("\n".join(inert.terminal(line) for line in lines if line)),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    letters = resolution.letters if resolution else {}
    varying = [word for word in ("kernel", "runtime", "graphs") if len({getattr(r.cell, word) for r in records}) > 1]
    table.add_column("mechanism", no_wrap=True)
    for word in varying:
        table.add_column(word, no_wrap=True)
    shown = [c for c in _COLUMNS if width >= c.min_width]
    shown += [_LAUNCH] if any("launch_share" in r.values for r in records) else []
    shown += [c for c in _ERRORS if any(c.text(r.values) for r in records)]
    for column in shown:
        table.add_column(column.heading, justify="right" if column.heading else "left", no_wrap=True)
    if letters:
        table.add_column("ties", no_wrap=True)
    table.add_column("notes", overflow="fold", ratio=1)
    for record in sorted(records, key=_order):
        v, cell = record.values, record.cell
        row = [inert_text(cell.variant, _STYLE[record.outcome])]
        row += [inert_text(_axis(cell, word)) for word in varying]
        row += [Text(column.text(v), style="" if column.heading else "dim") for column in shown]
        row += [Text(abbreviate(letters.get(cell.id, "")))] if letters else []
        note = " ".join(record.flags) if record.outcome == "ok" else f"{record.outcome}: {record.reason}"
        row.append(inert_text(note, _STYLE[record.outcome] or "yellow"))
        table.add_row(*row)
    return table


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


Values = Mapping[str, float | int]


class _Column(NamedTuple):
    heading: str  # empty: the interval of the previous column
    min_width: int  # characters of the narrowest terminal that shows it
    text: Callable[[Values], str]


def _interval(low: str, high: str) -> Callable[[Values], str]:
    """The interval as text; `unresolved` where its ends are more than a factor of ten apart."""

    def text(v: Values) -> str:
        if low not in v or high not in v:
            return ""
        return "unresolved" if v[high] > UNRESOLVED * v[low] else f"[{significant(v[low])}, {significant(v[high])}]"

    return text


_COLUMNS = (
    _Column("params", 110, lambda v: si(v.get("params"))),
    _Column("MACs", 70, lambda v: si(v.get("macs"))),
    _Column("img/s", 0, lambda v: significant(v["throughput_img_per_s"]) if "throughput_img_per_s" in v else "-"),
    _Column("", 100, _interval("throughput_low", "throughput_high")),
    _Column("vs reference", 0, lambda v: f"{v['ratio_to_reference']:.2f}x" if "ratio_to_reference" in v else "-"),
    _Column("", 60, _interval("ratio_low", "ratio_high")),
    _Column("peak memory", 90, lambda v: mebibytes(v.get("peak_memory_bytes"))),
)
_LAUNCH = _Column("launch", 0, lambda v: f"{v['launch_share']:.0%}" if "launch_share" in v else "-")
# Shown where a record has them.
_ERRORS = (
    _Column("off eager", 0, lambda v: f"{v['runtime_error']:.0e}" if "runtime_error" in v else ""),
    _Column("off float64", 0, lambda v: f"{v['error_rms']:.0e}" if "error_rms" in v else ""),
)


def rich_table(source: DataTable, most: int | None = None) -> Table:
    """The first `most` rows of a table of a report, all where None, for the terminal."""
    shown = Table(title=inert_text(source.title), title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(source.columns):
        shown.add_column(column.title, overflow="fold", justify="right" if source.numeric(place) else "left")
    for row in source.rows[:most]:
        shown.add_row(*(inert_text(cell_text(v, c)) for v, c in zip(row, source.columns, strict=True)))
    return shown
