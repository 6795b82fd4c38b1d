"""Rounds -> records: what a comparison group's trials, counts and timed rounds amount to. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from attnbench.analysis import statistics
from attnbench.analysis.stopping import Rule
from attnbench.planning.protocol import Protocol
from attnbench.planning.sweep import Cell
from attnbench.results import flags as validity
from attnbench.results.record import Record

LAUNCH_BOUND = 0.8  # of a call's time on the device: what the host took to queue it


@dataclass
class Found:
    """All that is known of a group's cells: the journal's lines, sorted by what they tell.

    Attributes:
        trials: by cell id. `counts` by count key. `dropped`: outcome and reason by cell id.
        rounds: in order, each with process, samples, host, conditions and seconds.
        ceilings: of the device, as measured. `resumed`: some rounds are of an earlier sitting.
    """

    trials: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: dict[str, tuple[str, str]] = field(default_factory=dict)
    rounds: list[Mapping[str, Any]] = field(default_factory=list)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    resumed: bool = False


def rule_of(protocol: Protocol, arms: int) -> Rule:
    """The stopping rule of a group of `arms`; the budget is theirs together."""
    return Rule(
        looks=protocol.looks, target=protocol.target, budget_s=protocol.budget_s * max(arms, 1), level=protocol.level
    )


def reference_of(cells: Sequence[Cell], reference: str) -> Cell | None:
    """The arm that ratios refer to: the reference variant with the plan's first kernel, not compiled if it can be."""
    found = [c for c in cells if c.variant == reference]
    return min(found, key=lambda c: c.compiled, default=None)


def ratios(rounds: Iterable[Mapping[str, Any]], arm: str, reference: str) -> list[list[float]]:
    """Log time ratios reference / arm of the rounds that have both, by process."""
    by_process: dict[Any, list[float]] = {}
    for line in rounds:
        samples = line["samples"]
        if arm in samples and reference in samples:
            value = math.log(median(samples[reference]) / median(samples[arm]))
            by_process.setdefault(line["process"], []).append(value)
    return list(by_process.values())


def logs(rounds: Iterable[Mapping[str, Any]], arm: str) -> list[list[float]]:
    """Minus the log of an arm's time, by process: `statistics.ratio` then gives calls per second."""
    by_process: dict[Any, list[float]] = {}
    for line in rounds:
        if arm in line["samples"]:
            by_process.setdefault(line["process"], []).append(-math.log(median(line["samples"][arm])))
    return list(by_process.values())


def half_widths(found: Found, cells: Sequence[Cell], reference: Cell | None, level: float) -> dict[str, float]:
    """Relative half-width of each arm's ratio (without a reference: of its time), by name."""
    widths: dict[str, float] = {}
    for cell in cells:
        if reference is not None and cell.id == reference.id:
            continue
        data = ratios(found.rounds, cell.id, reference.id) if reference else logs(found.rounds, cell.id)
        if data:
            name = f"{cell.variant} ({cell.kernel}{' compiled' if cell.compiled else ''})"
            widths[name] = statistics.ratio(data, level).half_width
    return widths


def conclude(
    found: Found, cells: Sequence[Cell], protocol: Protocol, *, reference: Cell | None, stopped: str, run_id: str
) -> list[Record]:
    """One record for each cell of a group whose timing has ended."""
    rule = rule_of(protocol, len(cells))
    level = rule.level_at_a_look
    return [_record(found, cell, protocol, level, reference, stopped, run_id) for cell in cells]


def untimed(found: Found, cell: Cell, protocol: Protocol, run_id: str, outcome: str = "ok", reason: str = "") -> Record:
    """The record of a cell that was not timed: declined, failed, or not asked to be."""
    values, words, flags = _counted(found, cell)
    trial = found.trials.get(cell.id)
    if trial:
        values = {**trial["values"], **values}
        words = {**words, "kernel_ran": trial["kernel_ran"], "device_name": trial["device_name"]}
    return Record(
        cell=cell, outcome=outcome, reason=reason, values=values, flags=tuple(flags), words=words,
        protocol=protocol.name, run_id=run_id,
    )  # fmt: skip


def _record(
    found: Found, cell: Cell, protocol: Protocol, level: float, reference: Cell | None, stopped: str, run_id: str
) -> Record:
    if cell.id in found.dropped:
        return untimed(found, cell, protocol, run_id, *found.dropped[cell.id])
    mine = [line for line in found.rounds if cell.id in line["samples"]]
    if not mine:
        return untimed(found, cell, protocol, run_id, "failed", "no round of it was finished")
    base = untimed(found, cell, protocol, run_id)
    values, flags = dict(base.values), list(base.flags)
    values |= _latency(mine, cell, protocol, level, flags)
    words = {**base.words, "stopped": stopped}
    if reference is not None:
        words["reference"] = reference.variant
        values |= _ratio(found, cell, reference, protocol, level, flags)
    elif len({line["process"] for line in mine}) == 1:
        flags.append("one_process")
    queued = [line["queue"][cell.id] for line in mine if cell.id in line.get("queue", {})]
    if cell.device != "cpu" and queued and median(queued) > LAUNCH_BOUND * values["latency_s"]:
        flags.append("launch_bound")
    peak = found.ceilings.get("macs_per_s")
    if peak and "macs" in values and cell.pass_ == "forward":
        values["roofline_share"] = values["macs"] * cell.batch / values["latency_s"] / peak
    flags += ["resumed"] if found.resumed else []
    flags += validity.flags([line.get("conditions", {}) for line in mine])
    return Record(
        cell=cell, outcome="ok", values=values, flags=tuple(dict.fromkeys(flags)), words=words,
        protocol=protocol.name, run_id=run_id,
    )  # fmt: skip


def _latency(
    mine: Sequence[Mapping[str, Any]], cell: Cell, protocol: Protocol, level: float, flags: list[str]
) -> dict[str, float | int]:
    samples = [line["samples"][cell.id] for line in mine]
    values: dict[str, float | int] = {
        "rounds": len(mine),
        "processes": len({line["process"] for line in mine}),
        "host_latency_s": median(line["host"][cell.id] for line in mine),
    }
    if len(mine) == 1:  # one block, as the papers time: no interval can be had
        values["latency_s"] = fmean(samples[0])
        values["throughput_img_per_s"] = cell.batch / values["latency_s"]
        flags.append("no_interval")
        return values
    interval = statistics.median_interval([median(s) for s in samples], level)
    low, high = interval.low, interval.high
    between = statistics.ratio(logs(mine, cell.id), level)
    if between.unit == "process":
        low, high = min(low, 1 / between.high), max(high, 1 / between.low)
    if between.processes_differ:
        flags.append("processes_differ")
    values |= {"latency_s": interval.estimate, "throughput_img_per_s": cell.batch / interval.estimate}
    if low > 0 and math.isfinite(high):
        values |= {"latency_low_s": low, "latency_high_s": high}
        values |= {"throughput_low": cell.batch / high, "throughput_high": cell.batch / low}
    if len(mine) < protocol.looks[0]:
        flags.append("few_rounds")
    if math.isfinite(between.round_sd):
        values["round_sd"] = between.round_sd
    return values


def _ratio(
    found: Found, cell: Cell, reference: Cell, protocol: Protocol, level: float, flags: list[str]
) -> dict[str, float | int]:
    if cell.id == reference.id:
        return {"ratio_to_reference": 1.0, "ratio_low": 1.0, "ratio_high": 1.0}
    data = ratios(found.rounds, cell.id, reference.id)
    if not data:
        return {}
    if sum(map(len, data)) == 1:
        mine = found.rounds[0]["samples"]
        return {"ratio_to_reference": fmean(mine[reference.id]) / fmean(mine[cell.id])}
    r = statistics.ratio(data, level)
    values: dict[str, float | int] = {"ratio_to_reference": r.estimate}
    if math.isfinite(r.low) and math.isfinite(r.high):
        values |= {"ratio_low": r.low, "ratio_high": r.high}
    if math.isfinite(r.process_sd):
        values["process_sd"] = r.process_sd
    if r.processes_differ:
        flags.append("processes_differ")
    elif "processes_differ" in flags:
        flags.remove("processes_differ")  # they differ in speed, not in the ratio
    if r.processes == 1:
        flags.append("one_process")
    if r.half_width > protocol.target:
        flags.append("wide")
    return values


def _counted(found: Found, cell: Cell) -> tuple[dict[str, float | int], dict[str, str], list[str]]:
    line = found.counts.get(cell.count_key)
    if line is None:
        return {}, {}, []
    values = {k: v for k, v in line.get("values", {}).items() if v is not None}
    words = {"count_notes": line["notes"]} if line.get("notes") else {}
    return values, words, ["lower_bound"] if line.get("lower_bound") else []
