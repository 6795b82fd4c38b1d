"""`attnbench run`: measure a sweep and store it as a run folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnbench.commands import options

if TYPE_CHECKING:
    from attnbench.execution.fork_server import ForkServer
    from attnbench.planning.sweep import Sweep

LISTED = 5  # names of files in a message


@click.command("run")
@options.sweep_options
@click.option("--out", type=click.Path(), help="The run folder. [runs/PROTOCOL-PLAN]")
@click.option("--fresh", is_flag=True, help="Measure again even if the run is complete; the old folder is kept.")
@click.option("--dry-run", is_flag=True, help="Show the plan; measure nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no table.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines to stdout.")
def command(out: str | None, fresh: bool, dry_run: bool, quiet: bool, as_json: bool, **given: Any) -> int:
    """Measure a sweep and store it as a run folder.

    Every planned cell gets a record. If a run is interrupted, the same command resumes it.
    Exit codes: 0 done; 2 usage error; 3 some cells failed; 4 the run could not be finished; 130 interrupted, with
    everything saved.
    """
    sweep = options.read_sweep(given)  # before torch is imported, so that usage errors appear immediately
    if dry_run:
        from attnbench.commands.plan import show_plan

        return show_plan(sweep, as_json=as_json)
    from attnbench.execution.fork_server import ForkServer

    server = ForkServer(sweep.allocator[0])  # imports torch in its own process while this one imports it for the plan
    try:
        return _measure(sweep, server, out, fresh, quiet, as_json)
    finally:
        server.close()


def _measure(sweep: Sweep, server: ForkServer, out: str | None, fresh: bool, quiet: bool, as_json: bool) -> int:
    import json

    from rich.console import Console
    from rich.text import Text

    from attnbench.commands.plan import headline, time_left
    from attnbench.execution import runner
    from attnbench.execution.progress import Bar, Silent
    from attnbench.report import terminal
    from attnbench.results import store

    errors = Console(stderr=True)
    planned, known = runner.make_plan(sweep)
    folder = Path(out) if out else runner.default_folder(planned)
    if fresh:
        store.set_aside(folder)
    before = set(os.listdir())
    again = shlex.join(["attnbench", *sys.argv[1:]])
    if not quiet:
        for problem in known.problems:
            errors.print(Text(f"warning: {problem}", style="yellow"), soft_wrap=True)
        errors.print(Text(headline(planned)), soft_wrap=True)
    watcher = Silent() if quiet else Bar(time_left(planned, known), errors)
    try:
        runner.execute(planned, folder, watcher=watcher, command=again, server=server)
    except runner.Interrupted:
        done = len(store.open_run(folder).records)
        errors.print(
            Text(f"interrupted; {done} of {len(planned.cells)} records are in {folder}; resume with:\n  {again}"),
            soft_wrap=True,
        )
        return 130
    left = sorted(set(os.listdir()) - before - {folder.parts[0]})
    if left:
        text = f"files in the working directory that were not there before the run: {', '.join(left[:LISTED])}"
        errors.print(Text(f"{text}{' and more' if left[LISTED:] else ''}; a layer may have left them"), soft_wrap=True)
    finished = store.open_run(folder)
    if as_json:
        for record in finished.records:
            click.echo(json.dumps(record.as_dict()))
    elif not quiet:
        terminal.print_results(finished, terminal.open_console())
        click.echo(f"run folder: {folder}")
    failed = [r for r in finished.records if r.outcome not in ("ok", "declined", "oom")]
    return 3 if failed else 0
