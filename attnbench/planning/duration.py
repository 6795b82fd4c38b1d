"""How long a plan will take: a guess from the mechanisms' own formulas, corrected by what has been seen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from attnbench.planning.protocol import Protocol
from attnbench.planning.sweep import Cell

FIXED_S = 0.35  # a trial's process, checks and memory pass, beside its calls
CALLS_OF_A_TRIAL = 8.0
LIKE_MSA = 3.0  # a mechanism without a formula is guessed to cost as much as so many MSA layers
EFFICIENCY = 0.35  # of the matrix-product ceiling that a layer reaches, before anything is known
CPU_MACS_PER_S, GPU_MACS_PER_S = 1e11, 2e13  # first guesses of that ceiling; `run` corrects them by its trials


def call_s(macs: float | None, cell: Cell, macs_per_s: float) -> float:
    """A guess of one call's seconds."""
    if not macs:
        tokens = max(1, cell.grid[0] * cell.grid[1]) if cell.scope == "layer" else (cell.res_h * cell.res_w) // 256
        dim = cell.dim or 384
        macs = LIKE_MSA * (4 * tokens * dim**2 + 2 * tokens**2 * dim)
    return cell.batch * macs * (3.0 if cell.pass_ == "train" else 1.0) / (EFFICIENCY * macs_per_s)


def cell_s(call: float, protocol: Protocol) -> float:
    """Seconds that a cell takes whose call takes `call` seconds: its trial and its turns up to the first look."""
    turn = max(protocol.prime_s, protocol.prime_calls * call) + protocol.calls_in_turn(call) * call
    return FIXED_S + CALLS_OF_A_TRIAL * call + protocol.looks[0] * turn


class Remaining:
    """Seconds left, learned while the run goes on: guesses are scaled by what calls really took."""

    def __init__(self, guesses: Mapping[str, float], protocol: Protocol) -> None:
        self.protocol = protocol
        self.guesses = dict(guesses)
        self.known: dict[str, float] = {}
        self.spent: dict[str, float] = dict.fromkeys(guesses, 0.0)
        self.finished: set[str] = set()

    def learn(self, cell: str, call: float | None) -> None:
        """A trial has shown how long one call takes (None: it failed, and the cell is done)."""
        if call is None:
            self.finished.add(cell)
        else:
            self.known[cell] = call

    def round(self, arms: Iterable[str], seconds: float) -> None:
        """A round of these arms took so long."""
        arms = list(arms)
        for cell in arms:
            self.spent[cell] += seconds / len(arms)

    def finish(self, cells: Sequence[str]) -> None:
        """These cells have their records."""
        self.finished.update(cells)

    @property
    def total_s(self) -> float:
        """The whole plan by the present guesses."""
        return sum(cell_s(self._call(cell), self.protocol) for cell in self.guesses)

    @property
    def left_s(self) -> float:
        """What is left of it."""
        return sum(
            max(0.0, cell_s(self._call(cell), self.protocol) - self.spent[cell])
            for cell in self.guesses
            if cell not in self.finished
        )

    def _call(self, cell: str) -> float:
        if cell in self.known:
            return self.known[cell]
        wrong = [self.known[c] / self.guesses[c] for c in self.known if self.guesses.get(c)]
        return self.guesses[cell] * (median(wrong) if wrong else 1.0)
