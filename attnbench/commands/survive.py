"""`attnbench survive`: which rankings survive a change of runtime, kernel, batch, precision, device or version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.report.survival import Survival
    from attnbench.report.tables import Table

SHOWN = 20  # rows of a table in the terminal
FRONTS = "front: items on one's front of accuracy and speed; stay: those that are on the other's too"
SHORT = {  # headings there, by column
    "one": "one", "other": "other", "items": "items", "basis": "from", "front": "front",
    "stay": "stay",
}  # fmt: skip


@click.command("survive")
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=path_of("RUN"))
@click.option("--timm", is_flag=True, help="Judge timm's published tables; RUN... are not read.")
@click.option("--res", default="224", show_default=True, help="With --timm: pixels of the square images, or all.")
@click.option("--gmacs", default="3-6", show_default=True, help="With --timm: range of GMACs, e.g. 3-6 or 3-.")
@click.option("--out", metavar="FOLDER", type=path_of("--out"), help="Write the tables and figures there too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object to stdout.")
def command(runs: tuple[Path, ...], timm: bool, res: str, gmacs: str, out: Path | None, as_json: bool) -> None:
    """Compare the rankings by speed under every two conditions of RUN... [reports/runs/*]: Kendall's tau.

    The papers' and timm's published speeds of the same mechanisms and models are conditions too.
    """
    from attnbench.report import survival
    from attnbench.report.evidence import gather, stored

    if timm and runs:
        raise AttnbenchError("--timm judges published tables and reads no run; give either RUN or --timm")
    if timm:
        found = survival.published_timm(_side(res), _range(gmacs))
    else:
        evidence = gather(runs or stored())
        for line in evidence.problems:
            click.echo(f"warning: {inert.terminal(line)}", err=True)
        found = survival.of_runs(evidence)
    if out:
        from attnbench.report.write import write_survival

        for path in write_survival(found, out):
            click.echo(inert.terminal(str(path)), err=True)
    if as_json:
        click.echo(json.dumps(survival.as_dict(found), allow_nan=False))
    else:
        _print(found)


def _side(text: str) -> int:
    """Pixels, or 0 for all resolutions."""
    side = 0 if text == "all" else inputs.parse_whole(text)
    if side is None or side < 0 or (side == 0 and text != "all"):
        raise AttnbenchError(f"--res must be pixels such as 224, or all; got {inputs.brief(text)}")
    return side


def _range(text: str) -> tuple[float, float]:
    """`3-6`, `3-` or `-6`: least and most."""
    low, dash, high = text.partition("-")
    ends = (inputs.parse_number(low) if low else 0.0, inputs.parse_number(high) if high else float("inf"))
    if not dash or ends[0] is None or ends[1] is None or not 0 <= ends[0] <= ends[1]:
        raise AttnbenchError(f"--gmacs must be a range LEAST-MOST such as 3-6, 3- or -6; got {inputs.brief(text)}")
    return ends[0], ends[1]


def _print(found: Survival) -> None:
    """Print the conditions with a number each, the tables that name them by it, and the answer in sentences."""
    from attnbench.report import survival
    from attnbench.report.terminal import open_console, print_words, rich_table

    console = open_console()
    if found.agreements:
        console.print("Conditions")
        numbers = {found.label(c): str(number) for number, c in enumerate(found.conditions, 1)}
        for label, number in numbers.items():
            print_words(console, f"{number:>2}  {label}")
        console.print()
        for table in (survival.pairs_table(found), survival.changes_table(found)):
            console.print(rich_table(_by_number(table, numbers), SHOWN))
            if len(table.rows) > SHOWN:
                more = f"{len(table.rows) - SHOWN} more rows: --out FOLDER writes all of them"
                print_words(console, more, "dim")
            console.print()
        if found.top1:
            print_words(console, FRONTS)
    for line in survival.words(found):
        print_words(console, line)


def _by_number(table: Table, numbers: Mapping[str, str]) -> Table:
    """The table for a terminal: a condition's number for its label, short headings, what differs at the end."""
    order = sorted(range(len(table.columns)), key=lambda place: table.columns[place].key == "changes")
    keys = [table.columns[place].key for place in order]
    columns = [replace(c, heading=SHORT.get(c.key, c.heading)) for c in (table.columns[place] for place in order)]
    rows = [
        tuple(numbers[str(row[p])] if key in ("one", "other") else row[p] for p, key in zip(order, keys, strict=True))
        for row in table.rows
    ]
    return replace(table, columns=tuple(columns), rows=tuple(rows))
