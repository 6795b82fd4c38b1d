"""One comparison of a claim -> its ratio in the records, with its error; or why there is none. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from attnbench.published.partners import Partner
from attnbench.published.rules import ClaimComparison
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.matching import comparable, first_value, is_on, partners, ran_as_published

TINY = 1e-9
_NORMAL = NormalDist()


@dataclass(frozen=True)
class ComparisonResult:
    """One comparison and what the records say of it.

    Attributes:
        ratio: subject / baseline; None without evidence, for the `reason`.
        error: the standard error of the ratio's logarithm; 0 of a count.
        basis: arithmetic, counted, or the conditions that both were measured under.
    """

    comparison: ClaimComparison
    ratio: float | None = None
    error: float = 0.0
    basis: str = ""
    reason: str = ""

    @property
    def p_values(self) -> tuple[float, float]:
        """Against "the comparison does not hold" and against "it holds"."""
        assert self.ratio is not None
        c, at = self.comparison, math.log(self.ratio)
        if c.relation == "near":
            margin = math.log1p(c.margin) + TINY
            low, high = math.log(c.bound) - margin, math.log(c.bound) + margin
            inside = max(_above(at, self.error, low), _below(at, self.error, high))
            outside = 2 * min(_below(at, self.error, low), _above(at, self.error, high))
            return inside, min(1.0, outside)
        up, down = _above(at, self.error, math.log(c.bound)), _below(at, self.error, math.log(c.bound))
        return (up, down) if c.relation == "higher" else (down, up)

    @property
    def distance(self) -> float:
        """How far the ratio lies from the claimed bound, as a logarithm."""
        assert self.ratio is not None
        return abs(math.log(self.ratio / self.comparison.bound))

    def interval(self, level: float) -> Estimate:
        """The ratio with its interval at this level; a count has none."""
        assert self.ratio is not None
        if not self.error:
            return Estimate(self.ratio)
        reach = math.exp(_NORMAL.inv_cdf(0.5 + level / 2) * self.error)
        return Estimate(self.ratio, self.ratio / reach, self.ratio * reach)


def _above(at: float, error: float, bound: float) -> float:
    """The p-value against "the ratio is at most the bound"; all three are logarithms."""
    if not error:
        return 0.0 if at > bound else 1.0
    return 1 - _NORMAL.cdf((at - bound) / error)


def _below(at: float, error: float, bound: float) -> float:
    if not error:
        return 0.0 if at < bound else 1.0
    return _NORMAL.cdf((at - bound) / error)


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
    for one, other in comparable(subjects, baselines, c.batch):
        answer = _measured_ratio(c, one, other)
        if answer:
            basis = f"batch {one.cell.batch}, {one.cell.precision}, {one.cell.kernel}, {one.machine}"
            return ComparisonResult(c, *answer, basis=basis)
    return ComparisonResult(c, reason="the two were not measured under the same conditions in these runs")


def _points(
    c: ClaimComparison, partner: Partner, resolution: tuple[int, int], machine: str, evidence: Evidence
) -> list[Point]:
    found = partners(evidence, partner, resolution)
    if c.device:
        found = [
            p
            for p in found
            if p.ok
            and p.machine == machine
            and is_on(p, c.device)
            and p.cell.pass_ == c.pass_
            and ran_as_published(p.cell)
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


def _measured_ratio(c: ClaimComparison, one: Point, other: Point) -> tuple[float, float] | None:
    """Ratio and standard error of its logarithm: through the shared reference where there is one."""
    a, b = one.get(c.quantity), other.get(c.quantity)
    if a is None or b is None or a.value <= 0 or b.value <= 0:
        return None
    shared = one.reference and one.reference == other.reference and one.cell.group == other.cell.group
    if c.quantity == "throughput_img_per_s" and shared:
        to_a, to_b = one.get("ratio_to_reference"), other.get("ratio_to_reference")
        if to_a and to_b and to_a.value > 0 and to_b.value > 0:
            a, b = to_a, to_b
    return a.value / b.value, math.hypot(_log_error(a), _log_error(b))


def _log_error(e: Estimate) -> float:
    """The standard error of an estimate's logarithm, from its 95 % interval."""
    if e.low is None or e.high is None or e.low <= 0 or e.high <= e.low:
        return 0.0
    return math.log(e.high / e.low) / (2 * _NORMAL.inv_cdf(0.975))
