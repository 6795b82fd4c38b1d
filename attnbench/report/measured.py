"""The main tables: one row a planned cell, the fastest first; a failure is a row too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from attnbench.analysis import ties
from attnbench.errors import AttnbenchError
from attnbench.registry.variant import parse_variant
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.numbers import WARN_PCT, uncertainty_pct
from attnbench.report.tables import Column, Table, Value
from attnbench.results.flags import advice
from attnbench.results.record import QUANTITIES
from attnbench.runtimes import EAGER

Resolutions = Mapping[tuple[str, str], ties.Resolution]

TESTED = 60  # comparison groups of a report; of 39 arms one takes 0.3 to 1 s
NAMED = 20  # groups whose resolution a caption names, each with its conditions
_CALLS = re.compile(r" x\d+")
SCOPES = {"layer": "Layers", "backbone": "Backbones", "task": "Detectors and segmenters"}

# key -> (heading, text of a point): left out of the table, and stated in the caption, where all rows agree
CONDITIONS: dict[str, tuple[str, Callable[[Point], str]]] = {
    "run": ("run", lambda p: p.run_id),
    "machine": ("machine", lambda p: p.machine),
    "device": ("device", lambda p: p.cell.device),
    "resolution": ("resolution", lambda p: f"{p.cell.res_h}x{p.cell.res_w}"),
    "tokens": ("tokens", lambda p: f"{p.cell.grid[0]}x{p.cell.grid[1]}" if p.cell.scope == "layer" else ""),
    "batch": ("batch", lambda p: str(p.cell.batch)),
    "precision": ("precision", lambda p: p.cell.precision),
    "pass": ("pass", lambda p: p.cell.pass_),
    "kernel": ("kernel", lambda p: kernel(p)),
    "dim": ("dim", lambda p: str(p.cell.dim or "")),
    "heads": ("heads", lambda p: str(p.cell.heads or "")),
    "stride": ("stride", lambda p: str(p.cell.stride or "")),
    "threads": ("CPU threads", lambda p: str(p.cell.threads)),
    "allocator": ("allocator", lambda p: p.cell.allocator),
    "protocol": ("protocol", lambda p: p.record.protocol if p.record else ""),
    "reference": ("reference", lambda p: p.reference),
}

NUMBERS = (
    Column("params", "parameters", "M", 1e6),
    Column("macs", "MACs", "G", 1e9),
    Column("throughput_img_per_s", "throughput", "img/s"),
    Column("ratio_to_reference", "speed ratio", "x", digits=3),
    Column("uncertainty_pct", "±", "%", digits=2, warn=WARN_PCT),
    Column("peak_memory_bytes", "peak memory", "MiB", 2**20),
)


def kernel(point: Point) -> str:
    """The kernel asked for, and what ran where it is another: the operators without their number of calls.

    A layer that calls `flash` twice ran the same kernel as one that calls it once, so both stand under one heading.
    """
    asked = point.cell.execution
    other = ran(point)
    return f"{asked} ({other})" if other and other != asked else asked


def ran(point: Point) -> str:
    """What ran where it is not the kernel that was asked for: the operators; else empty.

    Of an exported layer the runtime's name is what ran; that is no other kernel.
    """
    found = _CALLS.sub("", point.record.words.get("kernel_ran", "")) if point.record else ""
    outside = () if point.cell.runtime == EAGER else (point.cell.runtime,)
    return "" if found in (point.cell.kernel, *outside) else found


def mechanism_of(variant: str) -> str:
    """The mechanism that a variant's marks belong to, whatever its text."""
    try:
        return parse_variant(variant).name
    except AttnbenchError:
        return variant


def resolutions(evidence: Evidence) -> Resolutions:
    """What each comparison group of each run resolved, by run and group; of more than `TESTED` groups by intervals.

    Raises:
        AttnbenchError: a line of a run's journal is damaged.
    """
    by_rounds = not too_many(evidence)
    return {
        (run.id, group): found
        for run in evidence.runs
        for group, found in ties.resolve_run(run, by_rounds=by_rounds).items()
    }


def too_many(evidence: Evidence) -> bool:
    """Whether there are more comparison groups than the pairs of which can be tested on their rounds in a minute."""
    return len({(p.run_id, p.cell.group) for p in evidence.points if p.get("throughput_img_per_s")}) > TESTED


def table(evidence: Evidence, scope: str, resolved: Resolutions = MappingProxyType({})) -> Table:
    """Every cell of one scope; `resolved`: as `resolutions` gives it."""
    points = [p for p in evidence.points if p.cell.scope == scope]
    texts = {key: [text(p) for p in points] for key, (_, text) in CONDITIONS.items()}
    varying = [k for k in CONDITIONS if len(set(texts[k])) > 1 and k not in ("protocol", "reference", "run")]
    varying += [k for k in ("protocol", "reference") if len(set(texts[k]) - {""}) > 1]
    if len(evidence.machines) > 1 and "machine" not in varying:
        varying.insert(0, "machine")
    if len({(p.cell.id, p.machine) for p in points}) < len(points):
        varying.append("run")
    same = [
        f"{CONDITIONS[k][0]} {next(iter(set(texts[k]) - {''}))}"
        for k in CONDITIONS
        if k not in varying and k != "run" and set(texts[k]) - {""}
    ]
    shown = {(p.run_id, p.cell.group) for p in points}
    letters = {
        (run, cell): text
        for (run, group), found in resolved.items()
        for cell, text in found.letters.items()
        if (run, group) in shown
    }
    columns = (
        Column("variant", "variant"),
        *(Column(k, CONDITIONS[k][0]) for k in varying),
        *NUMBERS,
        *((Column("ties", "ties"),) if letters else ()),
        Column("outcome", "outcome", internal=True),
        Column("reason", "why", internal=True),
        Column("flags", "flags", internal=True),
    )
    order = sorted(points, key=lambda p: (*(_natural(CONDITIONS[k][1](p)) for k in varying), _speed(p), p.cell.variant))
    rows = tuple(
        (
            p.cell.variant,
            *(CONDITIONS[k][1](p) for k in varying),
            *_numbers(p),
            *((letters.get((p.run_id, p.cell.id), ""),) if letters else ()),
            p.outcome,
            p.reason,
            " ".join(p.flags),
        )
        for p in order
    )
    return Table(
        name=f"measured-{scope}",
        title=f"{SCOPES.get(scope, scope)}: every cell",
        caption=f"{SCOPES.get(scope, scope)} as measured, the fastest first within each condition. "
        f"{'The same for all rows: ' + ', '.join(same) + '. ' if same else ''}"
        f"MACs are per image, forward ({QUANTITIES['macs'].heading}); the speed ratio is the "
        f"{QUANTITIES['ratio_to_reference'].meaning}; "
        f"brackets hold the interval of the run's protocol, and ± is half of the ratio's in per cent "
        f"(the reference's: of its throughput).{_resolved(order, varying, resolved)}",
        columns=columns,
        rows=rows,
        notes=_notes(points),
        marks=tuple(p.cell.mechanism for p in order),
        outcomes=tuple(p.outcome for p in order),
    )


def _resolved(points: Sequence[Point], varying: Sequence[str], resolved: Resolutions) -> str:
    """What the groups of a table resolved, in sentences, with the conditions that tell the groups apart."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for p in points:
        if (p.run_id, p.cell.group) in resolved:
            groups.setdefault((p.run_id, p.cell.group), []).append(p)
    sizes = {key: resolved[key].limit for key in groups if resolved[key].limit}
    if not sizes:
        return ""
    if len(sizes) == 1:
        sentence = f"Differences below {next(iter(sizes.values()))} are not distinguishable in this run."
    elif len(sizes) > NAMED:
        limits = sorted((resolved[key].smallest or 0.0, size) for key, size in sizes.items())
        sentence = f"Differences are not distinguishable below {limits[0][1]} to {limits[-1][1]}, by group."
    else:
        keys = [k for k in varying if k not in ("kernel", "protocol", "reference", "tokens")]
        keys = [k for k in keys if len({CONDITIONS[k][1](groups[g][0]) for g in sizes}) > 1]
        each = (
            f"{size} ({', '.join(f'{CONDITIONS[k][0]} {CONDITIONS[k][1](groups[key][0])}' for k in keys)})"
            for key, size in sizes.items()
        )
        sentence = f"Differences are not distinguishable below {'; '.join(each)}."
    return f" {sentence} Within each condition, rows that share a letter under ties are not distinguishable in speed."


def _notes(points: Sequence[Point]) -> tuple[str, ...]:
    """For each machine a sentence on the cells that were disturbed, if any."""
    machines = dict.fromkeys(p.machine for p in points)
    timed = {m: [p.flags for p in points if p.machine == m and p.get("throughput_img_per_s")] for m in machines}
    return tuple(f"{m}: {text}" for m, flags in timed.items() if (text := advice(flags)))


def _numbers(point: Point) -> tuple[Value, ...]:
    return tuple(_uncertainty(point) if c.key == "uncertainty_pct" else point.get(c.key) for c in NUMBERS)


def _uncertainty(point: Point) -> Estimate | None:
    found = uncertainty_pct(point.record.values) if point.record else None
    return Estimate(found) if found is not None else None


def _speed(point: Point) -> float:
    speed = point.get("throughput_img_per_s")
    return -speed.value if speed else 1.0


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort `224x224` before `1024x1024`."""
    return tuple((0, int(w), "") if w.isdigit() else (1, 0, w) for w in text.replace("x", " ").split())


def outcomes(evidence: Evidence) -> Table:
    """How many cells of each run ended how."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for p in evidence.points:
        found = counts.setdefault((p.run_id, p.machine), {})
        found[p.outcome] = found.get(p.outcome, 0) + 1
    kinds = sorted({k for found in counts.values() for k in found}, key=lambda k: (k != "ok", k))
    return Table(
        name="outcomes",
        title="Outcomes",
        caption="Planned cells by outcome: every cell of every plan is counted once.",
        columns=(
            Column("run", "run"),
            Column("machine", "machine"),
            *(Column(k, k, digits=1) for k in kinds),
            Column("cells", "cells", digits=1),
        ),
        rows=tuple(
            (run, machine, *(Estimate(found.get(k, 0)) for k in kinds), Estimate(sum(found.values())))
            for (run, machine), found in counts.items()
        ),
    )
