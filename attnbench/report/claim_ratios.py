"""One comparison of a claim -> its ratio in the records, with its error; or why there is none. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.analysis.statistics import Difference, t_p
from attnbench.published.partners import Partner
from attnbench.published.rules import ClaimComparison
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.matching import comparable, first_value, is_on, partners, ran_as_published
from attnbench.report.timed_ratios import log_speed_ratio, looks_cost

TINY = 1e-9
TIMED = {"throughput_img_per_s": 1, "latency_s": -1}  # the power of the speed ratio that a quantity's ratio is


@dataclass(frozen=True)
class ComparisonResult:
    """One comparison and what the records say of it.

    Attributes:
        ratio: subject / baseline; None without evidence, for the `reason`.
        error: the standard error of the ratio's logarithm; 0 of a count.
        df: degrees of freedom of `error`; infinite of a count.
        looks_cost: what the interim looks of the runs cost: each p-value is multiplied by it.
        basis: arithmetic, counted, or the conditions of both and what the error rests on.
    """

    comparison: ClaimComparison
    ratio: float | None = None
    error: float = 0.0
    df: float = math.inf
    looks_cost: float = 1.0
    basis: str = ""
    reason: str = ""

    @property
    def is_exact(self) -> bool:
        """Counted or computed: no chance is in it."""
        return math.isinf(self.df)

    @property
    def p_values(self) -> tuple[float, float]:
        """Against "the comparison does not hold" and against "it holds"."""
        c = self.comparison
        if c.relation == "near":
            margin = math.log1p(c.margin) + TINY
            low, high = math.log(c.bound) - margin, math.log(c.bound) + margin
            inside = max(self._above(low), self._below(high))
            outside = 2 * min(self._below(low), self._above(high))
            return inside, min(1.0, outside)
        up, down = self._above(math.log(c.bound)), self._below(math.log(c.bound))
        return (up, down) if c.relation == "higher" else (down, up)

    @property
    def distance(self) -> float:
        """How far the ratio lies from the claimed bound, as a logarithm."""
        assert self.ratio is not None
        return abs(math.log(self.ratio / self.comparison.bound))

    def interval(self, level: float) -> Estimate:
        """The ratio with its interval at this level, interim looks included; a count has none."""
        assert self.ratio is not None
        if self.is_exact:
            return Estimate(self.ratio)
        found = Difference(math.log(self.ratio), self.error, self.df).interval(1 - (1 - level) / self.looks_cost)
        return Estimate(self.ratio, math.exp(found.low), math.exp(found.high))

    def _above(self, bound: float) -> float:
        """The one-sided p-value against "the log ratio is at most the bound"."""
        assert self.ratio is not None
        return self._one_sided(math.log(self.ratio) - bound)

    def _below(self, bound: float) -> float:
        assert self.ratio is not None
        return self._one_sided(bound - math.log(self.ratio))

    def _one_sided(self, beyond: float) -> float:
        if not self.error:
            return 0.0 if beyond > 0 else 1.0
        half = t_p(beyond, self.error, self.df) / 2
        return min(1.0, self.looks_cost * (half if beyond > 0 else 1 - half))


def compare(c: ClaimComparison, machine: str, evidence: Evidence) -> ComparisonResult:
    """The ratio of a comparison: of closed formulas, of counts from anywhere, or as measured on one machine."""
    if c.value is not None and not c.quantity:
        return ComparisonResult(c, c.value, basis="arithmetic")
    subjects, baselines = _points(c, c.subject, c.resolution, machine, evidence), []
    if c.value is None:
        baselines = _points(c, c.baseline, c.baseline_resolution or c.resolution, machine, evidence)
    lacking = _lacking(c, subjects, baselines)
    if lacking:
        return ComparisonResult(c, reason=lacking)
    if not c.device:
        return _counted_ratio(c, subjects, baselines)
    why_not: list[str] = []
    for one, other in comparable(subjects, baselines, c.batch):
        found = _measured_ratio(c, one, other, evidence)
        if found.ratio is not None:
            return found
        why_not.append(found.reason)
    reason = why_not[0] if why_not else "the two were not measured under the same conditions in these runs"
    return ComparisonResult(c, reason=reason)


def _points(
    c: ClaimComparison, partner: Partner, resolution: tuple[int, int], machine: str, evidence: Evidence
) -> list[Point]:
    found = partners(evidence, partner, resolution, machine if c.device else None)
    if c.device:
        found = [
            p for p in found if p.ok and is_on(p, c.device) and p.cell.pass_ == c.pass_ and ran_as_published(p.cell)
        ]
    return [p for p in found if p.get(c.quantity) is not None or p.get("macs_mmdet") is not None]


def _lacking(c: ClaimComparison, subjects: Sequence[Point], baselines: Sequence[Point]) -> str:
    """Which of the two has no record, and where it was looked for; empty where both have one."""
    lacking = [] if subjects else [c.subject[1]]
    if c.value is None and not baselines:
        lacking.append(c.baseline[1])
    if not lacking:
        return ""
    names = " and ".join(n[0] if n else "a model that this project has not" for n in lacking)
    return f"{names} {_where(c)} {'are' if len(lacking) > 1 else 'is'} not measured in these runs"


def _where(c: ClaimComparison) -> str:
    side = f"{c.resolution[0]}x{c.resolution[1]}" if c.resolution[0] != c.resolution[1] else str(c.resolution[0])
    device = {"cpu": " on a CPU", "gpu": " on a GPU"}.get(c.device, "")
    return f"at {side}{' in training' if c.pass_ == 'train' else ''}{device}"


def _counted_ratio(c: ClaimComparison, subjects: Sequence[Point], baselines: Sequence[Point]) -> ComparisonResult:
    top, under = _count(c, subjects), _count(c, baselines) if c.value is None else c.value
    if not top or not under:
        return ComparisonResult(c, reason="not counted in these runs")
    return ComparisonResult(c, top / under, basis="counted")


def _count(c: ClaimComparison, points: Sequence[Point]) -> float | None:
    """A count: by mmdetection's rule for a task's MACs where that was recorded, as the papers counted it."""
    by_mmdetection = c.quantity == "macs" and c.subject[0] == "task"
    found = first_value(points, ("macs_mmdet", "macs") if by_mmdetection else (c.quantity,))
    return found[1].value if found else None


def _measured_ratio(c: ClaimComparison, one: Point, other: Point, evidence: Evidence) -> ComparisonResult:
    """A pair's ratio: of memory as it was counted, of time with the error that its rounds give."""
    a, b = one.get(c.quantity), other.get(c.quantity)
    if a is None or b is None or a.value <= 0 or b.value <= 0:
        return ComparisonResult(c, reason=f"{c.quantity} is not measured in these runs")
    basis = f"batch {one.cell.batch}, {one.cell.precision}, {one.cell.kernel}, {one.machine}"
    if c.quantity not in TIMED:
        return ComparisonResult(c, a.value / b.value, basis=basis)
    found, words = log_speed_ratio(one, other, evidence)
    if not found.df:
        return ComparisonResult(c, reason=words)
    log_ratio = found.estimate * TIMED[c.quantity]
    return ComparisonResult(
        c, math.exp(log_ratio), found.error, found.df, looks_cost((one, other), evidence), f"{basis}; {words}"
    )
