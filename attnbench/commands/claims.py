"""`attnbench claims`: judge the published claims against run folders."""

from __future__ import annotations

from pathlib import Path

import click

from attnbench import inert, inputs
from attnbench.commands.parameters import path_of


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
        for judgement in shown:
            for line in _lines(judgement, full=bool(only)):
                click.echo(inert.terminal(line))
        click.echo(claims.tally(judged), err=True)
    else:
        click.echo(text_of(claims.table(shown), form), nl=False)
    if fail_on and any(j.verdict == fail_on for j in judged):
        raise SystemExit(1)


def _lines(judgement: object, *, full: bool) -> list[str]:
    from attnbench.report.claims import Judgement, claimed, details
    from attnbench.report.tables import number

    assert isinstance(judgement, Judgement)
    j, deciding = judgement, judgement.deciding
    words = [f"{j.verdict:<14} {j.id}"]
    if j.machine:
        words.append(f"on {j.machine}")
    if deciding:
        e = deciding.interval(j.level)
        ends = "" if e.low is None or e.high is None else f" [{number(e.low, 3)}, {number(e.high, 3)}]"
        words.append(f"{deciding.comparison.what} {number(e.value, 3)}{ends}, claimed {claimed(deciding)}")
    if j.reason:
        words.append(j.reason)
    parts = (j.claim.statement, details(j), j.command and f"decided by: {j.command}") if full else ()
    return ["; ".join(words), *(f"  {part}" for part in parts if part)]
