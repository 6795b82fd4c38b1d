"""`attnbench export`: a run's records as csv, json or parquet."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import click

from attnbench import inert
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError


@click.command("export")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=path_of("RUN"))
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@click.option("--out", type=path_of("--out"), help="The file to write. [stdout]")
def command(runs: tuple[Path, ...], form: str, out: Path | None) -> int:
    """Write the records of RUN..., one row per cell; docs/records.md explains the columns."""
    from attnbench.analysis import table as tables
    from attnbench.results.collection import run_folders
    from attnbench.results.garbage import search_put_off
    from attnbench.results.store import open_run

    with search_put_off():
        opened = [open_run(run) for run in run_folders(runs)]
        table, apart = tables.table(opened)
    warnings = [f"{run.folder.name}: {problem}" for run in opened for problem in run.problems]
    if len(opened) > 1:
        warnings += [f"{line}; the columns machine and run_id distinguish the rows" for line in apart]
    for line in warnings:
        click.echo(f"warning: {inert.terminal(line)}", err=True)
    try:
        if form == "parquet":
            if out is None:
                raise AttnbenchError("parquet is a binary format and needs a file; add --out FILE")
            try:
                table.to_parquet(out, index=False)
            except ImportError as error:
                raise AttnbenchError("parquet needs pyarrow; install it: pip install 'attnbench[parquet]'") from error
            return 0
        if form == "csv":
            spreadsheet = cache(inert.spreadsheet)  # most texts are in many rows
            for name in table.select_dtypes(exclude="number"):
                table[name] = [spreadsheet(value) if isinstance(value, str) else value for value in table[name]]
            text = table.to_csv(index=False)
        else:
            text = table.to_json(orient="records", indent=1) + "\n"
        if out:
            out.write_text(text)
        else:
            sys.stdout.write(text)
    except OSError as error:
        raise AttnbenchError(f"{out} cannot be written: {error.strerror or error}") from error
    return 0
