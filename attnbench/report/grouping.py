"""Points that may be compared: the same condition, one point a variant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from attnbench.report.evidence import Evidence, Point, conditions, groups

GROUP = ("machine", "device", "precision", "pass_", "batch", "dim", "heads", "stride", "threads", "allocator", "scope")
DRAWN = 12  # conditions that all have a figure of every kind
DRAWN_OF_MORE = 4  # where there are more: nobody looks through figures of hundreds
SPEED, MEMORY = "throughput_img_per_s", "peak_memory_bytes"


def eager(evidence: Evidence, *scopes: str) -> list[Point]:
    """The points of the plain eager kernel."""
    return [p for p in evidence.points if p.cell.scope in scopes and p.cell.as_published]


def comparable(evidence: Evidence, *need: str) -> list[list[Point]]:
    """Groups under one condition and resolution in which at least two variants have the quantities.

    Zero is no speed and no memory, but a count of MACs: pooling multiplies nothing.
    """
    found = groups(eager(evidence, "layer", "backbone", "task"), *GROUP, "res_h", "res_w").values()
    kept = [once([p for p in ps if all(_usable(p, quantity) for quantity in need)]) for ps in found]
    return [ps for ps in kept if len(ps) > 1]


def _usable(p: Point, quantity: str) -> bool:
    found = p.get(quantity)
    return found is not None and (found.value > 0 or (quantity == "macs" and found.value == 0))


def drawn(conditions: int) -> int:
    """Of how many of so many conditions figures are drawn."""
    return conditions if conditions <= DRAWN else DRAWN_OF_MORE


def busiest(evidence: Evidence) -> Evidence:
    """The evidence of the conditions that are drawn: all, or of many those with most timed cells.

    A figure takes one to two seconds, and its condition is one of hundreds where many runs are joined.
    """
    found = groups(evidence.points, *GROUP)
    most = drawn(len(found))
    if most == len(found):
        return evidence
    timed = {key: sum(p.get(SPEED) is not None for p in points) for key, points in found.items()}
    kept = {id(p) for key in sorted(found, key=lambda key: -timed[key])[:most] for p in found[key]}
    return replace(evidence, points=tuple(p for p in evidence.points if id(p) in kept))


def once(points: Sequence[Point]) -> list[Point]:
    """One point a variant: of several runs, the one that `evidence.gather` sorts first."""
    return list({p.cell.variant: p for p in reversed(points)}.values())[::-1]


def where(p: Point) -> str:
    """The machine and every condition, in words."""
    return f"{p.machine}: {p.cell.res_h}x{p.cell.res_w}, {conditions(p.cell)}"


def plain_where(p: Point) -> str:
    """The machine, resolution, batch and pass, in words."""
    return f"{p.machine}: {p.cell.res_h}x{p.cell.res_w}, batch {p.cell.batch}, {p.cell.pass_} pass"


def condition(sizes: Sequence[Sequence[Point]]) -> str:
    """The condition that several sizes share, in words."""
    p = sizes[0][0]
    return f"{p.machine}: {conditions(p.cell)}, eager kernel"


def size(p: Point) -> str:
    """The resolution, in words."""
    return f"{p.cell.res_h}x{p.cell.res_w}"


def tokens(p: Point) -> int:
    """The tokens of a layer."""
    return p.cell.grid[0] * p.cell.grid[1]


def value(p: Point, quantity: str) -> float:
    """A quantity that is known to be there."""
    found = p.get(quantity)
    assert found is not None
    return found.value


def fastest(points: Sequence[Point], count: int = 5) -> list[str]:
    """The mechanisms of the fastest points, each once."""
    order = sorted((p for p in points if p.get(SPEED)), key=lambda p: (-value(p, SPEED), p.cell.variant))
    return list(dict.fromkeys(p.cell.mechanism for p in order))[:count]


def usual_range(values: Sequence[float]) -> tuple[float, float]:
    """The ends between which all but a few far positive values lie, so that an axis is not stretched by an outlier.

    Three quartile ranges of the logarithms, at least a factor of four, beyond the quartiles.
    """
    logs = sorted(math.log(v) for v in values)
    if not logs:
        return 0.0, math.inf
    low, high = (logs[round(q * (len(logs) - 1))] for q in (0.25, 0.75))
    reach = max(3 * (high - low), math.log(4))
    return math.exp(low - reach), math.exp(high + reach)


def usual(points: Sequence[Point], *quantities: str) -> tuple[list[Point], list[Point]]:
    """The points within the usual range of every quantity, and the others, which a chart names in its caption."""
    ends = {q: usual_range([value(p, q) for p in points]) for q in quantities}
    inside = [p for p in points if all(low <= value(p, q) <= high for q, (low, high) in ends.items())]
    return inside, [p for p in points if p not in inside]


def left_out(names: Sequence[str]) -> str:
    """A caption's sentence on what lies beyond the axes; empty where nothing does."""
    return f" Beyond the axes, so that they do not stretch them: {', '.join(names)}." if names else ""


def suffix(number_: int) -> str:
    """What distinguishes the second chart of a kind from the first, as a suffix of its name."""
    return "" if number_ == 1 else f"-{number_}"
