"""Tables of a run for the terminal: one a comparison group, fastest first, failures and declines as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench.record import Record
from attnbench.sweep import Plan

_STYLE = {"ok": "", "declined": "dim", "oom": "magenta", "crashed": "red", "timeout": "red", "failed": "red"}


def result_tables(records: Sequence[Record]) -> list[Table]:
    """One table for each comparison group."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.cell.group, []).append(record)
    return [_table(group) for group in groups.values()]


def print_results(records: Sequence[Record], console: Console) -> None:
    """Print the tables and what they do not show."""
    for table in result_tables(records):
        console.print(table)
    console.print(Text(account(records)))


def account(records: Iterable[Record]) -> str:
    """Count the outcomes: `40 cells: 37 ok, 2 failed, 1 declined`."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record.outcome] = counts.get(record.outcome, 0) + 1
    words = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items(), key=lambda kv: (kv[0] != "ok", kv[0])))
    total = sum(counts.values())
    return f"{total} cell{'s' if total != 1 else ''}: {words}." if total else "no cell."


def plan_tables(plan: Plan) -> list[Table]:
    """The cells of a plan, a row a variant and its conditions; declines with the reason."""
    table = Table(title=f"{len(plan.cells)} cells, {len(plan.declined)} declined", title_justify="left", box=None)
    for name in ("variant", "conditions", "grid", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name in ("variant", "grid"))
    for cell in plan.cells:
        reason = plan.declined.get(cell.id)
        verdict = Text(f"declined: {reason}", style="yellow") if reason else Text("will be measured", style="dim")
        grid = f"{cell.grid[0]}x{cell.grid[1]}" if cell.scope == "layer" else "-"
        table.add_row(Text(cell.variant), cell.conditions(), grid, verdict)
    return [table]


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """`521 M`, `1.87 G`: three significant digits with the SI prefix."""
    if value is None:
        return "-"
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{significant(value / limit, digits)} {prefix}{unit}"
    return f"{significant(value, digits)} {unit}".rstrip()


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent."""
    if value == 0:
        return "0"
    import math

    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def mebibytes(value: float | None) -> str:
    """Bytes as MiB."""
    return "-" if value is None else f"{significant(value / 2**20)} MiB"


def _table(records: Sequence[Record]) -> Table:
    first = records[0].cell
    shape = f", dim {first.dim}, {first.heads} heads, stride {first.stride}" if first.scope == "layer" else ""
    shared = f"{first.res_h}x{first.res_w} px, batch {first.batch}, {first.precision}, {first.pass_}{shape}"
    name = next((r.words["device_name"] for r in records if "device_name" in r.words), first.device)
    threads = f", {first.threads} threads, allocator {first.allocator}" if first.device == "cpu" else ""
    table = Table(title=f"{shared}\n{name}{threads}", title_justify="left", box=None, pad_edge=False)
    many = len({(r.cell.kernel, r.cell.compiled) for r in records}) > 1
    table.add_column("mechanism", no_wrap=True)
    if many:
        table.add_column("kernel", no_wrap=True)
    for heading in ("params", "MACs", "img/s", "", "vs reference", "", "peak memory"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    table.add_column("notes", overflow="fold", ratio=1)
    for record in sorted(records, key=_order):
        v, cell = record.values, record.cell
        row = [Text(cell.variant, style=_STYLE[record.outcome])]
        if many:
            row.append(Text(cell.kernel + (" compiled" if cell.compiled else "")))
        row += [Text(si(v.get("params"))), Text(si(v.get("macs")))]
        row += [
            Text(_number(v.get("throughput_img_per_s"))),
            Text(_span(v, "throughput_low", "throughput_high"), style="dim"),
        ]
        row += [
            Text(_ratio(v)),
            Text(_span(v, "ratio_low", "ratio_high"), style="dim"),
            Text(mebibytes(v.get("peak_memory_bytes"))),
        ]
        note = " ".join(record.flags) if record.outcome == "ok" else f"{record.outcome}: {record.reason}"
        row.append(Text(note, style=_STYLE[record.outcome] or "yellow"))
        table.add_row(*row)
    return table


def _order(record: Record) -> tuple[int, float, str]:
    return (record.outcome != "ok", -record.values.get("throughput_img_per_s", 0.0), record.cell.variant)


def _number(value: float | None) -> str:
    return "-" if value is None else significant(value)


def _ratio(values: dict[str, float] | object) -> str:
    value = values.get("ratio_to_reference") if hasattr(values, "get") else None
    return "-" if value is None else f"{value:.2f}x"


def _span(values: object, low: str, high: str) -> str:
    get = getattr(values, "get")  # noqa: B009  a Mapping
    if get(low) is None:
        return ""
    return f"[{significant(get(low))}, {significant(get(high))}]"
