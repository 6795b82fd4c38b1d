"""`attnbench atlas`: one page of everybody's runs."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench import inert
from attnbench.commands.parameters import path_of


@click.command("atlas")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=path_of("FOLDER"))
@click.option("--out", default=Path("atlas"), show_default=True, type=path_of("--out"), help="Output folder.")
def command(folders: tuple[Path, ...], out: Path) -> None:
    """Draw the tables, figures and the page of every run folder below FOLDER..., whoever measured it.

    Machines are kept apart, and every number is computed anew from the stored rounds. Start with OUT/index.html.
    """
    from attnbench.report import write
    from attnbench.report.numbers import counted
    from attnbench.results.collection import find

    runs = find(folders)
    click.echo(counted(len(runs), "run"), err=True)
    written = write(runs, out, say=lambda line: click.echo(inert.terminal(line), err=True))
    click.echo(inert.terminal(str(written[0])))
