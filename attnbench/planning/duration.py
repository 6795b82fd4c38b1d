"""Estimate how long a plan takes: from the mechanisms' formulas, then from measured calls. No input or output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol

FIXED_S = 0.55  # seconds of a trial and its count besides the calls: processes, checks, memory
CALLS_OF_A_TRIAL = 8.0
PASS_S = {"breakdown": 2.0, "error": 1.5, "energy": 2.5}  # seconds of a pass beside time, its calls not included
PASS_CALLS = {"breakdown": 5.0, "error": 12.0, "energy": 2.0}  # fp32 calls on the batch that take as long as its calls
PROCESS_S = 0.35  # seconds until a timing process has started and prepared its inputs
BUILD_S = 0.02  # seconds to build one layer in it, its first call not included
BUILD_MODEL_S = 0.7  # the same of a whole model
DEFAULT_MSA_LAYERS = 1.5  # assumed cost of a mechanism without a formula, in MSA layers of the same size
PASSES_OVER_INPUT = 12.0  # of a layer without multiply-accumulates, such as pooling
BYTES_PER_S = 1e10  # assumed rate of such passes
EFFICIENCY = 0.5  # assumed share of the matrix-product ceiling that a layer reaches
CPU_MACS_PER_S, GPU_MACS_PER_S = 1e11, 2e13  # assumed ceilings; `run` corrects them by its trials


def call_s(macs: float | None, cell: Cell, macs_per_s: float) -> float:
    """Estimate the seconds of one call on a batch.

    Args:
        macs: multiply-accumulates per image, forward; None where no formula is known.
        cell: the cell; its batch and pass count.
        macs_per_s: the matrix-product ceiling of its device.
    """
    tokens = max(1, cell.grid[0] * cell.grid[1]) if cell.scope == "layer" else (cell.res_h * cell.res_w) // 256
    dim = cell.dim or 384
    if macs == 0:
        return cell.batch * PASSES_OVER_INPUT * 4 * tokens * dim / BYTES_PER_S
    if macs is None:
        macs = DEFAULT_MSA_LAYERS * (4 * tokens * dim**2 + 2 * tokens**2 * dim)
    return cell.batch * macs * (3.0 if cell.pass_ == "train" else 1.0) / (EFFICIENCY * macs_per_s)


def cell_s(
    call: float,
    protocol: Protocol,
    arms: int,
    *,
    model: bool = False,
    apart: int = 0,
    passes: Iterable[str] = (),
    rounds: float | None = None,
) -> float:
    """Estimate the seconds of a cell: its trial, its passes, its turns, its share of what its group shares.

    Args:
        call: seconds of one call.
        protocol: as it was asked for; the size of the group adapts it.
        arms: of the comparison group that share a process.
        model: a whole model, whose building takes longer.
        apart: isolated arms of the group, of which this is one; they share the cost of the reference's copy. 0: it is
            none of them.
        passes: beside time, by name.
        rounds: how many, as a multiple of those of the first look; by default between those of the first look and of
            the last, equally many times away from both.
    """
    numbers = protocol.for_arms(arms)
    looks = numbers.looks
    times = math.sqrt(looks[-1] / looks[0]) if rounds is None else rounds
    turn = max(numbers.prime_s, numbers.prime_calls * call) + numbers.calls_in_turn(call) * call
    more_turns = max(0, numbers.reference_turns(arms) - 1) / max(arms, 1)
    starting = PROCESS_S / (1 if apart else max(arms, 1)) + (BUILD_MODEL_S if model else BUILD_S) + call
    beside = sum(PASS_S[name] + PASS_CALLS[name] * call for name in passes if name in PASS_S)
    a_look = looks[0] * turn * (2 if apart else 1 + more_turns) + numbers.processes * starting
    return FIXED_S + CALLS_OF_A_TRIAL * call + beside + times * a_look * (1 + 1 / apart if apart else 1)


class Remaining:
    """The remaining seconds of a run; estimates are scaled by the measured times of the calls so far."""

    def __init__(
        self,
        estimates: Mapping[str, float],
        protocol: Protocol,
        cells: Iterable[Cell] = (),
        passes: Iterable[str] = (),
        isolated: Collection[str] = (),
    ) -> None:
        self.protocol, self.passes = protocol, tuple(passes)
        groups = {cell.id: cell.group for cell in cells}
        sizes = Counter(groups[cell] for cell in estimates if cell in groups and cell not in isolated)
        apart = Counter(groups[cell] for cell in estimates if cell in groups and cell in isolated)
        self.arms = {cell: sizes[group] for cell, group in groups.items()}
        self.apart = {cell: apart[groups[cell]] for cell in isolated if cell in groups}
        self.models = {cell.id for cell in cells if cell.scope != "layer"}
        self.estimates = dict(estimates)
        self.known: dict[str, float] = {}
        self.spent: dict[str, float] = dict.fromkeys(estimates, 0.0)
        self.finished: set[str] = set()

    def learn(self, cell: str, call: float | None) -> None:
        """Record the seconds of one call from a cell's trial; None: the trial failed and the cell is finished."""
        if call is None:
            self.finished.add(cell)
        else:
            self.known[cell] = call

    def round(self, arms: Iterable[str], seconds: float) -> None:
        """Record the seconds of a round of these arms."""
        arms = list(arms)
        for cell in arms:
            self.spent[cell] += seconds / len(arms)

    def finish(self, cells: Sequence[str]) -> None:
        """Mark cells that have their records."""
        self.finished.update(cells)

    @property
    def total_s(self) -> float:
        """Estimated seconds of the whole plan."""
        return sum(self._cell_s(cell) for cell in self.estimates)

    @property
    def range_s(self) -> tuple[float, float]:
        """Estimated seconds if every group stops at its first look, and if every group needs all its rounds."""
        most = self.protocol.looks[-1] / self.protocol.looks[0]
        first, last = (sum(self._cell_s(cell, times) for cell in self.estimates) for times in (1.0, most))
        return first, last

    @property
    def left_s(self) -> float:
        """Estimated seconds that remain."""
        return sum(
            max(0.0, self._cell_s(cell) - self.spent[cell]) for cell in self.estimates if cell not in self.finished
        )

    def _call(self, cell: str) -> float:
        if cell in self.known:
            return self.known[cell]
        scales = [self.known[c] / self.estimates[c] for c in self.known if self.estimates.get(c)]
        return self.estimates[cell] * (median(scales) if scales else 1.0)

    def _cell_s(self, cell: str, rounds: float | None = None) -> float:
        return cell_s(
            self._call(cell),
            self.protocol,
            self.arms.get(cell, 1),
            model=cell in self.models,
            apart=self.apart.get(cell, 0),
            passes=self.passes,
            rounds=rounds,
        )
