"""`attnbench ab`: two states of a git repository as arms of one comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnbench import inert
from attnbench.commands import options
from attnbench.commands.compare import print_comparison, read_fraction
from attnbench.commands.parameters import path_of
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief

if TYPE_CHECKING:
    from attnbench.analysis.compare import Comparison
    from attnbench.execution.revision import State
    from attnbench.planning.cell import Cell
    from attnbench.planning.sweep import Sweep
    from attnbench.report.ab import OutputComparison
    from attnbench.results.store import Run

BASE, HEAD = "base", "head"
FAILURES = ("slower", "undecided", "different")
_AXES = ("mechanism", "backbone", "task")


@click.command("ab")
@click.option("--base", required=True, metavar="REV", help="The revision to compare with: HEAD~1, main, a hash.")
@click.option("--head", metavar="REV", help="The revision that is judged. [the working tree]")
@options.sweep_options
@click.option("--margin", default="3%", show_default=True, help="A difference inside this margin counts as equivalent.")
@click.option("--level", default="95%", show_default=True, help="Confidence level of the intervals and verdicts.")
@click.option(
    "--fail-on", multiple=True, metavar="WORD",
    help="Exit with code 1 on it: slower, slower:5% (the interval lies beyond), undecided, different (outputs).",
)  # fmt: skip
@click.option("--markdown", "markdown_file", type=path_of("--markdown"), help="Also write the result as Markdown.")
@click.option("--out", type=path_of("--out"), help="The run folder. [runs/PROTOCOL-PLAN]")
@click.option("--fresh", is_flag=True, help="Measure again even if the run is complete; the old folder is kept.")
@click.option("--quiet", "-q", is_flag=True, help="Print no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(
    base: str, head: str | None, margin: str, level: str, fail_on: tuple[str, ...], markdown_file: Path | None,
    out: Path | None, fresh: bool, quiet: bool, as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Compare the mechanisms of one file in two states of its git repository.

    Both states are copied; the repository is only read. Base and head are timed in the same rounds, and their outputs
    are compared with the same weights and input. Exit codes: 0 done; 1 what --fail-on names; 2 usage error; 3 some
    cells failed.

        attnbench ab --base main --plugin mine.py -m mine --fail-on slower:5%
    """
    limits = [_limit(word) for word in fail_on]
    margin_, level_ = read_fraction("margin", margin), read_fraction("level", level)
    sweep = options.read_sweep(given)
    _check_request(sweep)
    states = _states(base, head, sweep.plugins[0])
    sweep = both(sweep, states)
    pairs = check_versions(sweep, states)
    run = _measure(sweep, out, fresh, quiet)
    if run is None:
        return 130
    from attnbench.analysis.compare import compare_pairs
    from attnbench.commands.run import failed
    from attnbench.report.ab import as_markdown
    from attnbench.report.terminal import open_console, print_words

    lost = failed(run)
    for record in lost:
        click.echo(inert.terminal(f"{record.cell.variant}: {record.outcome}: {record.reason}"), err=True)
    if {r.cell.variant.partition(":")[0] for r in run.records if r.outcome == "ok"} != {BASE, HEAD}:
        return 3
    titles = (states[BASE].title, states[HEAD].title)
    found = replace(
        compare_pairs(run.folder, pairs, margin=margin_, level=level_),
        title=f"head ({titles[1]}) against base ({titles[0]}) on {run.facts.machine}",
    )
    agreements = _agreements(sweep, run, pairs)
    if as_json:
        _print_json(found, agreements, titles)
    else:
        print_comparison(found)
        for each in agreements:
            print_words(open_console(), each.text())
        click.echo(f"run folder: {inert.terminal(str(run.folder))}")
    if markdown_file is not None:
        _write(markdown_file, as_markdown(found, agreements, titles, run.facts.machine))
    reasons = failures(found, agreements, limits)
    for reason in reasons:
        click.echo(inert.terminal(f"--fail-on {reason}"), err=True)
    return 1 if reasons else 3 if lost else 0


def _limit(text: str) -> tuple[str, float | None]:
    """Read `slower:5%` as ("slower", 0.05).

    Raises:
        AttnbenchError: it is another word.
    """
    word, colon, share = text.partition(":")
    if word not in FAILURES or (colon and word != "slower"):
        raise AttnbenchError(f"--fail-on must be slower, slower:SHARE, undecided or different; got {brief(text)}")
    return word, read_fraction("the share of --fail-on slower", share) if colon else None


def _check_request(sweep: Sweep) -> None:
    """Refuse what two states of one file cannot be compared with.

    Raises:
        AttnbenchError: the rule and the remedy.
    """
    from attnbench.planning.sweep import Sweep as Defaults
    from attnbench.registry.plugin_file import parse_plugin

    files = [parse_plugin(text) for text in sweep.plugins]
    if len(files) != 1 or files[0].namespace:
        raise AttnbenchError(
            f"ab compares two states of one file, --plugin FILE.py; got {brief(sweep.plugins) if files else 'none'}"
        )
    if not any(getattr(sweep, axis) for axis in _AXES):
        raise AttnbenchError("ab needs the name of what it compares; for example -m van")
    if sweep.reference != Defaults().reference:
        raise AttnbenchError("base is the reference of ab; leave --reference out")


def _states(base: str, head: str | None, plugin: str) -> dict[str, State]:
    """The folders of the two states, each with the plugin in it, by namespace."""
    from attnbench.execution import revision

    repository = revision.repository_of(Path(plugin))
    working = revision.working_tree(repository) if head is None else None
    return {BASE: revision.revision(repository, base), HEAD: working or revision.revision(repository, head or "")}


def both(sweep: Sweep, states: dict[str, State]) -> Sweep:
    """The sweep with every arm in both versions; the first of base is the reference."""
    from attnbench.execution import revision

    relative = revision.inside_repository(Path(sweep.plugins[0]))
    plugins = tuple(f"{name}={revision.file_in(state, relative)}" for name, state in states.items())
    layers, backbones, tasks = (
        tuple(f"{name}:{text}" for text in getattr(sweep, axis) for name in states) for axis in _AXES
    )
    settings = tuple((f"{name}:{key}", values) for key, values in sweep.settings for name in states)
    return replace(
        sweep, plugins=plugins, settings=settings, reference=[*layers, *backbones, *tasks][0],
        mechanism=layers, backbone=backbones, task=tasks,
    )  # fmt: skip


def check_versions(sweep: Sweep, states: dict[str, State]) -> list[tuple[str, str]]:
    """The pairs of variants to compare, base first.

    Raises:
        AttnbenchError: a state's file cannot be imported, or the versions have other settings.
    """
    from attnbench import registry
    from attnbench.execution import runner
    from attnbench.registry.plugin_file import parse_plugin

    known = registry.load(sweep.plugins, rehearse=True)
    for text, state in zip(sweep.plugins, states.values(), strict=True):
        for problem in known.problems:
            if problem.startswith(f"{parse_plugin(text).origin} was left out"):
                raise AttnbenchError(f"both states must import; {state.title} does not: {problem}")
    planned, _ = runner.make_plan(sweep)
    by_name = {name: {_unnamed(c): c for c in planned.cells if c.variant.startswith(f"{name}:")} for name in states}
    points = list(dict.fromkeys([*by_name[BASE], *by_name[HEAD]]))
    for point in points:
        if point not in by_name[BASE] or point not in by_name[HEAD]:
            raise AttnbenchError(
                f"both versions must have the same variants; got {point.variant} of one alone: it spells the default "
                "settings of the other; leave it out"
            )
    for point in points:
        _demand_same_settings(by_name[BASE][point], by_name[HEAD][point])
    return [(f"{BASE}:{v}", f"{HEAD}:{v}") for v in dict.fromkeys(point.variant for point in by_name[BASE])]


def _unnamed(cell: Cell) -> Cell:
    """The cell without its namespace, and without the settings that its version fills in."""
    return replace(cell, variant=cell.variant.partition(":")[2], settings=())


def _demand_same_settings(old: Cell, new: Cell) -> None:
    theirs, mine = dict(old.settings), dict(new.settings)
    for key in sorted(mine.keys() | theirs.keys()):
        if key in mine and key in theirs and mine[key] == theirs[key]:
            continue
        name = old.mechanism.partition(":")[2]
        values = " and ".join(f"{s.get(key, 'no such setting')} in {n}" for s, n in ((theirs, BASE), (mine, HEAD)))
        remedy = "`attnbench run` with --plugin base=FILE.py --plugin head=FILE.py compares any two variants"
        if key in mine and key in theirs:
            remedy = f"give it: -m '{name}[{key}=...]'"
        raise AttnbenchError(
            f"both versions must be built with the same settings; got for {key} of {name}: {values}; {remedy}"
        )


def _measure(sweep: Sweep, out: Path | None, fresh: bool, quiet: bool) -> Run | None:
    from attnbench.commands.run import measure
    from attnbench.execution.servers import EarlyServers

    servers = EarlyServers.start(sweep)
    try:
        return measure(sweep, servers, out, fresh=fresh, quiet=quiet)
    finally:
        servers.close()


def _agreements(sweep: Sweep, run: Run, pairs: list[tuple[str, str]]) -> list[OutputComparison]:
    """Compare the outputs of each pair once for each precision and kernel, in a process of its own."""
    from attnbench.execution.workers import Workers
    from attnbench.planning import protocol
    from attnbench.report.ab import OutputComparison
    from attnbench.runtimes import TOLERANCES

    found: dict[tuple[str, str, str], OutputComparison] = {}
    with Workers(sweep, protocol.get(sweep.protocol, sweep.overrides)) as workers:
        for old in run.cells:
            for new in run.cells:
                key = (new.variant, new.precision, new.kernel)
                alike = (old.group, old.execution) == (new.group, new.execution)
                if (old.variant, new.variant) not in pairs or not alike or key in found:
                    continue
                answer = workers.agreement(new, old)
                found[key] = OutputComparison(*key, answer.difference, TOLERANCES[new.precision], answer.why)
    return list(found.values())


def failures(
    found: Comparison, agreements: list[OutputComparison], limits: list[tuple[str, float | None]]
) -> list[str]:
    """What --fail-on names and what has happened, in words."""
    reasons = []
    for word, share in limits:
        for row in found.rows:
            if share is not None and row.high < 1 / (1 + share):
                reasons.append(f"slower:{share:.3g}: {row.variant} is {row.low:.3f} to {row.high:.3f} times as fast")
            elif share is None and row.verdict == word:
                reasons.append(f"{word}: {row.variant} at {row.conditions}")
        if word == "different":
            reasons += [f"different: {each.text()}" for each in agreements if not each.agrees]
    return reasons


def _print_json(found: Comparison, agreements: list[OutputComparison], titles: tuple[str, str]) -> None:
    rows = [row.as_dict() for row in found.rows]
    outputs = [{**vars(each), "agrees": each.agrees} for each in agreements]
    words = {**vars(found), "rows": rows, "outputs": outputs, BASE: titles[0], HEAD: titles[1]}
    click.echo(json.dumps(words, indent=1, allow_nan=False))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AttnbenchError(
            f"{path} cannot be written: {error.strerror or error}; the run is kept; choose another --markdown"
        ) from error
