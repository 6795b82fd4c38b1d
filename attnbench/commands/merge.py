"""`attnbench merge`: several runs, of one machine or of many, in one folder."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench import inert
from attnbench.commands.parameters import path_of


@click.command("merge")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=path_of("RUN"))
@click.option("--out", required=True, type=path_of("--out"), help="The collection: a new folder, or one to add to.")
def command(runs: tuple[Path, ...], out: Path) -> int:
    """Collect RUN..., run folders or collections of them, in the folder --out; other commands read it as its runs.

    Each run stays whole, with its raw rounds and its machine. A run that comes twice is kept once: the copy with most
    records, then with the longest journal. Merging again changes nothing.
    """
    from attnbench.report.numbers import counted
    from attnbench.results.merge import merge

    done = merge(runs, out)
    click.echo(inert.terminal(str(out)))
    click.echo(
        f"{counted(done.records, 'record')} in {counted(done.added + done.replaced + done.kept, 'run')}: "
        f"{done.added} added, {done.replaced} replaced by a longer copy, {done.kept} were there",
        err=True,
    )
    return 0
