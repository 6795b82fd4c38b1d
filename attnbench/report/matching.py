"""Which stored records may stand beside a published number: the one place that decides it.

A published number has a partner (scope, variants in order of preference) and a resolution. A count may come from
any record of the partner; a speed or a memory only from one that ran as the papers' did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.published.partners import Partner
from attnbench.registry.declaration import Setting
from attnbench.registry.defaults import declared_defaults
from attnbench.registry.variant import parse_variant, value_text
from attnbench.report.evidence import Estimate, Evidence, Point

LAYER_SIZE = (768, 12, 16)  # dim, heads, stride of the papers' layer benchmark
PRECISIONS = ("fp32", "tf32")  # PyTorch 1.8 multiplied in TF32 by default on an RTX 3090
BATCH = 64  # of the papers' classifiers and layers
Conditions = tuple[str, str, int, str, int, str, str]
_parsed = lru_cache(maxsize=10_000)(parse_variant)  # records repeat few texts


def partners(
    evidence: Evidence, partner: Partner, resolution: tuple[int, int], machine: str | None = None
) -> Sequence[Point]:
    """The points of a partner at (height, width) pixels in either orientation, layers at `LAYER_SIZE`.

    In the order of the partner's variants, then of the evidence; of every outcome, device and condition; of one
    `machine`, or of all (None).
    """
    key = partner, resolution
    if key not in evidence.matches:
        evidence.matches[key] = _by_machine(evidence, partner, resolution)
    return evidence.matches[key].get(machine, ())


def _by_machine(
    evidence: Evidence, partner: Partner, resolution: tuple[int, int]
) -> Mapping[str | None, Sequence[Point]]:
    """The points of each machine, and of all under None."""
    scope, variants = partner
    short, long = sorted(resolution)
    found: dict[str | None, list[Point]] = {}
    for variant in variants:
        for point in evidence.by_size.get((scope, variant.partition("[")[0], short, long), ()):
            if has_layer_size(point.cell) and same_variant(point.cell, variant):
                found.setdefault(None, []).append(point)
                found.setdefault(point.machine, []).append(point)
    return found


def has_layer_size(cell: Cell) -> bool:
    """Whether a layer has the dim, heads and stride of the papers' benchmark; true of every whole model."""
    return cell.scope != "layer" or (cell.dim, cell.heads, cell.stride) == LAYER_SIZE


def ran_as_published(cell: Cell) -> bool:
    """Whether a timed cell runs what the papers timed: the eager kernel, not compiled, in fp32 or TF32."""
    return cell.as_published and cell.precision in PRECISIONS


def is_on(point: Point, device: str) -> bool:
    """Whether a point is of a class of devices: `cpu`, `gpu` or `any`."""
    return device in ("any", point.device_kind)


def nearest_first(points: Sequence[Point], batch: int) -> list[Point]:
    """Points of the published batch first, then fp32 before TF32, then larger batches."""
    return sorted(points, key=lambda p: (p.cell.batch != batch, p.cell.precision, -p.cell.batch, p.run_id))


def pairing_key(point: Point) -> Conditions:
    """What two points must share before one may be divided by the other."""
    cell = point.cell
    protocol = point.record.protocol if point.record else ""
    return point.machine, cell.device, cell.batch, cell.precision, cell.threads, cell.allocator, protocol


def comparable(subjects: Sequence[Point], baselines: Sequence[Point], batch: int) -> list[tuple[Point, Point]]:
    """The pairs of one subject and one baseline under the same conditions, the best first.

    Best: the published batch, then fp32, then both of one run, then larger batches.
    """
    alike: dict[Conditions, list[Point]] = {}
    for point in baselines:
        alike.setdefault(pairing_key(point), []).append(point)
    pairs = [(s, b) for s in subjects for b in alike.get(pairing_key(s), ())]
    return sorted(
        pairs,
        key=lambda pair: (
            pair[0].cell.batch != batch,
            pair[0].cell.precision,
            pair[0].run_id != pair[1].run_id,
            -pair[0].cell.batch,
            pair[0].run_id,
        ),
    )


def first_value(points: Sequence[Point], quantities: Sequence[str]) -> tuple[Point, Estimate] | None:
    """The first of these quantities that a point has, and the point; None where none has one.

    A speed over the reference counts only where the reference is `msa`, as in the papers' tables.
    """
    for quantity in quantities:
        for point in points:
            estimate = point.get(quantity)
            if estimate is not None and (quantity != "ratio_to_reference" or point.reference == "msa"):
                return point, estimate
    return None


def same_variant(cell: Cell, wanted: str) -> bool:
    """Whether a cell measures the variant `wanted`, however the two are spelled.

    Settings that neither names are at their defaults; a setting that only the cell's text names must be at its
    mechanism's declared default.
    """
    if cell.variant == wanted:
        return True
    want = _parsed(wanted)
    if cell.mechanism != want.name:
        return False
    asked, known = dict(want.settings), declared_defaults(want.name, cell.stride)
    filled = dict(cell.settings)
    for key, value in asked.items():
        if _word(filled.get(key, known.get(key))) != _word(value):
            return False
    try:
        typed = dict(_parsed(cell.variant).settings)
    except AttnbenchError:
        return False  # a text that no command line can have given
    return all(
        key in asked or (key in known and _word(filled.get(key, value)) == _word(known[key]))
        for key, value in typed.items()
    )


def _word(value: Setting | None) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return "" if value is None else value_text(value)
