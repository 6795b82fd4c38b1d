"""Points that may be compared: the same condition, one point a variant."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.report.evidence import Evidence, Point, conditions, groups

GROUP = ("machine", "device", "precision", "pass_", "batch", "dim", "heads", "stride", "threads", "allocator", "scope")
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


def once(points: Sequence[Point]) -> list[Point]:
    """One point a variant: the first run's."""
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


def suffix(number_: int) -> str:
    """What distinguishes the second chart of a kind from the first, as a suffix of its name."""
    return "" if number_ == 1 else f"-{number_}"
