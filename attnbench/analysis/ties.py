"""What a comparison group resolves: the smallest difference that it shows, and which arms it cannot tell apart.

Ties are a compact letter display: two arms share a letter exactly if their speeds are not distinguished. With the
rounds at hand every pair is tested (contrasts.pairs; the larger p of its two orders), with Holm's rule over all pairs
of the group. From records alone, two arms are distinguished where their stored intervals do not overlap, which finds
fewer differences than a test of the pair.

Source:
    Piepho (2004), An algorithm for a letter-based representation of all-pairwise comparisons, J. Comput. Graph.
    Stat. 13: insert and absorb. The optional sweeping, which removes redundant letters, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from string import ascii_letters

from attnbench.analysis.between_runs import between, spreads, widened
from attnbench.analysis.contrasts import Contrast, pairs
from attnbench.analysis.statistics import Interval, holm
from attnbench.analysis.stopping import Rule
from attnbench.results.events import Round
from attnbench.results.record import Record
from attnbench.results.store import Run, read_rounds

Pair = tuple[str, str]
ENDS = (
    ("ratio_to_reference", "ratio_low", "ratio_high"),
    ("throughput_img_per_s", "throughput_low", "throughput_high"),
)


@dataclass(frozen=True)
class Resolution:
    """What one comparison group resolved.

    Attributes:
        smallest: relative difference in speed below which a typical pair of arms is not distinguishable (0.04: 4 %);
            None where the group has no interval or a single arm.
        letters: by cell id; empty where nothing can be tested.
        runs: of the machine, whose differences are in the intervals; 0: an interval is about its own run.
    """

    smallest: float | None = None
    letters: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0

    @property
    def limit(self) -> str:
        """`smallest` in two digits: `4.2 %`, or `a factor of 2.5` where it is 100 % or more; empty if there is none."""
        if self.smallest is None:
            return ""
        if self.smallest >= 1:
            return f"a factor of {1 + self.smallest:.{1 if self.smallest < 9 else 0}f}"
        percent = 100 * self.smallest
        places = max(0, 1 - math.floor(math.log10(percent))) if percent > 0 else 0
        return f"{percent:.{places}f} %"

    @property
    def sentence(self) -> str:
        """What to know before the table is read, in a sentence; empty without an interval."""
        if not self.limit:
            return ""
        if self.runs:
            limit = (
                f"below {self.limit} are not distinguishable, with what {self.runs} runs of this machine differed by"
            )
        else:
            limit = f"below {self.limit} are not distinguishable in this run"
        return f"Differences {limit}; equal letters mark ties."


def letters(arms: Sequence[str], differ: Iterable[Pair]) -> dict[str, str]:
    """The compact letter display: two arms share a letter if and only if their pair is not in `differ`.

    Args:
        arms: the fastest first, so that it gets the letter a.
        differ: pairs in any order; a pair of an unknown arm is ignored.
    """
    place = {arm: i for i, arm in enumerate(arms)}
    columns = [frozenset(place.values())] if arms else []
    for one, other in differ:
        if one not in place or other not in place or one == other:
            continue
        i, j = place[one], place[other]
        split = [c for c in columns if i in c and j in c]
        kept = [c for c in columns if not (i in c and j in c)]
        for part in sorted({c - {k} for c in split for k in (i, j)}, key=len, reverse=True):
            if not any(part <= c for c in kept):
                kept.append(part)
        columns = kept
    return _display(arms, columns)


def letters_by_interval(arms: Sequence[str], intervals: Mapping[str, Interval]) -> dict[str, str]:
    """The same display where two arms differ if their intervals do not overlap, in one pass over the intervals' ends.

    Args:
        arms: the fastest first.
        intervals: of these arms.
    """
    place = {arm: i for i, arm in enumerate(arms)}
    by_low = sorted(arms, key=lambda arm: intervals[arm].low, reverse=True)
    columns: list[frozenset[int]] = []
    meeting: set[int] = set()  # whose intervals hold the end that the pass has come to
    for arm in sorted(arms, key=lambda arm: intervals[arm].high):
        end, some = intervals[arm].high, False
        while by_low and intervals[by_low[-1]].low <= end:
            meeting.add(place[by_low.pop()])
            some = True
        if some:
            columns.append(frozenset(meeting))
        meeting.discard(place[arm])
    return _display(arms, columns)


def _display(arms: Sequence[str], columns: Iterable[frozenset[int]]) -> dict[str, str]:
    """The letters of each arm; a column is the places of the arms that share one letter."""
    shared: list[list[str]] = [[] for _ in arms]
    for number, column in enumerate(sorted(columns, key=sorted)):
        for at in column:
            shared[at].append(_name(number))
    return {arm: "".join(names) for arm, names in zip(arms, shared, strict=True)}


def _name(number: int) -> str:
    """The letters a to z, then A to Z, then a2 and so on."""
    turn, letter = divmod(number, len(ascii_letters))
    return ascii_letters[letter] + (str(turn + 1) if turn else "")


def different_by_rounds(found: Mapping[Pair, Contrast], level: float) -> set[Pair]:
    """The pairs whose speeds differ: by the larger p of the two orders, with Holm's rule over all pairs.

    Args:
        found: as `contrasts.pairs` gives it.
        level: of the whole set: with this chance no pair is called different by mistake.
    """
    p = {(a, b): max(c.p(), found[b, a].p()) for (a, b), c in found.items() if a < b and (b, a) in found}
    return {pair for pair, adjusted in zip(p, holm(list(p.values())), strict=True) if adjusted <= 1 - level}


def smallest_by_rounds(found: Mapping[Pair, Contrast], level: float) -> float | None:
    """The median over all pairs of the half-width of the pair's own interval, as a share of the ratio."""
    widths = [w for c in found.values() if math.isfinite(w := c.interval(level).half_width)]
    return median(widths) if widths else None


def smallest_by_interval(intervals: Collection[Interval]) -> float | None:
    """sqrt(2) times the median half-width: the difference of two arms that are equally and independently uncertain.

    Args:
        intervals: of the arms' ratios without the reference's own. A single one is a pair already: no sqrt(2).
    """
    widths = [w for i in intervals if math.isfinite(w := i.half_width) and w > 0]
    return median(widths) * (math.sqrt(2) if len(widths) > 1 else 1.0) if widths else None


def resolve(records: Sequence[Record], rounds: Sequence[Round] = (), level: float = 0.95) -> Resolution:
    """What the records of one comparison group, and its rounds where there are any, resolve.

    Args:
        records: of one group; those without a speed get no letter.
        rounds: of the same group; empty: the stored intervals are compared.
        level: of an interval, and 1 - level the error rate of Holm's rule.
    """
    timed = sorted((r for r in records if r.outcome == "ok" and _speed(r)), key=lambda r: (-_speed(r), r.cell.variant))
    arms, runs = [r.cell.id for r in timed], max((int(r.values.get("run_df", -1)) + 1 for r in timed), default=0)
    of_arm = spreads(timed)
    found = pairs(rounds, arms) if rounds else {}
    found = {(a, b): widened(c, *between(of_arm[a], of_arm[b])) for (a, b), c in found.items()}
    if any(math.isfinite(c.error) for c in found.values()):
        known = [arm for arm in arms if any(arm in pair for pair in found)]
        differ = sorted(different_by_rounds(found, level))
        return Resolution(smallest_by_rounds(found, level), letters(known, differ), runs)
    intervals = _intervals(timed)
    if len(intervals) < 2:
        return Resolution()
    known = [arm for arm in arms if arm in intervals]
    return Resolution(smallest_by_interval(intervals.values()), letters_by_interval(known, intervals), runs)


def resolve_run(run: Run, *, by_rounds: bool = True) -> dict[str, Resolution]:
    """What each comparison group of a run resolved, by group; intervals and tests allow for the interim looks.

    Args:
        run: the run.
        by_rounds: test every pair on the rounds; otherwise the stored intervals are compared and no journal is read.

    Raises:
        AttnbenchError: a line of the journal is damaged.
    """
    rounds = read_rounds(run.folder) if by_rounds else {}
    looks = tuple(range(1, max(run.facts.looks, 1) + 1))
    level = Rule(looks=looks, target=math.inf, budget_s=math.inf, level=run.facts.level).level_at_a_look
    groups: dict[str, list[Record]] = {}
    for record in run.records:
        groups.setdefault(record.cell.group, []).append(record)
    return {group: resolve(records, rounds.get(group, ()), level) for group, records in groups.items()}


def _speed(record: Record) -> float:
    return float(record.values.get("throughput_img_per_s", 0.0))


def _intervals(records: Sequence[Record]) -> dict[str, Interval]:
    """The ratios' intervals by cell id; without ratios, those of the speeds."""
    for names in ENDS:
        found = {
            r.cell.id: Interval(*(float(r.values[n]) for n in names)) for r in records if set(names) <= set(r.values)
        }
        if len(found) > 1:
            return found
    return {}
