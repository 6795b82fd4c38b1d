"""`attnbench compare`: two runs, or the arms of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from attnbench import inputs
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.analysis.compare import Comparison


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="A [B]", type=path_of("RUN"))
@click.option("--arms", metavar="X,Y,...", help="Compare arms of run A: Y and the others against X.")
@click.option("--by", type=click.Choice(["time", "ratio"]), help="Compare times, or ratios to the reference. [time]")
@click.option("--margin", default="3%", show_default=True, help="A difference inside this margin counts as equivalent.")
@click.option("--level", default="95%", show_default=True, help="Confidence level of the intervals and verdicts.")
@click.option("--allow-cross-machine", is_flag=True, help="Allow different machines; compare ratios to the reference.")
@click.option(
    "--fail-on", multiple=True, type=click.Choice(["slower", "undecided"]), help="Exit with code 1 on it; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(
    runs: tuple[Path, ...], arms: str | None, by: str | None, margin: str, level: str, allow_cross_machine: bool,
    fail_on: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Compare run B with run A, or arms of run A with each other: faster, slower, equivalent or undecided.

    The ratio is a speed ratio: above 1, B (or the later arm) is faster. Verdicts are corrected for the number of
    rows (Holm). Exit code 1: a verdict that --fail-on names.
    """
    from attnbench.analysis import compare
    from attnbench.registry.variant import split_list

    margin_, level_ = read_fraction("margin", margin), read_fraction("level", level)
    if arms is not None:
        if len(runs) != 1 or by or allow_cross_machine:
            raise AttnbenchError(
                "--arms compares within one run; give one folder, without --by or --allow-cross-machine"
            )
        result = compare.compare_arms(runs[0], split_list(arms), margin=margin_, level=level_)
    elif len(runs) == 2:
        values: Literal["time", "ratio"] = "ratio" if by == "ratio" else "time"
        result = compare.compare_runs(
            *runs, by=values, margin=margin_, level=level_, across_machines=allow_cross_machine
        )
    else:
        raise AttnbenchError(f"compare needs two run folders, or one with --arms; got {len(runs)} without --arms")
    if as_json:
        rows = [row.as_dict() for row in result.rows]
        click.echo(json.dumps({**result.__dict__, "rows": rows}, indent=1, allow_nan=False))
    else:
        print_comparison(result)
    return 1 if {row.verdict for row in result.rows} & set(fail_on) else 0


def print_comparison(result: Comparison) -> None:
    """Print the table and its notes."""
    from rich.table import Table
    from rich.text import Text

    from attnbench.report.numbers import counted, estimate
    from attnbench.report.terminal import inert_text, open_console, print_words

    console = open_console()
    shared = [f"{name} {values.pop()}" for name, values in _said_of(result).items() if len(values) == 1]
    shared = [line for line in shared if line not in result.title]
    for line in (result.title, *shared):
        print_words(console, line)
    table = Table(box=None, pad_edge=False)
    varying = [name for name, values in _said_of(result).items() if len(values) > 1]
    for heading in ("variant", *varying, f"speed ratio, {result.level:.0%}", "p", "verdict"):
        table.add_column(heading, no_wrap=heading not in varying, overflow="fold")
    styles = {"faster": "green", "slower": "red", "equivalent": "", "undecided": "yellow"}
    for row in result.rows:
        low, high = (row.low, row.high) if row.high < float("inf") else (None, None)
        ratio = estimate(row.estimate, low, high, 4) if row.estimate == row.estimate else "-"
        words = (row.variant, *(getattr(row, name) for name in varying), ratio, f"{row.p:.2g}")
        table.add_row(*map(inert_text, words), Text(row.verdict, style=styles[row.verdict]))
    console.print(table)
    for note in _notes_of_rows(result):
        print_words(console, note)
    what = {"time": "times", "ratio": "ratios to the reference", "rounds": "ratios within shared rounds"}[result.by]
    method = (
        f"equivalent: within {result.margin:.1%}; p and verdicts by Holm's rule over {counted(len(result.rows), 'row')}"
    )
    for note in (f"{what}; {method}", *result.notes):
        print_words(console, note, "dim")


def _said_of(result: Comparison) -> dict[str, set[str]]:
    """What rows may share, which is then said once above them."""
    return {name: {getattr(row, name) for row in result.rows} for name in ("against", "conditions")}


def _notes_of_rows(result: Comparison) -> list[str]:
    """What each row's interval counts, or why it has none: each text once, with the rows it is said of."""
    said: dict[str, list[str]] = {}
    for row in result.rows:
        said.setdefault(row.reason or row.basis, []).append(row.variant)
    every = len(said) == 1
    return [text if every else f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in said.items() if text]


def read_fraction(name: str, text: str) -> float:
    """Read `3%` or `0.03`: a fraction between 0 and 1, both excluded."""
    number, percent, rest = text.strip().partition("%")
    value = (inputs.parse_number(number.strip()) or 0.0) / (100 if percent else 1)
    if rest or not 0 < value < 1:
        raise AttnbenchError(f"{name} must lie between 0 and 1, as 0.03 or 3%; got {inputs.brief(text)}")
    return value
