"""The seconds that remain of a run: estimated before it, corrected by every trial and round that it measures."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean, median

from attnbench.planning import duration
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol


class Spent:
    """Seconds that some work took, beside those that were expected of it."""

    def __init__(self) -> None:
        self.measured_s = self.expected_s = 0.0

    def add(self, measured_s: float, expected_s: float) -> None:
        """Add a piece of the work."""
        self.measured_s += measured_s
        self.expected_s += expected_s

    @property
    def scale(self) -> float | None:
        """What the next expectation should be multiplied by; None before anything was measured."""
        return self.measured_s / self.expected_s if self.measured_s and self.expected_s else None


class Group:
    """One comparison group: its cells that are to be timed, the rounds that it has and what they took."""

    def __init__(self, cells: Sequence[Cell], isolated: Collection[str]) -> None:
        self.cells = list(cells)
        self.isolated = frozenset(isolated)
        self.rounds = 0
        self.spent = Spent()

    def split(self, finished: Collection[str]) -> tuple[list[Cell], list[Cell]]:
        """The arms that are left: those that share a process, and the isolated ones."""
        arms = [cell for cell in self.cells if cell.id not in finished]
        return [c for c in arms if c.id not in self.isolated], [c for c in arms if c.id in self.isolated]


class Remaining:
    """The remaining seconds of a run.

    Args:
        estimates: seconds of one call in turns, by the id of every cell that is not declined.
        protocol: as it was asked for.
        cells: of the plan.
        measure: what is measured.
        isolated: ids of the arms that share no process.
    """

    def __init__(
        self,
        estimates: Mapping[str, float],
        protocol: Protocol,
        cells: Iterable[Cell] = (),
        measure: Iterable[str] = ("latency",),
        isolated: Collection[str] = (),
    ) -> None:
        self.protocol, self.measure = protocol, tuple(measure)
        self.estimates = dict(estimates)
        self.cells = {cell.id: cell for cell in cells if cell.id in estimates}
        of_group: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            of_group.setdefault(cell.group, []).append(cell)
        self.groups = {name: Group(members, isolated) for name, members in of_group.items()}
        self.known: dict[str, float] = {}  # seconds of one call in turns
        self.tried: set[str] = set()
        self.finished: set[str] = set()
        self.exported: set[str] = set()  # groups
        self.trials = Spent()
        self.started = False

    def learn(self, cell: str, call: float | None, seconds: float = 0.0) -> None:
        """Record a cell's trial: seconds of one call, None if it failed; `seconds`: since the last report.

        The first trial of a group comes after all exports of the group.
        """
        group = self.cells[cell].group if cell in self.cells else ""
        if seconds and group:
            steady = self._call(cell) if call is None else duration.STEADY * call
            before_s = 0.0 if self.started else self._start_s()
            before_s += 0.0 if group in self.exported else duration.exports_s(self.groups[group].cells)
            self.trials.add(seconds, before_s + duration.trial_s(self.cells[cell], steady))
        self.exported.add(group)
        self.started = True
        self.tried.add(cell)
        if call is None:
            self.finished.add(cell)
        else:
            self.known[cell] = duration.STEADY * call

    def round(self, arms: Sequence[Cell], rounds: int, seconds: float) -> None:
        """Record a round of these arms, their group's `rounds`-th: seconds since the last report."""
        self.started = True
        group = self.groups.get(arms[0].group) if arms else None
        if group is None:
            return
        each = self.protocol.for_arms(len(group.split(self.finished)[0])).rounds_each
        starts = self._process_s(group) if (rounds - 1) % each == 0 else 0.0
        group.spent.add(seconds, self._round_s(group) + starts)
        group.rounds = rounds

    def finish(self, cells: Sequence[str]) -> None:
        """Mark cells that have their records."""
        self.finished.update(cells)

    @property
    def total_s(self) -> float:
        """Estimated seconds of the whole plan, before anything is measured."""
        return self.left_s

    @property
    def range_s(self) -> tuple[float, float]:
        """Estimated seconds if every group stops at its first look, and if every group needs all its rounds."""
        before = self._before_timing_s()
        first, last = (
            sum(self._timing_s(group, self._rounds_at(group, look)) for group in self.groups.values())
            for look in (0, -1)
        )
        return before + first, before + last

    @property
    def left_s(self) -> float:
        """Estimated seconds that remain."""
        timing = sum(self._timing_s(group, self._rounds_left(group)) for group in self.groups.values())
        return self._before_timing_s() + timing

    def _before_timing_s(self) -> float:
        """Exports, counts and trials, then the passes beside time; on a GPU counts run beside trials."""
        open_cells = [cell for name, cell in self.cells.items() if name not in self.finished]
        untried = [cell for cell in open_cells if cell.id not in self.tried and not self.groups[cell.group].rounds]
        counted = {cell.count_key: cell for cell in untried} if {"params", "macs"} & {*self.measure} else {}
        counts_s = sum(map(duration.count_s, counted.values()))
        exports_s = trials_s = passes_s = 0.0
        if {*self.measure} - {"params", "macs"}:
            scale = self.trials.scale or 1.0
            exports_s = scale * duration.exports_s(cell for cell in untried if cell.group not in self.exported)
            trials_s = scale * sum(duration.trial_s(cell, self._call(cell.id)) for cell in untried)
            waiting = [cell for cell in open_cells if not self.groups[cell.group].rounds]
            passes_s = sum(duration.passes_s(self._call(cell.id), self.measure) for cell in waiting)
        start_s = 0.0 if self.started or not open_cells else self._start_s()
        both_s = counts_s + trials_s if any(c.device == "cpu" for c in untried) else max(counts_s, trials_s)
        return start_s + exports_s + both_s + passes_s

    def _start_s(self) -> float:
        return duration.start_s(self.protocol, timed="latency" in self.measure)

    def _rounds_at(self, group: Group, look: int) -> int:
        """Rounds of this group if it stops at this look, or before it by its budget."""
        arms = sum(map(len, group.split(self.finished)))
        rounds = self.protocol.for_arms(arms).looks[look]
        return min(rounds, duration.affordable_rounds(self.protocol, max(arms, 1), self._real_round_s(group)))

    def _rounds_left(self, group: Group) -> int:
        arms = sum(map(len, group.split(self.finished)))
        wanted = duration.expected_rounds(self.protocol, max(arms, 1), self._real_round_s(group), group.rounds)
        return max(0, wanted - group.rounds)

    def _timing_s(self, group: Group, rounds: int) -> float:
        """Seconds of so many rounds, at the pace of this group's rounds so far, or of all groups'."""
        shared, alone = group.split(self.finished)
        if "latency" not in self.measure or not (shared or alone):
            return 0.0
        processes = math.ceil(rounds / self.protocol.for_arms(len(shared)).rounds_each)
        expected = rounds * self._round_s(group) + processes * self._process_s(group)
        return expected * self._pace(group)

    def _pace(self, group: Group) -> float:
        """How many times as long as expected rounds take: this group's so far, or all groups', or 1."""
        paces = [scale for other in self.groups.values() if (scale := other.spent.scale)]
        return group.spent.scale or (median(paces) if paces else 1.0)

    def _real_round_s(self, group: Group) -> float:
        return self._round_s(group) * self._pace(group)

    def _round_s(self, group: Group) -> float:
        shared, alone = ([self._call(cell.id) for cell in cells] for cells in group.split(self.finished))
        return duration.round_s(shared, alone, fmean([*shared, *alone] or [0.0]), self.protocol)

    def _process_s(self, group: Group) -> float:
        """Seconds to start the processes of a few rounds: one of the shared arms, and one of each arm alone."""
        shared, alone = group.split(self.finished)
        together = len(shared) if self.protocol.schedule == "separate" else min(1, len(shared))
        processes = together + (len(alone) + 1 if alone else 0)
        built = sum(duration.build_s(cell, self._call(cell.id)) for cell in (*shared, *alone))
        return processes * duration.PROCESS_S + built

    def _call(self, cell: str) -> float:
        """Seconds of one call in turns: by the cell's trial, or estimated with what the other trials showed."""
        if cell in self.known:
            return self.known[cell]
        scales = [self.known[c] / self.estimates[c] for c in self.known if self.estimates.get(c)]
        return self.estimates[cell] * (median(scales) if scales else 1.0)
