"""`attnbench report`: tables, figures and one page from run folders."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench import inert
from attnbench.commands.parameters import path_of


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=path_of("RUN"))
@click.option("--out", default=Path("reports"), show_default=True, type=path_of("--out"), help="Output folder.")
def command(runs: tuple[Path, ...], out: Path) -> None:
    """Draw the tables and figures of the papers next to what RUN... measured, and one HTML page.

    Nothing is measured and no GPU is needed. Start with OUT/index.html.
    """
    from attnbench.report import write

    written = write(runs, out)
    click.echo(inert.terminal(str(written[0])))
    click.echo(f"wrote {len(written) - 1} more files with tables and figures", err=True)
