"""`attnbench report`: tables, figures and one page from run folders."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--out", default=Path("reports"), show_default=True, type=click.Path(path_type=Path), help="Folder.")
def command(runs: tuple[Path, ...], out: Path) -> None:
    """Draw every table and figure of the papers beside what RUN... measured, and one page to look at.

    No GPU is needed and nothing is measured. Start with OUT/index.html.
    """
    from attnbench.report import write

    written = write(runs, out)
    click.echo(f"{written[0]}")
    click.echo(f"{len(written) - 1} files of tables and figures beside it", err=True)
