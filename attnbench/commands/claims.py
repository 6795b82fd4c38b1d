"""`attnbench claims`: judge the published claims against run folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of

if TYPE_CHECKING:
    from attnbench.report.claims import Judgement


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=path_of("RUN"))
@click.option(
    "--verdict", type=click.Choice(["reproduced", "contradicted", "undecided", "not applicable"]),
    help="Show only the claims with this verdict.",
)  # fmt: skip
@click.option("--claim", "only", metavar="ID", help="Show one claim, with every comparison.")
@click.option(
    "--fail-on", type=click.Choice(["contradicted", "undecided"]), help="Exit with code 1 if a claim has this verdict."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "md", "csv", "tex", "json"]), default="text", show_default=True
)
def command(runs: tuple[Path, ...], verdict: str | None, only: str | None, fail_on: str | None, form: str) -> None:
    """Judge every claim of the papers against the records of RUN... [reports/runs/*].

    Only evidence of the same kind decides a claim: a claim about GPUs needs a GPU, a claim about counts needs no
    special machine. An undecided claim prints the reason and the command that would decide it.
    """
    from attnbench.errors import AttnbenchError
    from attnbench.published.claims import claims as ledger
    from attnbench.report import claims
    from attnbench.report.evidence import gather, stored
    from attnbench.report.terminal import open_console, print_words
    from attnbench.report.write import text_of

    known = [claim.id for claim in ledger()]
    if only and only not in known:
        import difflib

        near = difflib.get_close_matches(only[: inputs.LONGEST_NAME], known, n=3)
        nearest = ", ".join(near) or "none; `attnbench claims` lists all"
        raise AttnbenchError(f"--claim must be the id of a claim; got {inputs.brief(only)}; nearest: {nearest}")
    evidence = gather(runs or stored())
    for line in evidence.problems:
        click.echo(f"warning: {inert.terminal(line)}", err=True)
    judged = claims.judge(evidence)
    shown = [j for j in judged if (not verdict or j.verdict == verdict) and (not only or j.id == only)]
    if form == "text":
        console = open_console()
        for line in _lines(shown, full=bool(only), width=console.width if console.is_terminal else None):
            print_words(console, line)
        click.echo(claims.tally(judged), err=True)
    else:
        click.echo(text_of(claims.table(shown), form), nl=False)
    if fail_on and any(j.verdict == fail_on for j in judged):
        raise SystemExit(1)


def _lines(shown: Sequence[Judgement], *, full: bool, width: int | None) -> Iterator[str]:
    """A heading for each machine, and under it a row for each claim: verdict, id, what was found and what is claimed.

    Args:
        shown: the claims.
        full: with the statement, every comparison and the command that decides it.
        width: of the terminal, in characters; where a row does not fit, its figures stand below it. None: no limit.
    """
    from attnbench.report.claims import brief_reason, claimed, details

    by_machine: dict[str, list[Judgement]] = {}
    for judgement in shown:
        by_machine.setdefault(judgement.machine, []).append(judgement)
    for machine, judgements in by_machine.items():
        yield f"On {machine}:" if machine else "On any machine:"
        rows = [
            (j.verdict, j.id, _found(j), claimed(j.deciding) and f"claimed {claimed(j.deciding)}") for j in judgements
        ]
        widths = [max(len(row[place]) for row in rows) for place in range(4)]
        narrow = width is not None and sum(widths) + 2 * 3 > width
        for j, row in zip(judgements, rows, strict=True):
            cells = [text.ljust(wide) for text, wide in zip(row, widths, strict=True)]
            yield "  ".join(cells[:2] if narrow else cells).rstrip()
            if narrow and row[2]:
                yield f"    {row[2]}, {row[3]}"
            if j.reason:
                yield f"    {j.reason if full else brief_reason(j)}"
            if full:
                yield f"    {j.claim.statement}"
                yield from (f"    {part}" for part in (details(j), j.command and f"decided by: {j.command}") if part)


def _found(judgement: Judgement) -> str:
    from attnbench.report.numbers import estimate

    deciding = judgement.deciding
    if deciding is None:
        return ""
    e = deciding.interval(judgement.level)
    return f"{deciding.comparison.what} {estimate(e.value, e.low, e.high, 3)}"
