"""Two timed points -> their log speed ratio with its error, from the stored rounds. No torch.

Arms of one comparison group of one run are contrasted directly, so that what slowed a whole round cancels and the
reference's noise does not enter. Two runs of one group are linked by the reference that both timed. Otherwise the two
log speeds are subtracted: what changed between them stays in their errors. Only a run that stored no rounds is judged
by the error in its records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attnbench.analysis.between_runs import widened
from attnbench.analysis.contrasts import Contrast, log_speed
from attnbench.analysis.statistics import Difference
from attnbench.analysis.stopping import Rule
from attnbench.analysis.summarize import reference_of
from attnbench.report.evidence import Evidence, Point
from attnbench.results.events import Round

ONE_BLOCK = "one block of calls has no interval"
NO_ROUNDS = "no rounds are stored, and the records hold no error of a ratio to a shared reference"


def log_speed_ratio(one: Point, other: Point, evidence: Evidence) -> tuple[Difference, str]:
    """Log of the speed of `one` over that of `other`, and in words what its error rests on.

    Without a finite error there is no evidence: the difference then has 0 degrees of freedom, and the words say why.

    Raises:
        AttnbenchError: a stored journal is damaged.
    """
    mine, yours = evidence.rounds_of(one), evidence.rounds_of(other)
    if not mine or not yours:
        return _of_records(one, other)
    same_group = one.cell.group == other.cell.group
    if same_group and one.run_id == other.run_id:
        direct = evidence.contrast(one, other.cell.id)
        if direct is None:
            return _none("no round has both")
        return _difference(direct), f"{_count(direct)} that both were in" if _is_known(direct) else ONE_BLOCK
    if same_group and one.reference and one.reference == other.reference:
        to_a, to_b = _to_reference(one, evidence), _to_reference(other, evidence)
        if to_a and to_b:
            return _minus(to_a, to_b, f"each against {one.reference}")
    a, b = (_log_speed(point, rounds, evidence) for point, rounds in ((one, mine), (other, yours)))
    return _minus(a, b, "two log speeds") if a and b else _none("no round has it")


def looks_cost(points: Sequence[Point], evidence: Evidence) -> float:
    """What a p-value is multiplied by, because the runs of these points could end at several looks."""
    looks = max((evidence.runs_by_id[p.run_id].facts.looks for p in points), default=1)
    rule = Rule(looks=tuple(range(1, looks + 1)), target=1.0, budget_s=1.0)
    return (1 - rule.level) / (1 - rule.level_at_a_look)


def _log_speed(point: Point, rounds: Sequence[Round], evidence: Evidence) -> Contrast | None:
    """The log speed of a point alone, with what runs of its machine differ by in its error."""
    found = log_speed(rounds, point.cell.id)
    spread = evidence.spreads_of(point.run_id)[point.cell.id]
    return found and widened(found, spread.time_sd, spread.df)


def _to_reference(point: Point, evidence: Evidence) -> Contrast | None:
    """The contrast with the reference of the point's own run; exact of the reference itself."""
    cells = [c for c in evidence.runs_by_id[point.run_id].cells if c.group == point.cell.group]
    base = reference_of(cells, point.reference)
    if base is None:
        return None
    if base.id == point.cell.id:
        return Contrast(log_ratio=0.0, error=0.0, df=math.inf, rounds=0, processes=0, units=0)
    return evidence.contrast(point, base.id)


def _of_records(one: Point, other: Point) -> tuple[Difference, str]:
    if one.cell.group != other.cell.group or not one.reference or one.reference != other.reference:
        return _none(NO_ROUNDS)
    a, b = _recorded(one), _recorded(other)
    if a is None or b is None:
        return _none(NO_ROUNDS)
    return _minus(a, b, f"the records' errors against {one.reference}: no rounds are stored")


def _recorded(point: Point) -> Contrast | None:
    """The ratio to the reference as a record holds it; None where it holds no error."""
    values = point.record.values if point.record else {}
    if point.cell.variant == point.reference and values.get("ratio_to_reference") == 1:
        return Contrast(log_ratio=0.0, error=0.0, df=math.inf, rounds=0, processes=0, units=0)
    if not {"ratio_to_reference", "ratio_error", "ratio_df"} <= set(values) or values["ratio_to_reference"] <= 0:
        return None
    return Contrast(
        log_ratio=math.log(values["ratio_to_reference"]), error=values["ratio_error"], df=values["ratio_df"],
        rounds=int(values.get("ratio_rounds", 0)), processes=int(values.get("processes", 0)), units=0,
    )  # fmt: skip


def _minus(a: Contrast, b: Contrast, basis: str) -> tuple[Difference, str]:
    """Difference of two independent contrasts; Satterthwaite's degrees of freedom."""
    if not (_is_known(a) and _is_known(b)):
        return _none(ONE_BLOCK)
    u, v = a.error**2, b.error**2
    scale = u**2 / a.df + v**2 / b.df
    df = (u + v) ** 2 / scale if scale else min(a.df, b.df)
    counts = "".join(f", {_count(c)}" for c in (a, b) if c.rounds)
    return Difference(a.log_ratio - b.log_ratio, math.hypot(a.error, b.error), df), basis + counts


def _difference(c: Contrast) -> Difference:
    return Difference(c.log_ratio, c.error, c.df)


def _is_known(c: Contrast) -> bool:
    return math.isfinite(c.error) and c.df > 0


def _none(why: str) -> tuple[Difference, str]:
    return Difference(math.nan, math.inf, 0.0), why


def _count(c: Contrast) -> str:
    return f"{c.rounds} rounds in {c.processes} process{'es' if c.processes != 1 else ''}"
