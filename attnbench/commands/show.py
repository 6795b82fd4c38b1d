"""`attnbench show`: describe one mechanism, one run folder, or one stored self-test."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import click

from attnbench import inert


@click.command("show")
@click.argument("name")
@click.option("--plugin", "plugins", multiple=True, metavar="[NS=]PATH", help="A file with mechanisms; repeatable.")
def command(name: str, plugins: tuple[str, ...]) -> int:
    """Describe the run in folder NAME, the self-test in file NAME.json, or the mechanism or model NAME."""
    if name.endswith(".json") and os.path.isfile(name):
        return _show_selftest(Path(name))
    return _show_run(Path(name)) if os.path.isdir(name) else _show_mechanism(name, plugins)


def _show_selftest(path: Path) -> int:
    from attnbench.commands.selftest import print_result
    from attnbench.selftest import stored

    data = stored.load(path)
    click.echo(inert.terminal(stored.heading(data)))
    print_result(data)
    return 0


def _show_run(folder: Path) -> int:
    from attnbench.report.terminal import inert_text, open_console, print_results, print_words
    from attnbench.results.store import open_run

    run, console = open_run(folder), open_console()
    facts = run.facts
    console.print(inert_text(f"run {run.id} of {facts.created}, plan {facts.planned.hash}"), soft_wrap=True)
    console.print(inert_text(f"on {facts.machine}, made by: {facts.command}"), soft_wrap=True)
    for problem in run.problems:
        print_words(console, problem, "yellow")
    print_results(run, console)
    if run.missing:
        remedy = "rerun the command above to resume"
        print_words(console, f"{run.missing} planned cells have no record yet; {remedy}", "yellow")
    return 0


def _show_mechanism(name: str, plugins: tuple[str, ...]) -> int:
    from attnbench import registry
    from attnbench.registry.variant import parse_variant, value_text
    from attnbench.report.numbers import si
    from attnbench.report.prose import docstring_lines
    from attnbench.report.terminal import inert_text, open_console, print_words

    known = registry.load(plugins)
    for problem in known.problems:
        click.echo(f"warning: {inert.terminal(problem)}", err=True)
    variant = known.check(parse_variant(name))
    d, console = known[variant.name], open_console()
    console.print(inert_text(f"{d.name}: {d.title}", "bold"))
    module = sys.modules.get(d.build.__module__)
    for line in docstring_lines(inspect.cleandoc(module.__doc__ or "") if module else "", console.width):
        console.print(inert_text(line), soft_wrap=True)
    console.print()
    for stride in (None, *sorted(d.per_stride)):
        settings = d.defaults if stride is None else d.settings_at(stride)
        words = ", ".join(f"{k}={value_text(v)}" for k, v in settings.items()) or "none"
        print_words(console, f"settings{f' at stride {stride}' if stride else ''}: {words}")
    print_words(console, f"kernels: {', '.join(d.kernels)}")
    if d.macs and d.scope == "layer":
        for grid in ((14, 14), (24, 24), (32, 32), (64, 64)):
            size = known.size(variant, grid=grid)
            reason = known.declines(variant, size)
            try:
                count = f"declined: {reason}" if reason else si(known.macs(d.name, size), "MACs")
            except ValueError as error:
                count = str(error)
            print_words(console, f"  {grid[0]}x{grid[1]} tokens, dim 768, 12 heads: {count}")
    for title, text in d.notes.items():
        print_words(console, f"{title}: {text}", lines=True)
    return 0
