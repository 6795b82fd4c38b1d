"""`attnbench claims`: judge the published claims by run folders."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=click.Path(path_type=Path))
@click.option(
    "--verdict", type=click.Choice(["reproduced", "contradicted", "undecided", "not applicable"]), help="Only these."
)
@click.option("--claim", "only", metavar="ID", help="One claim, with every comparison.")
@click.option(
    "--fail-on", type=click.Choice(["contradicted", "undecided"]), help="Exit 1 where there is such a verdict."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "md", "csv", "tex", "json"]), default="text", show_default=True
)
def command(runs: tuple[Path, ...], verdict: str | None, only: str | None, fail_on: str | None, form: str) -> None:
    """Judge every claim of the papers by the records of RUN... [reports/runs/*].

    A claim is reproduced or contradicted only by evidence of its own kind: counts anywhere, a claim about
    GPUs by a GPU. What is open says why, and the command that would settle it.
    """
    from attnbench.errors import AttnbenchError
    from attnbench.published.claims import claims as ledger
    from attnbench.report import claims
    from attnbench.report.evidence import gather, stored
    from attnbench.report.write import text_of

    known = [claim.id for claim in ledger()]
    if only and only not in known:
        import difflib

        near = difflib.get_close_matches(only, known, n=3)
        raise AttnbenchError(
            f"a claim is named by its id; got {only!r}; nearest: {', '.join(near) or 'see `attnbench claims`'}"
        )
    judged = claims.judge(gather(runs or stored()))
    shown = [j for j in judged if (not verdict or j.verdict == verdict) and (not only or j.id == only)]
    if form == "text":
        for judgement in shown:
            click.echo(_line(judgement, full=bool(only)))
        click.echo(claims.tally(judged), err=True)
    else:
        click.echo(text_of(claims.table(shown), form), nl=False)
    if fail_on and any(j.verdict == fail_on for j in judged):
        raise SystemExit(1)


def _line(judgement: object, *, full: bool) -> str:
    from attnbench.report.claims import Judgement, claimed, details
    from attnbench.report.tables import number

    assert isinstance(judgement, Judgement)
    j, most = judgement, judgement.deciding
    words = [f"{j.verdict:<14} {j.id}"]
    if j.machine:
        words.append(f"on {j.machine}")
    if most:
        e = most.interval(j.level)
        ends = "" if e.low is None or e.high is None else f" [{number(e.low, 3)}, {number(e.high, 3)}]"
        words.append(f"{most.comparison.what} {number(e.value, 3)}{ends}, claimed {claimed(most)}")
    if j.reason:
        words.append(j.reason)
    line = "; ".join(words)
    if full:
        parts = (j.claim.statement, details(j), j.command and f"settled by: {j.command}")
        line += "".join(f"\n  {part}" for part in parts if part)
    return line
