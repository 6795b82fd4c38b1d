"""Two measurements of the same arms -> how far the speed ratios moved, and how alike the two rankings are.

A measurement is the log times of every arm in every round, by process. A process gives one log speed ratio of each arm
to the reference, the Hodges-Lehmann estimate over its rounds; the measurement's is their mean.

The interval of Kendall's tau is a bootstrap of the measurements, for these arms: processes are drawn with replacement,
then rounds within each (Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.8 and 5.2). A
single process cannot show its own persistent bias: one is drawn from what other processes showed.
Resampled rankings are noisier than the measured one, so their taus are too low; each end is therefore the wider of the
percentile and of the basic interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from attnbench.analysis import statistics
from attnbench.analysis.statistics import Interval
from attnbench.results.events import Round

Floats = NDArray[np.float64]
REPLICATES = 1000
AT_ONCE = 100  # samples of a process whose estimates are made together: 30 MB for 25 rounds of 100 arms


@dataclass(frozen=True)
class Measurement:
    """What one procedure gave.

    Attributes:
        arms: names, the reference first.
        logs: by process: log times, [rounds, arms].
        block: seconds of each call, [calls, arms], where there is a single round; else None.
        shared: the arms of a round met the same moments, so that rounds are resampled as a whole.
        mean: a turn's time is the mean of its calls, not their median.
        biases: where there is a single process: what processes may add to its log speed ratios, [cases, arms], as
            `process_biases` gives it for other processes; a bootstrap sample takes one of them, with either sign.
    """

    arms: tuple[str, ...]
    logs: tuple[Floats, ...]
    block: Floats | None = None
    shared: bool = True
    mean: bool = False
    biases: Floats | None = None

    def of(self, arms: Sequence[str]) -> Measurement:
        """The same for some of the arms, in this order."""
        places = [self.arms.index(arm) for arm in arms]
        block, biases = (None if x is None else x[:, places] for x in (self.block, self.biases))
        logs = tuple(x[:, places] for x in self.logs)
        return replace(self, arms=tuple(arms), logs=logs, block=block, biases=biases)

    def speeds(self) -> Floats:
        """Log speed ratio to the reference of every arm, [arms]; 0 for the reference."""
        return log_speeds(self.logs)

    def by_process(self) -> Floats:
        """The log speed ratios that each process gives, [processes, arms]."""
        return np.array([_hodges_lehmann(x[:, :1] - x) for x in self.logs])

    def resampled(self, rng: np.random.Generator) -> Floats:
        """`speeds` of one bootstrap sample: of processes and their rounds; of a single block, of its calls."""
        bias = 0.0
        if self.biases is not None and len(self.logs) == 1:
            bias = self.biases[rng.integers(len(self.biases))] * rng.choice((-1.0, 1.0))
        return bias + self._redrawn(rng)

    def samples(self, seed: int, count: int) -> Floats:
        """So many samples of `resampled` with a generator of this seed, [count, arms]."""
        if self.block is not None or self.biases is not None or not self.shared:
            rng = np.random.default_rng(seed)
            return np.array([self.resampled(rng) for _ in range(count)])
        speeds = np.empty((count, len(self.logs), len(self.arms)))
        resampled = _resampled_rounds(tuple(map(len, self.logs)), seed, count)
        for x, (samples, parts, rounds) in zip(self.logs, resampled, strict=True):
            for start in range(0, len(rounds), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                drawn = x[rounds[some]]
                speeds[samples[some], parts[some]] = _hodges_lehmann(drawn[..., :1] - drawn)
        return np.asarray(speeds.mean(axis=1))

    def _redrawn(self, rng: np.random.Generator) -> Floats:
        if self.block is not None:
            drawn = np.take_along_axis(self.block, rng.integers(len(self.block), size=self.block.shape), axis=0)
            times = drawn.mean(axis=0) if self.mean else np.median(drawn, axis=0)
            return log_speeds([np.log(times)[None]])
        processes = []
        for place in rng.integers(len(self.logs), size=len(self.logs)):
            x = self.logs[place]
            if self.shared:
                processes.append(x[rng.integers(len(x), size=len(x))])
            else:
                processes.append(np.take_along_axis(x, rng.integers(len(x), size=x.shape), axis=0))
        return log_speeds(processes)


Places = NDArray[np.int64]


@lru_cache(maxsize=32)  # the comparison groups of a run mostly have the same numbers of rounds
def _resampled_rounds(rounds: tuple[int, ...], seed: int, count: int) -> tuple[tuple[Places, Places, Places], ...]:
    """Which rounds the bootstrap samples of a measurement consist of.

    Args:
        rounds: of each process.
        seed: of the generator.
        count: samples.

    Returns:
        For each process, once for every time that it was drawn: the number of the sample, [times]; its place among the
        sample's processes, [times]; and the rounds that were drawn there, [times, rounds].
    """
    rng = np.random.default_rng(seed)
    found: list[list[tuple[int, int, Places]]] = [[] for _ in rounds]
    for sample in range(count):
        for part, process in enumerate(rng.integers(len(rounds), size=len(rounds)).tolist()):
            found[process].append((sample, part, rng.integers(rounds[process], size=rounds[process])))
    return tuple(
        (
            np.array([sample for sample, _, _ in times], dtype=np.int64),
            np.array([part for _, part, _ in times], dtype=np.int64),
            np.array([drawn for _, _, drawn in times], dtype=np.int64).reshape(-1, length),
        )
        for times, length in zip(found, rounds, strict=True)
    )


def measurement(
    rounds: Iterable[Round], arms: Mapping[str, str], *, mean: bool = False, shared: bool = True
) -> Measurement:
    """The log times of the arms that had a turn in every round.

    Args:
        rounds: of one comparison group.
        arms: cell ids by name, the reference first.
        mean: take the mean of a turn's calls instead of their median.
        shared: see `Measurement`.
    """
    rounds = list(rounds)
    kept = {name: cell for name, cell in arms.items() if rounds and all(r.of(cell) for r in rounds)}
    center = fmean if mean else median
    by_process: dict[int, list[list[float]]] = {}
    for r in rounds:
        times = [fmean(math.log(center(turn.calls_s)) for turn in r.of(cell)) for cell in kept.values()]
        by_process.setdefault(r.process, []).append(times)
    logs = tuple(np.array(rows) for rows in by_process.values())
    block = None
    if len(rounds) == 1 and kept:
        calls = [rounds[0].of(cell)[0].calls_s for cell in kept.values()]
        least = min(map(len, calls))
        block = np.array([c[:least] for c in calls]).T
    return Measurement(tuple(kept), logs, block, shared, mean)


def log_speeds(processes: Sequence[Floats]) -> Floats:
    """The mean over processes of log (reference's time / arm's time), [arms]; the reference is arm 0."""
    return np.asarray(np.mean([_hodges_lehmann(x[:, :1] - x) for x in processes], axis=0))


def _hodges_lehmann(x: Floats) -> Floats:
    """The Hodges-Lehmann estimate over the rows of every column: [..., rows, columns] to [..., columns]."""
    return statistics.hodges_lehmann(np.ascontiguousarray(np.swapaxes(x, -1, -2)))


def process_biases(*measured: Measurement) -> Floats | None:
    """How far the log speed ratios of processes lie from their mean, [processes, arms]; None for a single process.

    Divided by sqrt(1 - 1/n) for n processes, so that their spread is that of processes about the truth. The spread of
    the processes' own rounds is in it: the biases are not smaller than this.
    """
    x = np.concatenate([m.by_process() for m in measured])
    return (x - x.mean(axis=0)) / math.sqrt(1 - 1 / len(x)) if len(x) > 1 else None


@dataclass(frozen=True)
class Move:
    """How far the speed ratio of one arm moved: ratio there / ratio here, with its interval and its p.

    The interval is (0, inf), and p nan, where one of the two has a single process.
    """

    arm: str
    ratio: float
    estimate: float
    low: float
    high: float
    p: float


def moves(here: Measurement, there: Measurement, *, paired: bool = False, level: float = 0.95) -> list[Move]:
    """How far each ratio moved from `here` to `there`, which have the same arms; the reference is left out.

    The unit is the process: Welch's interval; Student's of the differences if both are of the same rounds (`paired`).
    """
    ratios, by = np.exp(there.speeds()), np.exp(there.speeds() - here.speeds())
    a, b = here.by_process(), there.by_process()
    found = []
    for place, arm in enumerate(here.arms[1:], start=1):
        end, p = Interval(0.0, -math.inf, math.inf), math.nan
        if min(len(a), len(b)) > 1 and paired:
            changes = (b[:, place] - a[:, place]).tolist()
            end, p = statistics.student_interval(changes, level), statistics.student_p(changes)
        elif min(len(a), len(b)) > 1:
            difference = statistics.welch(b[:, place].tolist(), a[:, place].tolist())
            end, p = difference.interval(level), difference.p()
        low, high = (math.exp(x) if math.isfinite(x) else max(x, 0.0) for x in (end.low, end.high))
        found.append(Move(arm, float(ratios[place]), float(by[place]), low, high, p))
    return found


def count_moved(found: Sequence[Move], level: float = 0.95) -> int | None:
    """How many ratios moved, by Holm's rule; None if no p is known."""
    known = [m.p for m in found if not math.isnan(m.p)]
    return sum(p <= 1 - level for p in statistics.holm(known)) if known else None


def tau(here: Measurement, there: Measurement, *, paired: bool = False, level: float = 0.95, seed: int = 0) -> Interval:
    """Kendall's tau of the two rankings by speed, with its interval; nan for fewer than two arms.

    `paired`: both are of the same rounds, which are resampled together.
    """
    if len(here.arms) < 2:
        return Interval(math.nan, -1.0, 1.0)
    estimate = statistics.kendall_tau(here.speeds().tolist(), there.speeds().tolist())
    mine, other = np.random.default_rng(seed), np.random.default_rng(seed if paired else seed + 1)
    drawn = [
        statistics.kendall_tau(here.resampled(mine).tolist(), there.resampled(other).tolist())
        for _ in range(REPLICATES)
    ]
    return widest(estimate, drawn, level)


def widest(estimate: float, drawn: Sequence[float], level: float = 0.95) -> Interval:
    """On each side the wider of the percentile and the basic bootstrap interval, within [-1, 1]."""
    low, high = (float(np.quantile(drawn, q)) for q in (0.5 - level / 2, 0.5 + level / 2))
    ends = (min(low, 2 * estimate - high), max(high, 2 * estimate - low))
    return Interval(estimate, max(-1.0, ends[0]), min(1.0, ends[1]))


def swapped(here: Measurement, there: Measurement) -> tuple[int, int]:
    """Pairs of arms whose order the two rankings dispute, and all pairs."""
    a, b = here.speeds(), there.speeds()
    upper = np.triu_indices(len(a), 1)
    signs = np.sign(np.subtract.outer(a, a))[upper] * np.sign(np.subtract.outer(b, b))[upper]
    return int((signs < 0).sum()), len(signs)
