"""`attnbench run`: measure a sweep and store it as a run folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnbench.commands import options, slurm_options
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.execution.servers import EarlyServers
    from attnbench.planning.sweep import Sweep
    from attnbench.results.record import Record
    from attnbench.results.store import Run

LISTED = 5  # names of files in a message


@click.command("run")
@options.sweep_options
@slurm_options.slurm_options
@click.option("--out", type=path_of("--out"), help="The run folder. [runs/PROTOCOL-PLAN]")
@click.option("--fresh", is_flag=True, help="Measure again even if the run is complete; the old folder is kept.")
@click.option("--dry-run", is_flag=True, help="Show the plan; measure nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no table.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines to stdout.")
def command(out: Path | None, fresh: bool, dry_run: bool, quiet: bool, as_json: bool, **given: Any) -> int:
    """Measure a sweep and store it as a run folder.

    Every planned cell gets a record. If a run is interrupted, the same command resumes it. With --executor slurm the
    sweep is cut into jobs of a cluster (docs/cluster.md), and --out is a collection of their run folders.
    Exit codes: 0 done; 2 usage error; 3 some cells failed; 4 the run could not be finished; 130 interrupted, with
    everything saved.
    """
    if fresh and out is not None and _holds_the_working_directory(out):
        raise AttnbenchError(f"--fresh renames the old folder; {out} holds the working directory; run it from outside")
    sweep = options.read_sweep(given)  # before torch is imported, so that usage errors appear immediately
    request = slurm_options.read_request(given)
    if dry_run:
        from attnbench.commands.plan import show_plan

        return show_plan(sweep, as_json=as_json)
    if request is not None:
        if any(name == "within_s" for name, _ in sweep.overrides):
            raise AttnbenchError(
                "--within is the time of one run, and every job of Slurm is a run; leave one of them out"
            )
        if fresh:
            raise AttnbenchError("--fresh renames a run of this machine; with --executor slurm choose another --out")
        again = _this_command()
        return slurm_options.run_by_slurm(sweep, request, out, again, quiet=quiet, as_json=as_json)
    from attnbench.execution.servers import EarlyServers

    # they import torch in their own processes while this one imports it for the plan
    servers = EarlyServers.start(sweep)
    try:
        finished = measure(sweep, servers, out, fresh=fresh, quiet=quiet)
        return 130 if finished is None else _show(finished, quiet, as_json)
    finally:
        servers.close()


def _this_command() -> str:
    return shlex.join(["attnbench", *sys.argv[1:]])


def _next_steps(run: Run, folder: Path) -> list[str]:
    """What a user does next with a run, as commands."""
    if not any(r.outcome == "ok" for r in run.records):
        return [f"next: attnbench show {shlex.quote(str(folder))}   every reason in full"]
    steps = {f"attnbench report {shlex.quote(str(folder))} --out {shlex.quote(f'{folder}-report')}": "tables and page"}
    layers = [r.cell for r in run.records if r.cell.scope == "layer" and "throughput_img_per_s" in r.values]
    if layers:
        c = layers[0]
        size = str(c.res_h) if c.res_h == c.res_w else f"{c.res_h}x{c.res_w}"
        asked = f"--res {size} --batch {c.batch} --device {c.device}"
        steps[f"attnbench recommend {shlex.quote(str(folder))} {asked}"] = "the fastest"
    return ["next:", *(f"  {command}   # {why}" for command, why in steps.items())]


def _holds_the_working_directory(folder: Path) -> bool:
    here = Path(os.path.realpath("."))
    return Path(os.path.realpath(folder)) in (here, *here.parents)


def measure(sweep: Sweep, servers: EarlyServers, out: Path | None, *, fresh: bool, quiet: bool) -> Run | None:
    """Measure or resume the sweep's run, with its progress on stderr; None when it was interrupted."""
    from attnbench.commands.plan import headline, time_left
    from attnbench.execution import runner
    from attnbench.execution.progress import Bar, Silent, stderr_console
    from attnbench.report import terminal
    from attnbench.results import store

    errors = stderr_console()
    planned, known = runner.make_plan(sweep)
    folder = out or runner.default_folder(planned)
    if fresh:
        store.set_aside(folder)
    before = set(os.listdir())
    again = _this_command()
    if not quiet:
        for problem in known.problems:
            terminal.print_words(errors, f"warning: {problem}", "yellow")
        terminal.print_words(errors, headline(planned), lines=True)
    watcher = Silent() if quiet else Bar(time_left(planned, known), errors)
    try:
        runner.execute(planned, folder, watcher=watcher, command=again, servers=servers)
    except runner.Interrupted:
        done = len(store.open_run(folder).records)
        for line in (
            f"interrupted; {done} of {len(planned.cells)} records are in {folder}; resume with:",
            f"  {again}",
        ):
            errors.print(terminal.inert_text(line), soft_wrap=True)
        return None
    left = sorted(set(os.listdir()) - before - {folder.parts[0]})
    if left:
        text = f"files in the working directory that were not there before the run: {', '.join(left[:LISTED])}"
        more = " and more" if left[LISTED:] else ""
        terminal.print_words(errors, f"{text}{more}; a layer may have left them")
    return store.open_run(folder)


def failed(run: Run) -> list[Record]:
    """The records of cells that failed, which `run` ends with 3 for."""
    return [r for r in run.records if r.outcome not in ("ok", "declined", "oom")]


def _show(finished: Run, quiet: bool, as_json: bool) -> int:
    import json

    from attnbench import inert
    from attnbench.report import terminal

    if as_json:
        for record in finished.records:
            click.echo(json.dumps(record.as_dict()))
    elif not quiet:
        terminal.print_results(finished, terminal.open_console())
        click.echo(f"run folder: {inert.terminal(str(finished.folder))}")
        for line in _next_steps(finished, finished.folder):
            click.echo(inert.terminal(line))
    return 3 if failed(finished) else 0
