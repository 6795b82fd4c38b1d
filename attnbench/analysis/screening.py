"""Which arms are still in question: those clearly behind leave a group, and clear leaders end it. Pure.

Under a budget for a whole run (`--within`) rounds go where they can still change who leads. An arm is *behind* when at
least `LEADERS` arms are faster than it, each by the test of the pair with Holm's rule over all pairs of the group. The
leaders are *separated* when each of the `LEADERS` fastest arms differs from every other arm. Both are asked only at the
looks of the stopping rule, at the level of a look, so that what a decision takes from the intervals is paid for
(docs/decisions/0019-screening-within-a-budget.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from attnbench.analysis.contrasts import pairs
from attnbench.analysis.ties import Pair, different_by_rounds
from attnbench.results.events import Round

LEADERS = 3  # fastest arms of a group whose places are in question


@dataclass(frozen=True)
class Standing:
    """Arms by speed, the fastest first, and the pairs whose speeds differ, in any order."""

    order: tuple[str, ...]
    differ: Collection[Pair]

    def differs(self, one: str, other: str) -> bool:
        """Whether the speeds of two arms differ."""
        return (one, other) in self.differ or (other, one) in self.differ

    @property
    def behind(self) -> set[str]:
        """The arms with at least `LEADERS` clearly faster ones."""
        return {
            arm
            for place, arm in enumerate(self.order)
            if sum(self.differs(arm, faster) for faster in self.order[:place]) >= LEADERS
        }

    @property
    def separated(self) -> bool:
        """Whether each of the fastest arms differs from every other one."""
        return all(
            self.differs(leader, other) for leader in self.order[:LEADERS] for other in self.order if other != leader
        )


def standing(rounds: Sequence[Round], arms: Sequence[str], level: float) -> Standing:
    """How the arms of one group stand after these rounds.

    Args:
        rounds: of the group.
        arms: cell ids; one without a round is left out.
        level: of the whole set of pairs.
    """
    found = pairs(rounds, arms)
    lead = {arm: found[arms[0], arm].log_ratio if (arms[0], arm) in found else 0.0 for arm in arms}
    known = [arm for arm in arms if arm == arms[0] or (arms[0], arm) in found]
    return Standing(tuple(sorted(known, key=lambda arm: -lead[arm])), different_by_rounds(found, level))


def leaders(order: Sequence[str], letters: Mapping[str, str], names: Mapping[str, str]) -> str:
    """The fastest arms in words, each with the arms that it ties with: `hilo; sra, tied with window`.

    Args:
        order: arms, the fastest first.
        letters: of a compact letter display, by arm.
        names: for people, by arm.
    """
    words = []
    for leader in order[:LEADERS]:
        ties = [names[a] for a in order if a != leader and set(letters[a]) & set(letters[leader])]
        words.append(f"{names[leader]}, tied with {', '.join(ties)}" if ties else f"{names[leader]}, separated")
    return "; ".join(words)
