"""`attnbench run --executor slurm`: its options, on the command line or in the sweep file's table [slurm]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnbench import inputs
from attnbench.commands import options
from attnbench.errors import AttnbenchError
from attnbench.registry.variant import split_list

if TYPE_CHECKING:
    from attnbench.execution.slurm_queue import Request
    from attnbench.planning.sweep import Sweep

EXECUTORS = ("local", "slurm")
LEAST_MIN, LONGEST_MIN = 3, 366 * 24 * 60  # Slurm warns a job 90 s before its limit
_READ: dict[str, Callable[[str], Any]] = {
    "partition": str.strip,
    "constraint": lambda text: tuple(split_list(text)),
    "account": str.strip,
    "gres": str.strip,
    "time": lambda text: inputs.whole("slurm-time", text, least=LEAST_MIN, most=LONGEST_MIN),
    "mem": str.strip,
    "poll": lambda text: inputs.positive("slurm-poll", text, most=3600.0),
}
_FIELD = {"poll": "poll_s"}

_OPTIONS = (
    click.option("--executor", type=click.Choice(EXECUTORS), help="Measure here, or by Slurm jobs. [local]"),
    click.option("--slurm-partition", metavar="NAME", help="Of the jobs. [the cluster's]"),
    click.option("--slurm-constraint", metavar="LIST", help="Features of nodes: h100,a100 measures all on each."),
    click.option("--slurm-account", metavar="NAME", help="That the jobs are charged to. [yours]"),
    click.option("--slurm-gres", metavar="GRES", help="Generic resources of a job, e.g. gpu:1. [none]"),
    click.option("--slurm-time", metavar="MINUTES", help="After which a job is requeued and resumes. [60]"),
    click.option("--slurm-mem", metavar="SIZE", help="Memory of a job, e.g. 64G; 0: all of the node. [0]"),
    click.option("--slurm-poll", metavar="SECONDS", help="Between two looks at the queue. [10]"),
)


def slurm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an executor to a command, in the order of `_OPTIONS`."""
    for decorate in reversed(_OPTIONS):
        function = decorate(function)
    return function


def read_request(given: Mapping[str, Any]) -> Request | None:
    """What is asked of Slurm; None where the sweep is measured here.

    Args:
        given: the options' values by parameter name, those of the sweep among them.

    Raises:
        AttnbenchError: a value is malformed, or options of Slurm without its executor.
    """
    from attnbench.execution.slurm_queue import Request

    path = given.get("sweep_file")
    table = options.read_executor(path) if path is not None else {}
    typed = {name: given[f"slurm_{name}"] for name in _READ if given.get(f"slurm_{name}") is not None}
    in_file = table.pop("executor", "local")
    executor = given.get("executor") or in_file
    inputs.one_of("executor", executor, EXECUTORS)
    unknown = sorted(table.keys() - _READ.keys())
    if unknown:
        raise AttnbenchError(
            f"the table [slurm] of a sweep file may have {', '.join(_READ)}; got "
            f"{inputs.printable(unknown[0], inputs.LONGEST_NAME)} in {path}"
        )
    if executor != "slurm":
        if typed:
            raise AttnbenchError(f"--slurm-{next(iter(typed))} needs --executor slurm; add it")
        return None
    words = {_FIELD.get(name, name): _READ[name](str(text)) for name, text in {**table, **typed}.items()}
    for name, value in words.items():
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and (not text or not text.isprintable() or " " in text):
                raise AttnbenchError(f"slurm-{name} must be text without spaces; got {inputs.brief(text)}")
    return Request(**words)


def run_by_slurm(
    sweep: Sweep, request: Request, out: Path | None, again: str, *, quiet: bool, as_json: bool
) -> int:  # fmt: skip
    """Measure a sweep by Slurm jobs; the exit code, as of `attnbench run`."""
    from attnbench.commands.plan import headline
    from attnbench.execution import cluster
    from attnbench.execution.interrupts import Interrupted
    from attnbench.execution.progress import stderr_console
    from attnbench.report import terminal
    from attnbench.results.collection import run_folders
    from attnbench.results.store import open_run

    errors = stderr_console()

    def say(text: object) -> None:
        if not quiet:
            errors.print(terminal.inert_text(str(text), lines=True), soft_wrap=True)

    planned = cluster.plan_of(sweep)
    folder = out or cluster.default_folder(planned)
    say(headline(planned))
    try:
        cluster.run(planned, folder, request, command=again, watch=say, say=say, ask=_ask)
    except Interrupted:
        for line in (f"interrupted; what was measured is in {folder}; resume with:", f"  {again}"):
            errors.print(terminal.inert_text(line), soft_wrap=True)
        return 130
    runs = [open_run(part) for part in run_folders([folder])]
    records = [record for run in runs for record in run.records]
    if as_json:
        for record in records:
            click.echo(json.dumps(record.as_dict()))
    else:
        say(f"{len(records)} records of {len({run.facts.machine for run in runs})} machines; next: attnbench report")
        click.echo(f"collection: {folder}")
    return 3 if any(r.outcome not in ("ok", "declined", "oom") for r in records) else 0


def _ask(question: str) -> bool:
    """A yes or no from the terminal; no where there is none to ask."""
    return sys.stdin.isatty() and click.confirm(question, default=False, err=True)
