"""Run folders -> Evidence: every planned cell of every run as a point, with whose machine it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from attnbench.analysis.between_runs import RunSpread, between, spreads, widened
from attnbench.analysis.contrasts import Contrast, contrasts
from attnbench.analysis.machines import label_machines, machine_of
from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.published.partners import Partner
from attnbench.report.numbers import LOWER_BOUND
from attnbench.results.collection import run_folders
from attnbench.results.events import Round
from attnbench.results.garbage import search_put_off
from attnbench.results.merge import Copy, best_copy
from attnbench.results.record import Record
from attnbench.results.store import Run, open_run, read_rounds

MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, with its interval where it was estimated and not counted; `at_least`: a lower bound."""

    value: float
    low: float | None = None
    high: float | None = None
    at_least: bool = field(default=False, kw_only=True)

    @property
    def exact(self) -> bool:
        """Counted, so that it has no interval."""
        return self.low is None or self.high is None

    def over(self, other: float) -> Estimate:
        """Divided by an exact number."""
        ends = (None, None) if self.low is None or self.high is None else (self.low / other, self.high / other)
        return Estimate(self.value / other, *ends, at_least=self.at_least)


INTERVALS: Mapping[str, tuple[str, str]] = {
    "latency_s": ("latency_low_s", "latency_high_s"),
    "throughput_img_per_s": ("throughput_low", "throughput_high"),
    "ratio_to_reference": ("ratio_low", "ratio_high"),
}

POSITIVE = (*INTERVALS, "peak_memory_bytes", "peak_growth_bytes")


@dataclass(frozen=True)
class Point:
    """One planned cell: its record, or that none was written."""

    cell: Cell
    record: Record | None
    run_id: str
    machine: str
    _estimates: dict[str, Estimate | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def outcome(self) -> str:
        """The record's outcome; `missing` without one."""
        return self.record.outcome if self.record else MISSING

    @property
    def reason(self) -> str:
        """Why there are no numbers."""
        return self.record.reason if self.record else "planned, but the run ended before this cell was measured"

    @property
    def ok(self) -> bool:
        """Measured."""
        return self.outcome == "ok"

    @property
    def flags(self) -> tuple[str, ...]:
        """Warnings on the measurement."""
        return self.record.flags if self.record else ()

    @property
    def device_kind(self) -> str:
        """`cpu` or `gpu`, the papers' words."""
        return "cpu" if self.cell.device.startswith("cpu") else "gpu"

    def get(self, quantity: str) -> Estimate | None:
        """A quantity with its interval; None where it was not measured. Made once: each table and claim asks again."""
        if quantity not in self._estimates:
            self._estimates[quantity] = self._estimate(quantity)
        return self._estimates[quantity]

    def _estimate(self, quantity: str) -> Estimate | None:
        if self.record is None:
            return None
        values = self.record.values
        if quantity not in values or (quantity in POSITIVE and values[quantity] <= 0):
            return None
        low, high = INTERVALS.get(quantity, ("", ""))
        ends = (float(values[k]) if k in values else None for k in (low, high))
        bound = quantity == "macs" and LOWER_BOUND in self.flags
        return Estimate(float(values[quantity]), *ends, at_least=bound)

    @property
    def reference(self) -> str:
        """The variant that the ratio refers to."""
        return self.record.words.get("reference", "") if self.record else ""


@dataclass(frozen=True)
class Evidence:
    """All points of all runs, sorted, and what is wrong with them."""

    runs: tuple[Run, ...]
    points: tuple[Point, ...]
    problems: tuple[str, ...]
    apart: tuple[str, ...] = ()  # machines that are kept apart although their runs name them alike, and why

    @cached_property
    def machines(self) -> tuple[str, ...]:
        """Whose numbers these are, each name once."""
        return tuple(dict.fromkeys(p.machine for p in self.points))

    @cached_property
    def _device_kinds(self) -> frozenset[tuple[str, str]]:
        return frozenset((p.machine, p.device_kind) for p in self.points)

    def machines_with(self, *kinds: str) -> list[str]:
        """The machines that hold a point of a device of one of these kinds, `cpu` or `gpu`."""
        return [m for m in self.machines if any((m, kind) in self._device_kinds for kind in kinds)]

    @cached_property
    def ok(self) -> tuple[Point, ...]:
        """The measured points."""
        return tuple(p for p in self.points if p.ok)

    @cached_property
    def runs_by_id(self) -> Mapping[str, Run]:
        """The run that the points of an identifier come from: the first of that identifier."""
        return {run.id: run for run in reversed(self.runs)}

    @cached_property
    def _rounds(self) -> dict[tuple[str, str], Sequence[Round]]:
        return {}

    def rounds_of(self, point: Point) -> Sequence[Round]:
        """The stored rounds of a point's comparison group in its run; empty where the run has none. Read once.

        Raises:
            AttnbenchError: the journal is damaged.
        """
        key = run, group = point.run_id, point.cell.group
        if key not in self._rounds:
            self._rounds[key] = read_rounds(self.runs_by_id[run].folder, group).get(group, ())
        return self._rounds[key]

    @cached_property
    def _contrasts(self) -> dict[tuple[str, str, str], Mapping[str, Contrast]]:
        return {}

    def contrast(self, point: Point, base: str) -> Contrast | None:
        """A point's contrast with the cell `base` of its run and group; None where no round has both.

        All arms of the rounds lend their variances, as in the records.
        """
        key = point.run_id, point.cell.group, base
        if key not in self._contrasts:
            rounds = self.rounds_of(point)
            arms = dict.fromkeys(turn.cell for r in rounds for turn in (*r.turns, *r.alone))
            plain = contrasts(rounds, list(arms), base)
            of_arm = self.spreads_of(point.run_id)
            self._contrasts[key] = {arm: widened(c, *between(of_arm[arm], of_arm[base])) for arm, c in plain.items()}
        return self._contrasts[key].get(point.cell.id)

    @cached_property
    def _spreads(self) -> dict[str, Mapping[str, RunSpread]]:
        return {}

    def spreads_of(self, run_id: str) -> Mapping[str, RunSpread]:
        """What runs add to the errors of a run's arms, by cell id."""
        if run_id not in self._spreads:
            self._spreads[run_id] = spreads(self.runs_by_id[run_id].records)
        return self._spreads[run_id]

    @cached_property
    def by_mechanism(self) -> Mapping[str, Sequence[Point]]:
        """The points of each mechanism, in order."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.cell.mechanism, []).append(point)
        return found

    @cached_property
    def matches(self) -> dict[tuple[Partner, tuple[int, int]], Mapping[str | None, Sequence[Point]]]:
        """What `matching` found for a partner and a size, by machine, None for all; it searches once for each."""
        return {}

    @cached_property
    def by_size(self) -> Mapping[tuple[str, str, int, int], Sequence[Point]]:
        """The points by scope, mechanism, and the shorter and the longer side of their images, in order."""
        found: dict[tuple[str, str, int, int], list[Point]] = {}
        for point in self.points:
            c = point.cell
            short, long = sorted((c.res_h, c.res_w))
            found.setdefault((c.scope, c.mechanism, short, long), []).append(point)
        return found


@search_put_off()
def gather(folders: Iterable[Path | str]) -> Evidence:
    """Open run folders, and the parts of collections, in the order of their names.

    A run that is there twice is read once, from the copy that a merge would keep (`attnbench.results.merge`).

    Raises:
        AttnbenchError: a folder that is no run, or is damaged.
    """
    copies: dict[str, list[Run]] = {}
    for folder in sorted(set(run_folders(folders))):
        run = open_run(folder)
        copies.setdefault(run.id, []).append(run)
    problems: list[str] = []
    once = [_best(same) for same in copies.values()]
    for run in once:
        others = [copy.folder.name for copy in copies[run.id] if copy is not run]
        problems += [f"{name} holds the same run as {run.folder.name} and was left out" for name in others]
        problems += [f"{run.folder.name}: {problem}" for problem in run.problems]
    labels, apart = label_machines([machine_of(run) for run in once])
    points = [point for run in once for point in _points(run, labels[run.id], problems)]
    merits = _merits(points, once)
    points.sort(key=lambda point: (*_order(point), *merits[point.run_id, point.cell.group]))
    return Evidence(tuple(once), tuple(points), (*problems, *apart), tuple(apart))


def _best(same: Sequence[Run]) -> Run:
    kept = best_copy([Copy.of(run) for run in same]).folder
    return next(run for run in same if run.folder == kept)


def _points(run: Run, machine: str, problems: list[str]) -> list[Point]:
    records = {r.cell.id: r for r in run.records}
    planned = {cell.id: cell for cell in run.cells}
    stray = [r for key, r in records.items() if key not in planned]
    cells = {**planned, **{r.cell.id: r.cell for r in stray}}
    lacking = [key for key in cells if key not in records]
    if not cells:
        problems.append(f"{run.folder.name}: an empty run: its plan has no cells")
    elif not records:
        problems.append(f"{run.folder.name}: no cell has a record yet; {len(cells)} are planned")
    elif lacking:
        problems.append(f"{run.folder.name}: {len(lacking)} of {len(cells)} planned cells have no record yet")
    if records and not any(r.outcome == "ok" for r in records.values()):
        problems.append(f"{run.folder.name}: no cell was measured; every record is a failure or a decline")
    names = {r.cell.device: name for r in reversed(run.records) if (name := r.words.get("device_name", ""))}
    return [_point(run, machine, cell, records.get(key), names) for key, cell in cells.items()]


def _point(run: Run, machine: str, cell: Cell, record: Record | None, names: Mapping[str, str]) -> Point:
    """`names`: of the devices, as the run's first record of each gives it."""
    named = (record.words.get("device_name", "") if record else "") or names.get(cell.device, "")
    label = named or run.facts.environment.devices.get(cell.device, "") or f"{cell.device} of run {run.id}"
    return Point(cell, record, run.id, f"{label} ({machine})" if machine else label)


def _order(point: Point) -> tuple[Any, ...]:
    c = point.cell
    return (
        ("layer", "backbone", "task").index(c.scope) if c.scope in ("layer", "backbone", "task") else 3,
        point.machine, c.device, c.precision, c.pass_, c.dim, c.heads, c.stride, c.res_h, c.res_w, c.batch,
        c.threads, c.allocator, c.variant, c.kernel, c.runtime, c.graphs,
    )  # fmt: skip


def _merits(points: Iterable[Point], runs: Iterable[Run]) -> Mapping[tuple[str, str], tuple[Any, ...]]:
    """By run and group, what sorts the points of one cell that several runs of a machine measured: the first is shown.

    First comes the run that measured most cells of the comparison group, then the one with most rounds, then the
    newest.
    """
    newest = sorted(runs, key=lambda run: (run.facts.created, run.id), reverse=True)
    age = {run.id: place for place, run in enumerate(newest)}
    cells: Counter[tuple[str, str]] = Counter()
    rounds: Counter[tuple[str, str]] = Counter()
    for point in points:
        key = point.run_id, point.cell.group
        cells[key] += point.ok
        rounds[key] = max(rounds[key], int(point.record.values.get("rounds", 0)) if point.record else 0)
    return {key: (-cells[key], -rounds[key], age[key[0]]) for key in cells}


def groups(points: Sequence[Point], *keys: str) -> dict[tuple[Any, ...], list[Point]]:
    """Points by the given cell fields (or `machine`), in order of appearance."""
    found: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        key = tuple(point.machine if k == "machine" else getattr(point.cell, k) for k in keys)
        found.setdefault(key, []).append(point)
    return found


def conditions(cell: Cell) -> str:
    """The conditions of a group, for captions: everything but variant and resolution."""
    words = [f"batch {cell.batch}", cell.device, cell.precision, f"{cell.pass_} pass"]
    if cell.scope == "layer":
        words.append(f"dim {cell.dim}, {cell.heads} heads, stride {cell.stride}")
    if cell.device.startswith("cpu"):
        words.append(f"{cell.threads} thread{'s' if cell.threads > 1 else ''}, {cell.allocator} allocator")
    return ", ".join(words)


def stored(root: Path = Path("reports/runs")) -> list[Path]:
    """The run folders that a project keeps under `reports/runs`.

    Raises:
        AttnbenchError: there are none.
    """
    found = sorted(p for p in root.glob("*") if p.is_dir())
    if not found:
        raise AttnbenchError(
            f"without RUN the runs under {root} are read; got none there; name a folder that `attnbench run` made"
        )
    return found
