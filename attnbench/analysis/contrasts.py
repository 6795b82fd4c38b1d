"""Rounds -> the speed of every arm over the reference's, with its error: one estimator, one unit of inference.

Location. In every round the median over the arms of their log times is taken out, which removes what slowed the whole
round. An arm's location is the Hodges-Lehmann estimate (the median of all pairwise means) over all its turns, and a
contrast is the reference's location minus the arm's: a log speed ratio. Arm and reference are summarised by the same
functional, so identical arms differ by nothing but chance, however skewed the disturbances are.

Error. The process is the unit: the jackknife leaves out one process at a time, and the variance of its pseudo-values is
the variance of the estimate, whatever differs between processes. Three refinements, each with its evidence in
docs/methods.md: where many arms share the rounds, a variance borrows strength from the others' (empirical Bayes,
moderated t); where successive processes resemble each other, the error is widened by their common lag-1 correlation;
Student's t takes the rest.

An arm that was isolated has no round in common with others: it and a copy of the reference were timed in processes of
their own, one of each beside every shared process. In each such pair of processes the mean of the two locations is
taken out, and the pair is what the jackknife leaves out. Their variances are refined apart from those of other arms.

Sources:
    Hodges, Lehmann (1963), Estimates of location based on rank tests, Ann. Math. Statist. 34.
    Tukey (1958), Bias and confidence in not quite large samples, Ann. Math. Statist. 29.
    Smyth (2004), Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnbench.analysis.statistics import Interval, exp, hodges_lehmann, student_quantile, t_p
from attnbench.results.events import ArmTurn, Round, mean_log

Floats = NDArray[np.float64]
MODERATED = 8  # arms from which a variance borrows strength from the others
PRIOR_DF = 3.0  # at most so many degrees of freedom are borrowed
CORRELATED = 5  # processes from which the correlation of successive ones can be judged
MOST_CORRELATION = 0.6
DIFFER = 2.0  # a process standard deviation of so many times what its rounds explain is worth a flag


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A log speed ratio: reference's time over the arm's; above 0 the arm is faster.

    Attributes:
        log_ratio: the estimate. `error`: its standard error, infinite where one unit gives none.
        df: degrees of freedom of `error`.
        rounds, processes: that both arms were in. `units`: what the jackknife left out at a time, processes, or
            rounds where there is one process.
        process_sd: standard deviation of the log ratio between processes (of the pseudo-values).
        expected_sd: what the spread of the rounds within processes explains of it; nan with one round in each.
        correlation: of successive processes, pooled over the arms; what it adds is in `error`.
    """

    log_ratio: float
    error: float
    df: float
    rounds: int
    processes: int
    units: int
    process_sd: float = math.nan
    expected_sd: float = math.nan
    correlation: float = 0.0

    @property
    def ratio(self) -> float:
        """The speed ratio."""
        return exp(self.log_ratio)

    @property
    def processes_differ(self) -> bool:
        """The processes differ by clearly more than their rounds explain."""
        return self.process_sd > DIFFER * self.expected_sd

    def interval(self, level: float = 0.95) -> Interval:
        """The speed ratio with its confidence interval; (0, inf) where no error can be given."""
        if not math.isfinite(self.error) or self.df <= 0:
            return Interval(self.ratio, 0.0, math.inf)
        reach = student_quantile(0.5 + level / 2, self.df) * self.error if self.error else 0.0
        return Interval(self.ratio, exp(self.log_ratio - reach), exp(self.log_ratio + reach))

    def p(self, centre: float = 0.0) -> float:
        """Two-sided p that the log ratio is `centre`."""
        return t_p(self.log_ratio - centre, self.error, self.df)


def contrasts(rounds: Sequence[Round], arms: Sequence[str], reference: str) -> dict[str, Contrast]:
    """The contrast of every arm with the reference, over the rounds that both were in; arms without one are left out.

    Args:
        rounds: of one comparison group.
        arms: cell ids; the reference itself is skipped.
        reference: its cell id.
    """
    return _against(_Logs(rounds), arms, reference)


def pairs(rounds: Sequence[Round], arms: Sequence[str]) -> dict[tuple[str, str], Contrast]:
    """`contrasts` for every arm as the reference in turn, by (reference, arm), with each arm's locations taken once.

    The two orders of a pair may differ in their error: each is moderated among the contrasts with its own reference.

    Args:
        rounds: of one comparison group.
        arms: cell ids.
    """
    logs = _Logs(rounds)
    return {(base, arm): c for base in arms for arm, c in _against(logs, arms, base).items()}


class _Logs:
    """The log times of each arm by round, less the round's effect; and the locations of them, each computed once."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self.processes = [r.process for r in rounds]
        self._rounds = rounds
        always = _in_every_round(rounds)
        self._effects = [_effect(r, always) for r in rounds]
        self._arms: dict[str, dict[int, Floats]] = {}
        self._summaries: dict[tuple[str, tuple[int, ...]], _Summary] = {}

    def isolated(self, arm: str) -> bool:
        """Whether the arm was timed in processes of its own only."""
        return not self.rounds_of(arm) and any(r.of(arm) for r in self._rounds)

    def apart(self, one: str, other: str) -> tuple[Contrast, Floats] | None:
        """Location of `one` minus that of `other`, timed in separate processes; and the pseudo-values."""
        paired = [(r.process, r.pair(one, other)) for r in self._rounds]
        processes = [process for process, (a, b) in paired if a and b]
        if not processes:
            return None
        mine, others = ([_log_times(turns[side]) for _, turns in paired if all(turns)] for side in (0, 1))
        for name in set(processes):
            places = [i for i, process in enumerate(processes) if process == name]
            effect = sum(location(np.concatenate([side[i] for i in places])) for side in (mine, others)) / 2
            for side, i in product((mine, others), places):
                side[i] = side[i] - effect
        return _jackknife(_summary(mine, processes), _summary(others, processes), processes, processes)

    def rounds_of(self, arm: str) -> dict[int, Floats]:
        """Place of a round -> the arm's values in it, of its turns in the shared process."""
        if arm not in self._arms:
            mine = {i: _log_times(r.shared(arm)) - self._effects[i] for i, r in enumerate(self._rounds)}
            self._arms[arm] = {i: values for i, values in mine.items() if len(values)}
        return self._arms[arm]

    def summary(self, arm: str, places: tuple[int, ...]) -> _Summary:
        """The arm's summary over the rounds at these places."""
        if (arm, places) not in self._summaries:
            values = [self.rounds_of(arm)[i] for i in places]
            self._summaries[arm, places] = _summary(values, _units([self.processes[i] for i in places]))
        return self._summaries[arm, places]


def _against(logs: _Logs, arms: Sequence[str], reference: str) -> dict[str, Contrast]:
    found: dict[str, Contrast] = {}
    apart: dict[str, Contrast] = {}
    pseudo: dict[str, Floats] = {}
    for arm in arms:
        if arm == reference:
            continue
        if logs.isolated(arm) or logs.isolated(reference):
            separate = logs.apart(reference, arm)
            if separate:
                apart[arm], pseudo[arm] = separate
            continue
        both = tuple(i for i in logs.rounds_of(arm) if i in logs.rounds_of(reference))
        if both:
            base, mine = logs.summary(reference, both), logs.summary(arm, both)
            processes = [logs.processes[i] for i in both]
            found[arm], pseudo[arm] = _jackknife(base, mine, processes, _units(processes))
    return {**_refined(found, pseudo), **_refined(apart, pseudo)}


def log_speed(rounds: Sequence[Round], arm: str) -> Contrast | None:
    """Minus the log of an arm's time, alone: what changed for all arms is part of its error. None without a turn."""
    mine = [r for r in rounds if r.of(arm)]
    if not mine:
        return None
    processes = [r.process for r in mine]
    zero, values = [np.zeros(1)] * len(mine), [_log_times(r.of(arm)) for r in mine]
    units = _units(processes)
    alone, pseudo = _jackknife(_summary(zero, units), _summary(values, units), processes, units)
    return _refined({arm: alone}, {arm: pseudo})[arm]


def _log_times(turns: Sequence[ArmTurn]) -> Floats:
    return np.array([math.log(turn.seconds) for turn in turns])


def _in_every_round(rounds: Sequence[Round]) -> set[str]:
    """The arms that had a turn in every round of the shared process."""
    each = [{turn.cell for turn in r.turns} for r in rounds if r.turns]
    return set.intersection(*each) if each else set()


def _effect(r: Round, always: Collection[str]) -> float:
    """The median over a round's arms of their log times; the turns of isolated arms have no part in it.

    Only over the arms `always` in the rounds, where there are any: when slow arms leave, the median of those that stay
    would jump, and arm and reference differ in how many of their turns lie before the jump.
    """
    arms = dict.fromkeys(turn.cell for turn in r.turns if not always or turn.cell in always)
    times = [mean_log(r.shared(cell)) for cell in arms]
    return float(np.median([t for t in times if t is not None])) if times else 0.0


def _units(processes: Sequence[int]) -> list[int]:
    """What is left out at a time: the process of each round; with a single process the round itself."""
    return list(range(len(processes))) if len(set(processes)) == 1 else list(processes)


class _Summary(NamedTuple):
    """An arm over some rounds: its location, that without each unit in turn [units], its mean in each round."""

    location: float
    without: list[float]
    means: list[float]


def _summary(values: Sequence[Floats], units: Sequence[int]) -> _Summary:
    """The summary of one array a round; `units`: the unit of each round."""
    without = [
        location(np.concatenate([v for v, unit in zip(values, units, strict=True) if unit != name]))
        for name in dict.fromkeys(units)
        if len(set(units)) > 1
    ]
    return _Summary(location(np.concatenate(values)), without, [float(v.mean()) for v in values])


def _jackknife(
    base: _Summary, mine: _Summary, processes: Sequence[int], units: Sequence[int]
) -> tuple[Contrast, Floats]:
    """Location of `base` minus location of `mine`, over the same rounds; and the pseudo-values, one a unit."""
    k = len(set(units))
    full = base.location - mine.location
    if k == 1:
        only = Contrast(log_ratio=full, error=math.inf, df=0.0, rounds=len(units), processes=1, units=1)
        return only, np.zeros(0)
    pseudo = k * full - (k - 1) * (np.array(base.without) - np.array(mine.without))
    sd = float(pseudo.std(ddof=1))
    return Contrast(
        log_ratio=full, error=sd / math.sqrt(k), df=k - 1.0, rounds=len(units), processes=len(set(processes)), units=k,
        process_sd=sd, expected_sd=_expected_sd(base.means, mine.means, units),
    ), pseudo  # fmt: skip


def _expected_sd(base: Sequence[float], mine: Sequence[float], units: Sequence[int]) -> float:
    """The standard deviation between units that their rounds' own spread explains; from the means of the rounds."""
    by_unit: dict[int, list[float]] = {}
    for b, m, unit in zip(base, mine, units, strict=True):
        by_unit.setdefault(unit, []).append(b - m)
    several = [np.array(v) for v in by_unit.values() if len(v) > 1]
    if not several:
        return math.nan
    within = math.fsum(float(((v - v.mean()) ** 2).sum()) for v in several) / sum(len(v) - 1 for v in several)
    return math.sqrt(within / (sum(map(len, by_unit.values())) / len(by_unit)))


def location(values: Floats) -> float:
    """Hodges and Lehmann's estimate of a single sample, [values]."""
    return float(hodges_lehmann(values))


def _refined(found: dict[str, Contrast], pseudo: dict[str, Floats]) -> dict[str, Contrast]:
    """Moderated variances, and the correlation of successive processes, both from all arms together."""
    alike = [arm for arm, c in found.items() if c.units > 1]
    if not alike:
        return found
    refined = dict(found)
    for units in {found[arm].units for arm in alike}:
        refined |= _refined_alike({arm: found[arm] for arm in alike if found[arm].units == units}, pseudo)
    return refined


def _refined_alike(found: dict[str, Contrast], pseudo: dict[str, Floats]) -> dict[str, Contrast]:
    """The same of arms with equally many units."""
    alike = list(found)
    most = found[alike[0]].units
    rho = _correlation([pseudo[arm] for arm in alike])
    variances = np.array([found[arm].process_sd ** 2 for arm in alike])
    df = most - 1.0
    if len(alike) >= MODERATED - 1:
        variances, df = moderated(variances, df)
    refined = dict(found)
    for arm, variance in zip(alike, variances.tolist(), strict=True):
        inflation = 1 + 2 * rho * (1 - 1 / most) * 1.15
        refined[arm] = replace(found[arm], error=math.sqrt(variance * inflation / most), df=float(df), correlation=rho)
    return refined


def _correlation(pseudo: Sequence[Floats]) -> float:
    """The lag-1 correlation of successive units, a standard error above its estimate; 0 where it is negative.

    A sample's own mean biases the estimate down by about (1 + 3 rho) / k, which is put back.
    """
    k = len(pseudo[0])
    if k < CORRELATED:
        return 0.0
    d = np.stack([p - p.mean() for p in pseudo])
    square = float((d**2).sum()) / k
    if square <= 0:
        return 0.0
    raw = float((d[:, 1:] * d[:, :-1]).sum()) / (k - 1) / square
    error = 1 / math.sqrt(len(pseudo) * (k - 1)) / (1 - 3 / k)
    return min(MOST_CORRELATION, max(0.0, (raw + 1 / k) / (1 - 3 / k) + error))


def moderated(variances: Floats, df: float) -> tuple[Floats, float]:
    """Variances drawn towards their common level, and the degrees of freedom that they then have (Smyth's moments).

    Args:
        variances: of one quantity in several arms, [arms], each with `df` degrees of freedom.
        df: at least 1.
    """
    from scipy.special import digamma, polygamma

    positive = variances > 0
    if not positive.any():
        return variances, df
    logs = np.log(variances[positive]) - digamma(df / 2) + math.log(df / 2)
    spread = float(logs.var(ddof=1)) - float(polygamma(1, df / 2)) if len(logs) > 1 else math.inf
    prior_df = 2 * _inverse_trigamma(spread) if spread > 0 else math.inf
    if math.isinf(prior_df):
        prior = math.exp(float(logs.mean()))
    else:
        prior = math.exp(float(logs.mean()) + float(digamma(prior_df / 2)) - math.log(prior_df / 2))
    weight = min(prior_df, PRIOR_DF)
    return (weight * prior + df * variances) / (weight + df), df + weight


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function has this value: Newton's method on 1 / trigamma, which is nearly linear."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x
