"""Numbers in, intervals out: Student's t, Welch, Holm, Wilson, rank correlations, a power law's exponent.

How the rounds of a run become speed ratios is in attnbench.analysis.contrasts. scipy.special is imported when a value
is asked for: it takes 0.1 s, and most commands need none (docs/decisions/0006-scipy-for-distributions.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, correlation

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that covers the truth at the level asked for."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the estimate; infinite where that has no meaning."""
        return _half_width(self.estimate, self.low, self.high)


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and Student's interval of it; infinite for a single value.

    Raises:
        ValueError: no values, a value that is not finite, or a level outside (0, 1).
    """
    x = _checked(values, level)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf)
    reach = student_quantile(0.5 + level / 2, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(mean, mean - reach, mean + reach)


def student_p(values: Sequence[float], centre: float = 0.0) -> float:
    """Two-sided p of Student's test that the mean is `centre`; 1 for a single value."""
    x = _checked(values)
    error = float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf
    return t_p(float(x.mean()) - centre, error, len(x) - 1)


def hodges_lehmann(values: Floats) -> Floats:
    """The median of all means of two values, each with itself included: [..., values] to [...].

    The bits of `numpy.median`, in a third of its time: it looks for values that are not finite, which are not allowed.

    Source: Hodges, Lehmann (1963), Estimates of location based on rank tests, Ann. Math. Statist. 34.
    """
    i, j = _places_of_pairs(values.shape[-1])
    sums = np.take(values, i, axis=-1)
    sums += np.take(values, j, axis=-1)
    middle, even = len(i) // 2, len(i) % 2 == 0
    sums.partition(middle, axis=-1)
    centre = sums[..., middle]
    return np.asarray((centre + sums[..., :middle].max(axis=-1)) / 4 if even else centre / 2)


@cache
def _places_of_pairs(values: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of every two values, each with itself included."""
    return np.triu_indices(values)


@dataclass(frozen=True)
class Difference:
    """A difference of two means: its standard error and Welch's degrees of freedom (0: they are not known)."""

    estimate: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> Interval:
        """Student's interval; infinite where there are no degrees of freedom."""
        reach = student_quantile(0.5 + _level(level) / 2, self.df) * self.error if self.df else math.inf
        return Interval(self.estimate, self.estimate - reach, self.estimate + reach)

    def p(self, centre: float = 0.0) -> float:
        """Two-sided p that the difference is `centre`."""
        return t_p(self.estimate - centre, self.error, self.df)


def welch(x: Sequence[float], y: Sequence[float]) -> Difference:
    """Mean of x minus mean of y, two independent samples of unequal spread; Satterthwaite's degrees of freedom.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    a, b = _checked(x), _checked(y)
    estimate = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Difference(estimate, math.inf, 0.0)
    u, v = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    scale = u**2 / (len(a) - 1) + v**2 / (len(b) - 1)
    df = (u + v) ** 2 / scale if scale else float(len(a) + len(b) - 2)
    return Difference(estimate, math.sqrt(u + v), df)


def exp(value: float) -> float:
    """exp, infinite where it would overflow."""
    return math.exp(value) if value < 700 else math.inf


def t_p(difference: float, error: float, df: float) -> float:
    """Two-sided p of a difference that is `error` uncertain with `df` degrees of freedom."""
    if df <= 0 or not math.isfinite(error):
        return 1.0
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return 2 * _student_tail(abs(difference) / error, df)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: those below alpha hold together with chance 1 - alpha.

    Raises:
        ValueError: a p outside [0, 1].
    """
    for value in p:
        if not 0 <= value <= 1:
            raise ValueError(f"a p-value lies in [0, 1]; got {value!r}")
    adjusted, running = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A share of successes and Wilson's interval for it.

    Raises:
        ValueError: no trials, successes outside 0..trials, or a level outside (0, 1).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..trials and trials be at least 1; got {successes} of {trials}")
    z = NormalDist().inv_cdf(0.5 + _level(level) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, middle - reach)
    return Interval(share, low, 1.0 if successes == trials else min(1.0, middle + reach))


def share_of_pairs(tables: Sequence[Sequence[Sequence[bool]]], level: float = 0.95) -> Interval:
    """The share of pairs of members for which something holds, and its interval although pairs share members.

    The members are drawn independently, so the share is a U-statistic of degree two; its error is that of the jackknife
    which leaves one member out (Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics 40, 1969).

    Args:
        tables: one symmetric table a group of members, [members, members]; only pairs within a group count.
        level: of the interval.

    Raises:
        ValueError: a group has fewer than three members, or a table is not square.
    """
    if not tables:
        raise ValueError("a share of pairs needs at least one table; got none")
    hits, pairs, without = 0.0, 0, []
    for table in tables:
        holds = np.asarray(table, dtype=float)
        n = len(holds)
        if n < 3 or holds.shape != (n, n):
            raise ValueError(f"a table of pairs must be square, of three members or more; got {holds.shape}")
        holds = np.triu(holds, 1) + np.triu(holds, 1).T
        hits, pairs = hits + holds.sum() / 2, pairs + n * (n - 1) // 2
        without += [(float(mine), n - 1) for mine in holds.sum(axis=1)]
    share = hits / pairs
    left_out = np.array([(hits - mine) / (pairs - fewer) for mine, fewer in without])
    members = len(left_out)
    error = math.sqrt((members - 1) / members * float(((left_out - left_out.mean()) ** 2).sum()))
    if share in (0.0, 1.0):  # nothing varies; as many trials as there are disjoint pairs bound it
        return wilson(round(share * (members // 2)), members // 2, level)
    reach = student_quantile(0.5 + _level(level) / 2, members - 1) * error / (share * (1 - share))
    odds = math.log(share / (1 - share))  # on this scale the estimate is nearly symmetric
    low, high = (1 / (1 + math.exp(-(odds + side * reach))) for side in (-1, 1))
    return Interval(share, low, high)


def spearman_rho(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rho of two rankings of the same things; nan where one of them ranks nothing.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, a value that is not finite.
    """
    a, b = (_doubled_ranks(v).tolist() for v in _pairs(x, y, at_least=2))
    return correlation(a, b) if len(set(a)) > 1 and len(set(b)) > 1 else math.nan


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the same things; nan where one of them ranks nothing.

    Raises:
        ValueError: fewer than two pairs, unequal lengths, a value that is not finite.
    """
    a, b = _pairs(x, y, at_least=2)
    upper = np.triu_indices(len(a), 1)
    left, right = (np.sign(np.subtract.outer(v, v))[upper] for v in (a, b))
    scale = math.sqrt(float(np.count_nonzero(left)) * float(np.count_nonzero(right)))
    return float((left * right).sum()) / scale if scale else math.nan


def power_law(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Interval:
    """The exponent b of y = a x^b: least squares on logarithms, Student's interval of the slope.

    Two points give an exponent without an interval. Sums are math.fsum's, exact before one rounding: published
    exponents do not depend on the order in which a linear-algebra library adds.

    Raises:
        ValueError: fewer than two different x, unequal lengths, a value that is not finite and positive.
    """
    a, b = (v.tolist() for v in _pairs(x, y, at_least=2))
    if min(*a, *b) <= 0:
        raise ValueError(f"a power law needs positive values; got {min(*a, *b)!r}")
    u, v = _centred_logs(a), _centred_logs(b)
    square = math.fsum(p * p for p in u)
    if square <= 1e-24:
        raise ValueError(f"a power law needs two different x; got {a[0]!r} alone")
    slope = math.fsum(p * q for p, q in zip(u, v, strict=True)) / square
    if len(a) == 2:
        return Interval(slope, -math.inf, math.inf)
    left = math.fsum((q - slope * p) ** 2 for p, q in zip(u, v, strict=True))
    error = math.sqrt(left / (len(a) - 2) / square)
    reach = student_quantile(0.5 + _level(level) / 2, len(a) - 2) * error
    return Interval(slope, slope - reach, slope + reach)


def _centred_logs(values: Sequence[float]) -> list[float]:
    """Logarithms minus their mean."""
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    return [log - mean for log in logs]


def student_quantile(chance: float, df: float) -> float:
    """The t below which Student's distribution has this chance."""
    from scipy.special import stdtrit

    return float(stdtrit(df, chance))


def _student_tail(t: float, df: float) -> float:
    """P(T > t)."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


def _doubled_ranks(x: Floats) -> NDArray[np.int64]:
    """Twice the midranks: whole numbers, however many ties."""
    ordered = np.sort(x)
    return np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right") + 1


def _checked(values: Sequence[float], level: float = 0.95) -> Floats:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"an interval needs at least one value; got an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"values must be finite; got {float(x[~np.isfinite(x)][0])!r} among {len(x)}")
    _level(level)
    return x


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1; got {level!r}")
    return level


def _pairs(x: Sequence[float], y: Sequence[float], at_least: int) -> tuple[Floats, Floats]:
    if len(x) != len(y) or len(x) < at_least:
        raise ValueError(f"x and y must pair, {at_least} pairs at least; got {len(x)} and {len(y)}")
    return _checked(x), _checked(y)


def _half_width(estimate: float, low: float, high: float) -> float:
    if low == high:
        return 0.0
    return (high - low) / 2 / abs(estimate) if estimate and math.isfinite(high - low) else math.inf
