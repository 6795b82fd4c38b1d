"""Two runs, or the arms of one -> verdicts: faster, slower, equivalent or undecided.

Arms of one run ran in the same rounds: what is judged is their contrast (attnbench.analysis.contrasts). A run that
could stop at several looks pays for them: each p is multiplied by what the looks cost.

Two runs share no round. Each process of a run gives one value, the median over its rounds of the log time (or
of the log ratio to the reference), and the difference of the runs' means has Welch's interval over processes.
That assumes that the processes of a run are a fair sample of what the machine does, then and now: what changed
between the runs for all of them (load, heat, a clock) is part of the difference and outside the interval. The
ratio to the reference, which shares its rounds, is nearly free of it; the reference's own row shows it.

A verdict is Holm's over the table: faster or slower where the difference from 1 is; equivalent, which comes
first, where the interval lies inside the margin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from attnbench.analysis import statistics, summarize
from attnbench.analysis.between_runs import RunSpread, between, spreads, widened, widened_difference
from attnbench.analysis.contrasts import Contrast, contrasts
from attnbench.analysis.machines import machine_of, same_machine
from attnbench.analysis.stopping import Rule
from attnbench.errors import AttnbenchError
from attnbench.machine.fingerprint import differences
from attnbench.planning.cell import Cell
from attnbench.registry.variant import parse_variant
from attnbench.results.events import Round
from attnbench.results.store import Run, open_run, read_rounds

Verdict = Literal["faster", "slower", "equivalent", "undecided"]
By = Literal["time", "ratio", "rounds"]  # rounds: the arms of one run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. The ratio is a speed ratio: above 1 the second (run B, the later arm) is faster.

    Attributes:
        variant: what is judged; `against` what it is judged by (an arm, or the same cell in run A).
        low, high: its interval at the table's level, for this row alone; (0, inf) where none can be had.
        p: two-sided, that the ratio is 1; `p_equivalent`: the larger of two one-sided p (TOST), that it lies outside
            the margin. Both Holm's.
        basis: what the interval counts, in words. `reason`: why there is no interval.
    """

    variant: str
    against: str
    conditions: str
    cell: str
    estimate: float = math.nan
    low: float = 0.0
    high: float = math.inf
    p: float = 1.0
    p_equivalent: float = 1.0
    verdict: Verdict = "undecided"
    basis: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what is not finite becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in self.__dict__.items()}


@dataclass(frozen=True)
class Comparison:
    """A table of verdicts; `notes` say what a reader must know before believing it."""

    title: str
    by: By
    level: float
    margin: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def compare_arms(folder: Path | str, arms: Sequence[str], *, margin: float = 0.03, level: float = 0.95) -> Comparison:
    """Judge each later arm of a run against the first, wherever both were timed in the same rounds.

    Raises:
        AttnbenchError: fewer than two arms, an arm that the run does not have, or no round with both.
    """
    _check(margin, level)
    names = [str(parse_variant(text)) for text in arms]
    if len(names) < 2 or len(set(names)) < len(names):
        raise AttnbenchError(f"--arms needs two or more different variants; got {', '.join(names) or 'none'}")
    return compare_pairs(folder, [(names[0], name) for name in names[1:]], margin=margin, level=level)


def compare_pairs(
    folder: Path | str, pairs: Sequence[tuple[str, str]], *, margin: float = 0.03, level: float = 0.95
) -> Comparison:
    """Judge the second arm of each pair against the first, wherever both were timed in the same rounds of a run.

    Raises:
        AttnbenchError: an arm that the run does not have, or no round with both arms of a pair.
    """
    _check(margin, level)
    run = open_run(folder)
    for name in dict.fromkeys(arm for pair in pairs for arm in pair):
        if name not in {c.variant for c in run.cells}:
            known = ", ".join(dict.fromkeys(c.variant for c in run.cells))
            raise AttnbenchError(f"an arm must be a variant of the run; got {name}; {run.folder} has {known}")
    looks = run.facts.looks
    rounds, rows, of_arm = read_rounds(run.folder), [], spreads(run.records)
    for base, cell in itertools.product(run.cells, run.cells):
        if (base.variant, cell.variant) in pairs and (cell.group, cell.execution) == (base.group, base.execution):
            found = contrasts(rounds.get(cell.group, ()), [cell.id], base.id).get(cell.id)
            found = found and widened(found, *between(of_arm[cell.id], of_arm[base.id]))
            rows.append(_arm(cell, base, found, margin, level, looks))
    against = ", ".join(dict.fromkeys(base for base, _ in pairs))
    if not rows or not any(math.isfinite(r.estimate) for r in rows):
        names = [*dict.fromkeys(arm for pair in pairs for arm in pair)]
        raise AttnbenchError(f"arms are compared over rounds that both were in; {run.folder} has none of {names}")
    notes = [] if looks == 1 else [f"the run could end at {looks} looks; each interval and p allows for it"]
    return _judged(
        f"arms of run {run.id} on {run.facts.machine}, against {against}", "rounds", level, margin, rows, notes
    )


def compare_runs(
    a: Path | str, b: Path | str, *, by: Literal["time", "ratio"] = "time", margin: float = 0.03, level: float = 0.95,
    across_machines: bool = False,
) -> Comparison:  # fmt: skip
    """Judge every cell that both runs timed: how fast run B is against run A.

    Args:
        a: the earlier run's folder.
        b: the later run's folder.
        by: compare times, or the ratios to the reference arm.
        margin: equivalent means within 1 / (1 + margin) and 1 + margin.
        level: confidence level of each interval, and 1 - level the error rate that Holm's rule holds.
        across_machines: the runs may be of different machines; ratios to the reference are compared.

    Raises:
        AttnbenchError: different machines, unless allowed; no cell in common; no common reference.
    """
    _check(margin, level)
    first, second = open_run(a), open_run(b)
    notes, differ = _between(first, second)
    if differ and not across_machines:
        raise AttnbenchError(
            f"times are compared on one machine alone; {first.folder} ({first.facts.machine}) and "
            f"{second.folder} ({second.facts.machine}) are not known to be of one: "
            f"{'; '.join(differ)}; --allow-cross-machine compares the ratios to the reference instead"
            f"{_busy(first, second)}"
        )
    if differ:
        by = "ratio"
        notes.append(f"different machines: ratios to the reference alone are compared ({'; '.join(differ)})")
    reference = _reference(first, second, by)
    mine, yours = read_rounds(first.folder), read_rounds(second.folder)
    of_runs = spreads(first.records), spreads(second.records)
    there, rows, neither = {c.id for c in second.cells}, [], 0
    for cell in first.cells:
        base = summarize.reference_of([c for c in first.cells if c.group == cell.group], reference)
        if cell.id not in there or (by == "ratio" and (base is None or base.id == cell.id or base.id not in there)):
            continue
        values = [_process_values(rounds.get(cell.group, ()), cell, base, by) for rounds in (mine, yours)]
        if any(values):
            apart = _of_both([of_run[cell.id] for of_run in of_runs], by)
            rows.append(_across(cell, values, (first, second), margin, level, apart))
        else:
            neither += 1
    if not rows:
        raise AttnbenchError(
            f"runs are compared over cells that both have timed; {first.folder} and {second.folder} share none"
        )
    if neither:
        notes.append(f"{neither} cell{'s were' if neither > 1 else ' was'} timed in neither")
    for run, other in ((first, second), (second, first)):
        alone = len({c.id for c in run.cells} - {c.id for c in other.cells})
        if alone:
            notes.append(f"{alone} cell{'s are' if alone > 1 else ' is'} in {run.folder} alone")
    a, b = first.facts.machine, second.facts.machine
    title = f"run B ({second.id}) against run A ({first.id}), on {a if not differ else f'{b} and {a}'}"
    found = _judged(title, by, level, margin, rows, notes)
    return replace(found, notes=(*found.notes, *_drift(found, reference)))


def _arm(cell: Cell, base: Cell, found: Contrast | None, margin: float, level: float, looks: int) -> Row:
    row = Row(variant=cell.variant, against=base.variant, conditions=cell.conditions(), cell=cell.id)
    if found is None:
        return replace(row, reason="no round has both")
    rule = Rule(looks=tuple(range(1, looks + 1)), target=1.0, budget_s=1.0, level=level)
    interval = found.interval(rule.level_at_a_look)
    paid = (1 - level) / (1 - rule.level_at_a_look)  # what the interim looks cost a p-value
    over = f"{found.rounds} rounds in {found.processes} process{'es' if found.processes > 1 else ''}"
    near = 1 / (1 + margin) < found.ratio < 1 + margin
    outside = max(found.p(side * math.log1p(margin)) for side in (-1, 1)) / 2  # one-sided, as `near` holds
    return replace(
        row, estimate=found.ratio, low=interval.low, high=interval.high, basis=over,
        p=min(1.0, paid * found.p()), p_equivalent=min(1.0, paid * outside) if near else 1.0,
        reason="" if math.isfinite(interval.high) else "one round is too few for an interval",
    )  # fmt: skip


def _across(
    cell: Cell, values: list[list[float]], runs: tuple[Run, Run], margin: float, level: float,
    apart: tuple[float, float],
) -> Row:  # fmt: skip
    """`apart`: what runs differ by, as a standard deviation with its degrees of freedom."""
    row = Row(variant=cell.variant, against="itself in run A", conditions=cell.conditions(), cell=cell.id)
    for of, run, name in zip(values, runs, "AB", strict=True):
        if not of:
            return replace(row, reason=f"run {name}: {_why_not(run, cell)}")
    if min(map(len, values)) < 2:
        reason = "an interval between runs needs two processes of each"
        return replace(row, estimate=math.exp(fmean(values[1]) - fmean(values[0])), reason=reason)
    found = widened_difference(statistics.welch(values[1], values[0]), *apart)
    interval, reach = found.interval(level), math.log1p(margin)
    return replace(
        row, estimate=math.exp(found.estimate), low=math.exp(interval.low), high=statistics.exp(interval.high),
        p=found.p(), p_equivalent=max(found.p(reach), found.p(-reach)) / 2 if abs(found.estimate) < reach else 1.0,
        basis=f"{len(values[0])} processes of run A, {len(values[1])} of run B",
    )  # fmt: skip


def _of_both(both: Sequence[RunSpread], by: By) -> tuple[float, float]:
    """What two runs of one cell differ by, as a standard deviation and its degrees of freedom, the fewer of the two."""
    sds = [spread.time_sd if by == "time" else spread.ratio_sd for spread in both]
    return math.hypot(*sds), min(spread.df for spread in both)


def _judged(title: str, by: By, level: float, margin: float, rows: Sequence[Row], notes: Sequence[str]) -> Comparison:
    """Holm's rule over the table, for each of the two questions; then a verdict for each row."""
    tested = [r for r in rows if math.isfinite(r.high)]
    same = dict(zip(map(id, tested), statistics.holm([r.p for r in tested]), strict=True))
    near = dict(zip(map(id, tested), statistics.holm([r.p_equivalent for r in tested]), strict=True))
    judged = []
    for row in rows:
        p, q = same.get(id(row), 1.0), near.get(id(row), 1.0)
        verdict: Verdict = "undecided"
        if q <= 1 - level:
            verdict = "equivalent"
        elif p <= 1 - level:
            verdict = "faster" if row.estimate > 1 else "slower"
        judged.append(replace(row, p=p, p_equivalent=q, verdict=verdict))
    return Comparison(title, by, level, margin, tuple(judged), tuple(notes))


def _process_values(rounds: Sequence[Round], cell: Cell, base: Cell | None, by: By) -> list[float]:
    """One log speed a process: the median over its rounds."""
    if by == "time":
        return [median(values) for values in summarize.log_speeds(rounds, cell.id)]
    assert base is not None
    return [median(values) for values in summarize.log_ratios(rounds, cell.id, base.id)]


def _between(first: Run, second: Run) -> tuple[list[str], list[str]]:
    """Notes on what else differs between two runs; what makes their machines two, each reason with both values."""
    notes = []
    if first.facts.environment.host != second.facts.environment.host:
        notes.append("two hosts of the same kind: what distinguishes them is part of the difference")
    mine, yours = first.facts.protocol, second.facts.protocol
    for name in sorted({*mine, *yours} - {"meaning"}):
        if mine.get(name) != yours.get(name):
            notes.append(f"protocols differ in {name}: {_number(mine.get(name))} in A, {_number(yours.get(name))} in B")
    return notes, same_machine(machine_of(first), machine_of(second))


def _number(value: object) -> str:
    """A number of a protocol in words; None where the run is older than it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "not stored" if value is None else str(value)


def _busy(first: Run, second: Run) -> str:
    """A remedy where only the ceilings differ."""
    mine, yours = (run.facts.environment.fingerprint for run in (first, second))
    if differences(mine, yours) or not mine.known:
        return ""
    return "; if it is one machine, it was busy while one of them ran: measure again when it is idle"


def _reference(first: Run, second: Run, by: By) -> str:
    names = [run.facts.reference for run in (first, second)]
    if by == "ratio" and (names[0] != names[1] or names[0] == "none"):
        raise AttnbenchError(
            f"ratios are compared to one reference; {first.folder} has {names[0]}, {second.folder} has {names[1]}"
        )
    return names[0]


def _why_not(run: Run, cell: Cell) -> str:
    record = next((r for r in run.records if r.cell.id == cell.id), None)
    if record is None:
        return "not measured yet"
    return f"{record.outcome}: {record.reason}" if record.outcome != "ok" else "it was not timed"


def _drift(found: Comparison, reference: str) -> list[str]:
    moved = [r for r in found.rows if r.variant == reference and r.verdict in ("faster", "slower")]
    if found.by != "time" or not moved:
        return []
    most = max(moved, key=lambda r: abs(math.log(r.estimate)))
    return [
        f"the reference {reference} itself is {most.verdict} ({most.estimate:.3f}x at {most.conditions}): the machine "
        "changed between the runs, or it did; --by ratio compares what shared its rounds"
    ]


def _check(margin: float, level: float) -> None:
    if not 0 < margin < 1 or not 0 < level < 1:
        raise AttnbenchError(f"margin and level must lie between 0 and 1; got margin={margin}, level={level}")
