"""Rounds -> records: what a comparison group's trials, counts and timed rounds amount to. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from types import MappingProxyType

from attnbench.analysis.between_runs import RunSpread, spread_of, widened
from attnbench.analysis.contrasts import Contrast, contrasts, log_speed
from attnbench.analysis.stopping import Rule
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol
from attnbench.results import flags as validity
from attnbench.results.events import BetweenRuns, Ceilings, Count, Dropped, Probe, Round, Trial, mean_log
from attnbench.results.record import Record
from attnbench.runtimes import EAGER

LAUNCH_BOUND = 0.8  # of a call's time on the device: what the host took to queue it


@dataclass
class GroupData:
    """All that is known of one comparison group.

    Attributes:
        trials: by cell id. `probes`: by cell id and what was looked at. `counts`: by count key. `dropped`: by cell id.
        rounds: in order. `ceilings`: of the device, as measured. `between_runs`: what runs of it differ by, if known.
        resumed: some rounds are of an earlier session.
    """

    trials: dict[str, Trial] = field(default_factory=dict)
    probes: dict[tuple[str, str], Probe] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)
    dropped: dict[str, Dropped] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    ceilings: Ceilings | None = None
    between_runs: BetweenRuns | None = None
    resumed: bool = False


def rule_of(protocol: Protocol, arms: int) -> Rule:
    """The stopping rule of a group of `arms`; the budget is theirs together."""
    budget_s = protocol.budget_s * max(arms, 1)
    return Rule(looks=protocol.for_arms(arms).looks, target=protocol.target, budget_s=budget_s, level=protocol.level)


def reference_of(cells: Sequence[Cell], reference: str) -> Cell | None:
    """The arm that ratios refer to: the reference with the first kernel, in eager PyTorch and no graph if it can be."""
    return min((c for c in cells if c.variant == reference), key=lambda c: (c.runtime != EAGER, c.graphs), default=None)


def log_ratios(rounds: Iterable[Round], arm: str, reference: str) -> list[list[float]]:
    """Log time ratios reference / arm of the rounds that have both, by process."""
    by_process: dict[int, list[float]] = {}
    for r in rounds:
        mine, base = map(mean_log, r.pair(arm, reference))
        if mine is not None and base is not None:
            by_process.setdefault(r.process, []).append(base - mine)
    return list(by_process.values())


def log_speeds(rounds: Iterable[Round], arm: str) -> list[list[float]]:
    """Minus the log of an arm's time, by process."""
    by_process: dict[int, list[float]] = {}
    for r in rounds:
        time = r.log_time(arm)
        if time is not None:
            by_process.setdefault(r.process, []).append(-time)
    return list(by_process.values())


def arm_contrasts(data: GroupData, cells: Sequence[Cell], reference: Cell | None) -> dict[str, Contrast]:
    """Each arm's contrast with the reference (without one: its log speed), by cell id."""
    if reference is not None:
        return contrasts(data.rounds, [c.id for c in cells], reference.id)
    alone = {cell.id: log_speed(data.rounds, cell.id) for cell in cells}
    return {cell: contrast for cell, contrast in alone.items() if contrast is not None}


def half_widths(data: GroupData, cells: Sequence[Cell], reference: Cell | None, level: float) -> dict[str, float]:
    """Relative half-width of each arm's ratio (without a reference: of its speed), by name."""
    found = arm_contrasts(data, cells, reference)
    return {f"{c.variant} ({c.execution})": found[c.id].interval(level).half_width for c in cells if c.id in found}


def summarize(
    data: GroupData, cells: Sequence[Cell], protocol: Protocol, *, reference: Cell | None, stopped: str, run_id: str,
    resting: Mapping[str, str] = MappingProxyType({}),
) -> list[Record]:  # fmt: skip
    """One record for each cell of a group whose timing has ended; `resting`: why an arm's ended earlier, by cell id."""
    level = rule_of(protocol, len(cells)).level_at_a_look
    alive = [c for c in cells if c.id not in data.dropped]
    against = arm_contrasts(data, alive, reference) if reference else {}
    records = []
    for cell in cells:
        why = resting.get(cell.id, stopped)
        record = _record(data, cell, protocol, level, reference, against.get(cell.id), why, run_id)
        screened = cell.id in resting and record.outcome == "ok"
        records.append(replace(record, flags=(*record.flags, "screened")) if screened else record)
    return with_launch_shares(records)


def with_launch_shares(records: Sequence[Record]) -> list[Record]:
    """The records, those of graphs with `launch_share` where the same cell was timed without a graph beside it."""
    times = {r.cell.id: r.values["latency_s"] for r in records if "latency_s" in r.values}
    found = []
    for record in records:
        launched = times.get(replace(record.cell, graphs=False).id)
        if record.cell.graphs and record.cell.id in times and launched:
            share = 1 - times[record.cell.id] / launched
            record = replace(record, values={**record.values, "launch_share": share})
        found.append(record)
    return found


def untimed(
    data: GroupData, cell: Cell, protocol: Protocol, run_id: str, outcome: str = "ok", reason: str = ""
) -> Record:
    """The record of a cell that was not timed: declined, failed, or not asked to be."""
    values, words, flags = _counted(data, cell)
    trial = data.trials.get(cell.id)
    if trial:
        values = {**trial.values, **values}
        words = {**words, "kernel_ran": trial.kernel_ran, "device_name": trial.device_name, **trial.words}
        flags += ["fused_in_eager"] if cell.kernel == "eager" and validity.ran_fused(trial.kernel_ran) else []
    for (probed, _), probe in data.probes.items():
        if probed == cell.id:
            values, words = {**values, **probe.values}, {**words, **probe.words}
    return Record(
        cell=cell, outcome=outcome, reason=reason, values=values, flags=tuple(flags), words=words,
        protocol=protocol.name, run_id=run_id,
    )  # fmt: skip


def _record(
    data: GroupData, cell: Cell, protocol: Protocol, level: float, reference: Cell | None, against: Contrast | None,
    stopped: str, run_id: str,
) -> Record:  # fmt: skip
    lost = data.dropped.get(cell.id)
    if lost:
        return untimed(data, cell, protocol, run_id, lost.outcome, lost.reason)
    mine = [r for r in data.rounds if r.of(cell.id)]
    if not mine:
        return untimed(data, cell, protocol, run_id, "failed", "no round of it was finished")
    base = untimed(data, cell, protocol, run_id)
    values, flags = dict(base.values), list(base.flags)
    is_reference = reference is not None and cell.id == reference.id
    spread = spread_of(data.between_runs, cell.mechanism, layer=cell.scope == "layer", reference=is_reference)
    values |= _latency(mine, cell, protocol, level, spread, flags)
    if data.between_runs is not None:
        values |= {"run_ratio_sd": spread.ratio_sd, "run_time_sd": spread.time_sd, "run_df": spread.df}
    words = {**base.words, "stopped": stopped}
    if reference is not None:
        words["reference"] = reference.variant
        values |= _ratio(data, cell, reference, against, level, spread, flags)
    elif len({r.process for r in mine}) == 1:
        flags.append("one_process")
    turns = [turn for r in mine for turn in r.of(cell.id)]
    queued = [turn.queue_s for turn in turns if math.isfinite(turn.queue_s)]
    if cell.device != "cpu" and queued and median(queued) > LAUNCH_BOUND * values["latency_s"]:
        flags.append("launch_bound")
    peak = data.ceilings.peak_macs_per_s if data.ceilings else None
    if peak and "macs" in values and cell.pass_ == "forward" and cell.precision != "int8":  # the ceilings are fp32's
        values["roofline_share"] = values["macs"] * cell.batch / values["latency_s"] / peak
        flags += ["above_roofline"] if values["roofline_share"] > 1 else []
    flags += ["isolated"] if not any(r.shared(cell.id) for r in mine) else []
    flags += ["resumed"] if data.resumed else []
    canary_s = validity.usual_canary_s([turn.conditions for r in data.rounds for turn in (*r.turns, *r.alone)])
    words_of_turns, disturbed = validity.flags(
        [turn.conditions or r.conditions for r in mine for turn in r.of(cell.id)], canary_s
    )
    flags += words_of_turns
    values["disturbed_turns"] = disturbed
    values["retaken_turns"] = sum(turn.retaken for turn in turns)
    if values.get("round_sd", 0.0) > validity.NOISY:
        flags.append("noisy")
    return Record(
        cell=cell, outcome="ok", values=values, flags=tuple(dict.fromkeys(flags)), words=words,
        protocol=protocol.name, run_id=run_id,
    )  # fmt: skip


def _latency(
    mine: Sequence[Round], cell: Cell, protocol: Protocol, level: float, spread: RunSpread, flags: list[str]
) -> dict[str, float | int]:
    turns = [turn for r in mine for turn in r.of(cell.id)]
    host = [turn.host_s for turn in turns if math.isfinite(turn.host_s)]
    values: dict[str, float | int] = {"rounds": len(mine), "processes": len({r.process for r in mine})}
    if host:
        values["host_latency_s"] = median(host)
    if len(mine) == 1:  # one block, as the papers time: no interval can be had
        values["latency_s"] = fmean(turns[0].calls_s)
        values["throughput_img_per_s"] = cell.batch / values["latency_s"]
        flags.append("no_interval")
        return values
    speed = log_speed(mine, cell.id)
    assert speed is not None
    interval = widened(speed, spread.time_sd, spread.df).interval(level)
    values |= {"latency_s": 1 / interval.estimate, "throughput_img_per_s": cell.batch * interval.estimate}
    if interval.low > 0 and math.isfinite(interval.high):
        values |= {"latency_low_s": 1 / interval.high, "latency_high_s": 1 / interval.low}
        values |= {"throughput_low": cell.batch * interval.low, "throughput_high": cell.batch * interval.high}
    if len(mine) < protocol.looks[0]:
        flags.append("few_rounds")
    if math.isfinite(speed.expected_sd):
        values["round_sd"] = speed.expected_sd * math.sqrt(len(mine) / speed.units)
    return values


def _ratio(
    data: GroupData, cell: Cell, reference: Cell, against: Contrast | None, level: float, spread: RunSpread,
    flags: list[str],
) -> dict[str, float | int]:  # fmt: skip
    if cell.id == reference.id:
        return {"ratio_to_reference": 1.0, "ratio_low": 1.0, "ratio_high": 1.0}
    if against is None:
        return {}
    if against.rounds == 1:
        block = next(r for r in data.rounds if all(r.pair(cell.id, reference.id)))
        mine, base = (fmean(turns[0].calls_s) for turns in block.pair(cell.id, reference.id))
        return {"ratio_to_reference": base / mine}
    against = widened(against, spread.ratio_sd, spread.df)
    interval = against.interval(level)
    values: dict[str, float | int] = {"ratio_to_reference": interval.estimate, "ratio_rounds": against.rounds}
    if interval.low > 0 and math.isfinite(interval.high):
        values |= {"ratio_low": interval.low, "ratio_high": interval.high}
        values |= {"ratio_error": against.error, "ratio_df": against.df}
    if against.processes > 1:
        values["process_sd"] = against.process_sd
    if against.processes_differ:
        flags.append("processes_differ")
    if against.processes == 1:
        flags.append("one_process")
    return values


def _counted(data: GroupData, cell: Cell) -> tuple[dict[str, float | int], dict[str, str], list[str]]:
    count = data.counts.get(cell.count_key)
    if count is None:
        return {}, {}, []
    values: dict[str, float | int] = {k: v for k, v in count.values.items() if v is not None}
    words = {"count_notes": count.notes} if count.notes else {}
    return values, words, ["lower_bound"] if count.lower_bound else []
