"""Half-widths -> enough? The rule that ends a measurement, at looks that are fixed beforehand. No clock here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SHARE = 0.6  # of 1 - level that each of two or three looks may miss by


@dataclass(frozen=True)
class Decision:
    """Stop or go on, and which condition says so, with both numbers."""

    stop: bool
    why: str


@dataclass(frozen=True)
class Rule:
    """Stop at the first look at which every arm's interval is narrow enough, at the last look, or by budget.

    Attributes:
        looks: numbers of rounds at which it looks, increasing; between looks no width ends a measurement.
        target: relative half-width asked for; infinite for none.
        budget_s: seconds of timing; infinite for none.
        level: what the interval that is reported holds, however early it stopped.
    """

    looks: tuple[int, ...]
    target: float
    budget_s: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.looks or self.looks[0] < 1 or any(b <= a for a, b in zip(self.looks, self.looks[1:], strict=False)):
            raise ValueError(f"looks must be increasing numbers of rounds, one at least; got {self.looks}")
        if not self.target > 0 or not self.budget_s > 0:
            raise ValueError(f"target and budget must be positive; got target={self.target}, budget_s={self.budget_s}")
        if not 0 < self.level < 1:
            raise ValueError(f"a confidence level lies between 0 and 1; got {self.level!r}")

    @property
    def level_at_a_look(self) -> float:
        """The level of the intervals to compute at every look, the last included.

        A look stops only on the intervals' widths, never on where they lie, so a full Bonferroni correction would
        overpay: simulation supports `SHARE` of 1 - level for two or three looks (docs/methods.md). Beyond three,
        Bonferroni's share where that is smaller.
        """
        looks = len(self.looks)
        share = 1.0 if looks == 1 else SHARE if looks <= 3 else min(SHARE, 1 / looks)
        return 1 - (1 - self.level) * share

    def next_look(self, rounds_done: int) -> int | None:
        """The number of rounds at which to look next; None when the last look is behind."""
        return next((look for look in self.looks if look > rounds_done), None)

    def may_stop(self, rounds_done: int, elapsed_s: float) -> bool:
        """Whether `decide` can stop now, whatever the half-widths are; they need not be computed where it cannot."""
        return rounds_done in self.looks or rounds_done >= self.looks[-1] or elapsed_s >= self.budget_s

    def decide(self, rounds_done: int, half_widths: Mapping[str, float], elapsed_s: float) -> Decision:
        """Say whether to stop after `rounds_done` rounds and `elapsed_s` seconds of timing.

        Args:
            rounds_done: whole rounds so far, over all processes.
            half_widths: relative half-width of each arm's interval at `level_at_a_look`, by the arm's name; a
                nan or an infinite one is not narrow enough.
            elapsed_s: seconds spent.
        """
        arm, width = _widest(half_widths)
        met = not half_widths or width <= self.target
        if met and (rounds_done in self.looks or rounds_done >= self.looks[-1]):
            return Decision(True, f"stopped after {_rounds(rounds_done)}: {self._met(width, half_widths)}")
        if rounds_done >= self.looks[-1]:
            return Decision(True, f"stopped after {_rounds(rounds_done)}, the last look: {self._short(arm, width)}")
        if elapsed_s >= self.budget_s:
            spent = f"budget of {self.budget_s:g} s spent after {elapsed_s:.3g} s and {_rounds(rounds_done)}"
            return Decision(True, f"{spent}: {self._met(width, half_widths) if met else self._short(arm, width)}")
        ahead = f"next look after {self.next_look(rounds_done)} rounds"
        now = self._met(width, half_widths) if met else self._short(arm, width)
        return Decision(False, f"going on after {_rounds(rounds_done)}, {ahead}: {now}")

    def _met(self, width: float, half_widths: Mapping[str, float]) -> str:
        if not half_widths:
            return "no arm's interval to wait for"
        if math.isinf(self.target):
            return "no half-width was asked for"
        return "half-width {} within the {} asked for".format(*_percent(width, self.target))

    def _short(self, arm: str, width: float) -> str:
        if not math.isfinite(width):
            state = "not known" if math.isnan(width) else "infinite (too few values for the level)"
            return f"{arm}'s half-width is {state}, {_percent(self.target)[0]} asked for"
        return "{}'s half-width {} is above the {} asked for".format(arm, *_percent(width, self.target))


def _widest(half_widths: Mapping[str, float]) -> tuple[str, float]:
    """The arm furthest from enough; one that is not known counts as widest."""
    if not half_widths:
        return "", 0.0
    return max(half_widths.items(), key=lambda item: (math.isnan(item[1]), item[1]))


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"


def _percent(*values: float) -> list[str]:
    """Percentages with one decimal, or as many as show that unequal values differ."""
    for digits in range(1, 13):
        texts = [f"{100 * value:.{digits}f} %" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts
