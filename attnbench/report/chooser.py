"""Every planned cell -> what the page's chooser loads: an index of the conditions, and a block of cells for each.

The page parses a block when its condition is chosen, so that the number of stored cells does not slow its first answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnbench import inert
from attnbench.analysis.summarize import reference_of
from attnbench.analysis.ties import Resolution
from attnbench.planning.cell import Cell
from attnbench.report.evidence import Evidence, Point
from attnbench.report.grouping import MEMORY, SPEED
from attnbench.report.measured import Resolutions, ran
from attnbench.report.mixing import mixing
from attnbench.report.tables import DATA_DIGITS
from attnbench.report.top1 import published_top1

# What the cells of one block share, in the order of the index; `runtime` and `kernel` vary within a block.
AXES: Mapping[str, Callable[[Point], str]] = {
    "scope": lambda p: p.cell.scope,
    "machine": lambda p: p.machine,
    "device": lambda p: p.cell.device,
    "res": lambda p: f"{p.cell.res_h}x{p.cell.res_w}",
    "batch": lambda p: str(p.cell.batch),
    "precision": lambda p: p.cell.precision,
    "pass": lambda p: p.cell.pass_,
    "dim": lambda p: str(p.cell.dim or ""),
    "heads": lambda p: str(p.cell.heads or ""),
    "stride": lambda p: str(p.cell.stride or ""),
    "threads": lambda p: str(p.cell.threads),
    "allocator": lambda p: p.cell.allocator,
    "protocol": lambda p: p.record.protocol if p.record else "",
    "run": lambda p: p.run_id,
}

# column of a block -> the number of a point that it holds
NUMBERS: Mapping[str, Callable[[Point], float | None]] = {
    "speed": lambda p: _value(p, SPEED, 0),
    "speed_low": lambda p: _value(p, SPEED, 1),
    "speed_high": lambda p: _value(p, SPEED, 2),
    "ratio": lambda p: _value(p, "ratio_to_reference", 0),
    "ratio_low": lambda p: _value(p, "ratio_to_reference", 1),
    "ratio_high": lambda p: _value(p, "ratio_to_reference", 2),
    "memory": lambda p: _value(p, MEMORY, 0),
    "macs": lambda p: _value(p, "macs", 0),
    "params": lambda p: _value(p, "params", 0),
    "top1": lambda p: top1.percent if (top1 := published_top1(p.cell)) else None,
}


def runtime(cell: Cell) -> str:
    """What executes the layer: `eager`, `openvino`, `compile graphs`."""
    return " ".join([cell.runtime, *["graphs"] * cell.graphs])


WORDS: Mapping[str, Callable[[Point], str]] = {
    "variant": lambda p: p.cell.variant,
    "runtime": lambda p: runtime(p.cell),
    "kernel": lambda p: p.cell.kernel,
    "ran": lambda p: ran(p),
    "outcome": lambda p: p.outcome,
    "why": lambda p: "" if p.ok else p.reason,
    "flags": lambda p: " ".join(p.flags),
}


@dataclass
class Names:
    """Texts by number, in the order in which they were first asked for."""

    of: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """The number of a text."""
        return self.of.setdefault(inert.plain(text), len(self.of))


@dataclass(frozen=True)
class Chooser:
    """What the page holds of the cells: `index` first, then one of `blocks` for each of its conditions."""

    index: Mapping[str, Any]
    blocks: Sequence[Mapping[str, Any]]
    first: int = 0


def chooser(evidence: Evidence, resolved: Resolutions) -> Chooser:
    """The index and the blocks; `resolved`: as `measured.resolutions` gives it."""
    by_condition: dict[tuple[str, ...], list[Point]] = {}
    for point in evidence.points:
        by_condition.setdefault(tuple(text(point) for text in AXES.values()), []).append(point)
    axes = {axis: Names() for axis in AXES}
    words = {name: Names() for name in WORDS}
    conditions = [
        [*(axes[axis].number(text) for axis, text in zip(AXES, key, strict=True)), _timed(points)]
        for key, points in by_condition.items()
    ]
    blocks = [_block(points, words, resolved) for points in by_condition.values()]
    index = {
        "axes": {axis: list(names.of) for axis, names in axes.items()},
        "conditions": conditions,
        "words": {name: list(names.of) for name, names in words.items()},
        "mixing": [mixing(variant) for variant in words["variant"].of],
    }
    return Chooser(index, blocks, _first(conditions, axes["scope"]))


def _timed(points: Sequence[Point]) -> int:
    return sum(p.get(SPEED) is not None for p in points)


def _first(conditions: Sequence[Sequence[int]], scopes: Names) -> int:
    """The condition that the page opens with: of layers where there are any timed, the one with most timed cells."""
    layers = scopes.of.get("layer", -1)
    return max(range(len(conditions)), key=lambda i: _merit(conditions[i], layers, i), default=0)


def _merit(condition: Sequence[int], layers: int, place: int) -> tuple[bool, int, int]:
    timed = condition[-1]
    return bool(timed) and condition[0] == layers, timed, -place


def _block(points: Sequence[Point], words: Mapping[str, Names], resolved: Resolutions) -> dict[str, Any]:
    found = resolved.get((points[0].run_id, points[0].cell.group), Resolution())
    columns: dict[str, list[Any]] = {
        **{name: [words[name].number(text(p)) for p in points] for name, text in WORDS.items()},
        **{name: [number(p) for p in points] for name, number in NUMBERS.items()},
        "ties": [found.letters.get(p.cell.id, "") for p in points] if found.letters else [""] * len(points),
    }
    reference = next((p.reference for p in points if p.reference), "")
    cells = [p.cell for p in points]
    base = reference_of(cells, reference)
    packed = {name: _packed(values) for name, values in columns.items()}
    return {
        **packed, "count": len(points), "limit": found.limit, "reference": reference,
        "base": cells.index(base) if base else None,
    }  # fmt: skip


def _packed(values: list[Any]) -> Any:
    """One value for a column that has the same in every row."""
    return values[0] if all(v == values[0] for v in values) else values


def _value(point: Point, quantity: str, end: int) -> float | None:
    estimate = point.get(quantity)
    value = (estimate.value, estimate.low, estimate.high)[end] if estimate else None
    return float(f"{value:.{DATA_DIGITS}g}") if value is not None and math.isfinite(value) else None
