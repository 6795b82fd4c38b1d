"""`attnbench check`: a mechanism, built-in or your own, against the contract."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import TYPE_CHECKING

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import whole_number
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.conformance import Report
    from attnbench.execution.workers import Workers
    from attnbench.registry import Registry
    from attnbench.registry.variant import Variant

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?(?P<settings>\[.*\])?")


@click.command("check")
@click.argument("names", nargs=-1, metavar="NAME | FILE.py[:CLASS] ...")
@click.option("--all", "every", is_flag=True, help="Every registered layer.")
@click.option("--against", help="A mechanism that must take the same weights and give the same output.")
@click.option("--no-compile", "eager", is_flag=True, help="Skip the checks that compile: seconds instead of a minute.")
@click.option(
    "--runtimes", "exports", is_flag=True, help="Also export to ONNX Runtime and OpenVINO: some seconds each."
)
@click.option("--dim", type=whole_number("--dim"), help="Channels; by default the smallest width that works.")
@click.option("--heads", type=whole_number("--heads"), help="Attention heads; goes with --dim.")
@click.option("--plugin", "plugins", multiple=True, metavar="[NS=]PATH", help="A Python file that declares mechanisms.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def command(
    names: tuple[str, ...],
    every: bool,
    against: str | None,
    eager: bool,
    exports: bool,
    dim: int | None,
    heads: int | None,
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Test mechanisms against the contract in docs/adding-a-mechanism.md.

    NAME is a registered name or a variant such as 'hilo[alpha=0.5]'; FILE.py[:CLASS] is a file with a class that
    @mechanism decorates. Ends with 1 when something fails.

    A mechanism without a reference can hide a wrong scale or a missing bias; --against NAME compares it with one.
    """
    import torch

    from attnbench import registry
    from attnbench.conformance import examine
    from attnbench.conformance.subject import Subject
    from attnbench.registry.variant import parse_variant

    if bool(names) == every:
        raise AttnbenchError("check takes names or --all; for example: attnbench check hilo")
    if (dim is None) != (heads is None):
        given, missing = ("--dim", "--heads") if heads is None else ("--heads", "--dim")
        raise AttnbenchError(f"--dim and --heads go together; got {given} alone; give {missing} too")
    files = [m["path"] for m in map(_file, names) if m]
    known = registry.load([*plugins, *dict.fromkeys(files)])
    for problem in known.problems:
        if any(path in problem for path in (*files, *plugins)):
            raise AttnbenchError(problem)
        click.echo(f"warning: {inert.terminal(problem)}", err=True)
    variants = [parse_variant(name) for name in known.names("layer")] if every else [_variant(known, n) for n in names]
    other = known.check(_variant(known, against)) if against else None
    torch.set_num_threads(1)  # more threads slow layers of this size down
    reports = []
    with _workers((*plugins, *files)) if exports else contextlib.nullcontext() as workers:
        for variant in variants:
            backend = None if eager else "inductor"
            subject = Subject(
                known, variant, backend=backend, against=other, dim=dim or 0, heads=heads or 0, workers=workers
            )
            with contextlib.redirect_stdout(sys.stderr):  # what a mechanism prints is not a result
                reports.append(examine(subject))
            if not as_json:
                _print(reports[-1])
    if as_json:
        click.echo(json.dumps({"schema": 1, "reports": [report.as_dict() for report in reports]}, indent=1))
    return 0 if all(report.passed for report in reports) else 1


def _workers(plugins: tuple[str, ...]) -> Workers:
    from attnbench.execution.workers import Workers
    from attnbench.planning import protocol
    from attnbench.planning.sweep import Sweep

    return Workers(Sweep(plugins=tuple(dict.fromkeys(plugins))), protocol.get("quick"))


def _file(text: str) -> re.Match[str] | None:
    """The parts of FILE.py[:CLASS], or None."""
    return _FILE.fullmatch(text) if len(text) <= inputs.LONGEST_VARIANT else None


def _variant(known: Registry, text: str) -> Variant:
    """Read a name, a variant, or a file with a class."""
    from pathlib import Path

    from attnbench.registry.plugin_file import PluginFile
    from attnbench.registry.variant import parse_variant

    found = _file(text)
    if not found:
        return known.check(parse_variant(text))
    path = Path(found["path"])
    here = {d.build.__name__: d for d in known if known.origins.get(d.name) == PluginFile(found["path"]).origin}
    wanted = found["name"] or (next(iter(here)) if len(here) == 1 else None)
    if wanted is None or wanted not in here:
        raise AttnbenchError(
            f"a file is checked as FILE.py:CLASS with a class that @attnbench.mechanism(...) decorates; "
            f"got {inputs.brief(text)}; "
            f"{path.name} has: {', '.join(here) or 'none'}"
        )
    return known.check(parse_variant(here[wanted].name + (found["settings"] or "")))


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    style = {"pass": "green", "fail": "bold red", "note": "dim"}
    title = Text(inert.terminal(f"{report.mechanism}  dim {report.dim}, {report.heads} heads"))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("why, and what to do", overflow="fold")
    for f in report.findings:
        words = Text(inert.terminal(f.reason, lines=True))
        if f.remedy:
            words.append(f"\n-> {inert.terminal(f.remedy, lines=True)}", style="yellow")
        table.add_row(f.check, Text(f.outcome, style=style[f.outcome]), words)
    console = Console()
    console.print(table)
    failed = sum(f.outcome == "fail" for f in report.findings)
    console.print(Text(f"{report.mechanism}: {f'{failed} failed' if failed else 'passed'}\n"))
