"""Numbers in, intervals out: what may be said of a time or a ratio after so many rounds and processes.

An interval that the values are too few for is infinite, (-inf, inf) or for a speed ratio (0, inf): five
rounds cannot carry a 95 % rank interval, and their minimum and maximum would claim it.

scipy.special is imported when a value is asked for: it takes 0.1 s, and most commands need none
(docs/decisions/0006-scipy-for-distributions.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, correlation
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnbench.analysis.distributions import signed_rank

Floats = NDArray[np.float64]
Unit = Literal["round", "process"]
# Levels of the F test between processes; docs/decisions/0001-unit-of-inference.md has the coverage behind them.
UNIT_LEVEL = 0.30  # below this p the process is the unit: cautious, for four processes show little
DIFFER_LEVEL = 0.05  # below this p it is said that they differ


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


@dataclass(frozen=True)
class Ratio:
    """A speed ratio, reference's time / arm's time: above 1 the arm is faster.

    Attributes:
        unit: what the interval counts as independent, the round or the process.
        round_sd: standard deviation of the log ratio between the rounds of a process.
        process_sd: between processes, beyond what their rounds explain; nan where it cannot be known
            (one process, or one round in each).
        processes_differ: the processes differ by more than their rounds explain (F test at `DIFFER_LEVEL`);
            the unit is then the process, and may be so without this.
    """

    estimate: float
    low: float
    high: float
    unit: Unit
    rounds: int
    processes: int
    round_sd: float
    process_sd: float
    processes_differ: bool

    @property
    def half_width(self) -> float:
        """Half the interval's width as a share of the estimate."""
        return _half_width(self.estimate, self.low, self.high)


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The median and its order-statistic interval: exact for independent values of any distribution.

    Raises:
        ValueError: no values, a value that is not finite, or a level outside (0, 1).
    """
    x = np.sort(_checked(values, level))
    n, below, rank = len(x), 0, 0
    # the interval from the rank-th smallest to the rank-th largest misses with 2 P(Binomial(n, 1/2) < rank)
    while rank < n:
        below += math.comb(n, rank)
        if 2 * below / 2**n > 1 - level + 1e-12:
            break
        rank += 1
    low, high = (float(x[rank - 1]), float(x[n - rank])) if rank else (-math.inf, math.inf)
    return Interval(float(np.median(x)), low, high)


def signed_rank_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Hodges and Lehmann's estimate of the centre of a symmetric distribution, and its exact interval.

    The estimate is the median of all means of two values (Walsh averages); the interval's ends are two of
    these, chosen by the exact distribution of Wilcoxon's signed-rank statistic.

    Raises:
        ValueError: as for `median_interval`.
    """
    x = _checked(values, level)
    walsh = _walsh(x)
    below = np.cumsum(signed_rank(tuple(range(1, len(x) + 1))))
    rank = int(np.searchsorted(2 * below, 1 - level + 1e-12, side="right"))
    low, high = (float(walsh[rank - 1]), float(walsh[len(walsh) - rank])) if rank else (-math.inf, math.inf)
    return Interval(float(np.median(walsh)), low, high)


def signed_rank_p(values: Sequence[float], centre: float = 0.0) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that the values are symmetric about `centre`.

    Exact given the values met: ties share the mean of their ranks, and a value equal to the centre keeps its
    rank but has no sign (Pratt), so the null distribution is built from the very ranks that have one.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    x = _checked(values) - centre
    doubled = _doubled_ranks(np.abs(x))
    signed = x != 0
    if not signed.any():
        return 1.0
    chances = signed_rank(tuple(sorted(int(r) for r in doubled[signed])))
    found = int(doubled[x > 0].sum())
    return min(1.0, 2 * float(min(chances[: found + 1].sum(), chances[found:].sum())))


def ratio(log_ratios: Sequence[Sequence[float]], level: float = 0.95) -> Ratio:
    """The speed ratio from log(reference's time / arm's time) of every round, by process.

    Where the processes seem to differ (one-way analysis of variance, F test at `UNIT_LEVEL`), the process is
    the unit: Student's interval of the process means. Else the round is: Hodges and Lehmann's, over all
    rounds. With one process, or one round in each, a process effect cannot be separated from the rounds' own
    spread: `process_sd` is nan, and the interval of a single process says nothing of the next one.

    Raises:
        ValueError: no process, a process without rounds, a value that is not finite, a level outside (0, 1).
    """
    groups = _groups(log_ratios, level)
    every, spread = np.concatenate(groups), _spread(groups)
    unit: Unit = "process" if spread.p < UNIT_LEVEL else "round"
    if unit == "process":
        found = student_interval([float(g.mean()) for g in groups], level)
    else:
        found = signed_rank_interval(every.tolist(), level)
    return Ratio(
        estimate=_exp(found.estimate), low=_exp(found.low), high=_exp(found.high), unit=unit,
        rounds=len(every), processes=len(groups), round_sd=spread.round_sd, process_sd=spread.process_sd,
        processes_differ=spread.p < DIFFER_LEVEL,
    )  # fmt: skip


def ratio_p(log_ratios: Sequence[Sequence[float]], centre: float = 0.0) -> float:
    """Two-sided p that the log speed ratio is `centre`, with the unit that `ratio` chooses.

    Raises:
        ValueError: as for `ratio`.
    """
    groups = _groups(log_ratios)
    if _spread(groups).p < UNIT_LEVEL:
        return student_p([float(g.mean()) for g in groups], centre)
    return signed_rank_p(np.concatenate(groups).tolist(), centre)


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and Student's interval of it; infinite for a single value.

    Raises:
        ValueError: as for `median_interval`.
    """
    x = _checked(values, level)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf)
    reach = _student_quantile(0.5 + level / 2, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(mean, mean - reach, mean + reach)


def student_p(values: Sequence[float], centre: float = 0.0) -> float:
    """Two-sided p of Student's test that the mean is `centre`; 1 for a single value."""
    x = _checked(values)
    error = float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf
    return t_p(float(x.mean()) - centre, error, len(x) - 1)


@dataclass(frozen=True)
class Difference:
    """A difference of two means: its standard error and Welch's degrees of freedom (0: they are not known)."""

    estimate: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> Interval:
        """Student's interval; infinite where there are no degrees of freedom."""
        reach = _student_quantile(0.5 + _level(level) / 2, self.df) * self.error if self.df else math.inf
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
    reach = _student_quantile(0.5 + _level(level) / 2, len(a) - 2) * error
    return Interval(slope, slope - reach, slope + reach)


def _centred_logs(values: Sequence[float]) -> list[float]:
    """Logarithms minus their mean."""
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    return [log - mean for log in logs]


@dataclass(frozen=True)
class _Spread:
    round_sd: float
    process_sd: float
    p: float  # of the F test; 1 where there is nothing to test


def _spread(groups: Sequence[Floats]) -> _Spread:
    """One-way random effects; unequal numbers of rounds by the usual n0."""
    sizes = np.array([len(g) for g in groups], dtype=float)
    total, k = float(sizes.sum()), len(groups)
    every = np.concatenate(groups)
    within_df = total - k
    if k == 1 or within_df == 0:  # a process alone, or one round in each: one spread, whatever it is made of
        return _Spread(float(every.std(ddof=1)) if len(every) > 1 else math.nan, math.nan, 1.0)
    within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups) / within_df
    means = np.array([g.mean() for g in groups])
    between = float((sizes * (means - every.mean()) ** 2).sum()) / (k - 1)
    rounding = (1e-12 * max(1.0, float(np.abs(every).max()))) ** 2  # what arithmetic alone may leave
    if between <= rounding:
        return _Spread(math.sqrt(within), 0.0, 1.0)
    n0 = (total - float((sizes**2).sum()) / total) / (k - 1)
    f = between / within if within > rounding else math.inf
    return _Spread(math.sqrt(within), math.sqrt(max(0.0, (between - within) / n0)), _f_tail(f, k - 1, within_df))


def _student_quantile(chance: float, df: float) -> float:
    """The t below which Student's distribution has this chance."""
    from scipy.special import stdtrit

    return float(stdtrit(df, chance))


def _student_tail(t: float, df: float) -> float:
    """P(T > t)."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


def _f_tail(f: float, df1: float, df2: float) -> float:
    """P(F > f)."""
    from scipy.special import fdtrc

    return float(fdtrc(df1, df2, f))


def _walsh(x: Floats) -> Floats:
    i, j = np.triu_indices(len(x))
    return np.sort((x[i] + x[j]) / 2)


def _doubled_ranks(x: Floats) -> NDArray[np.int64]:
    """Twice the midranks: whole numbers, however many ties."""
    ordered = np.sort(x)
    return np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right") + 1


def _groups(log_ratios: Sequence[Sequence[float]], level: float = 0.95) -> list[Floats]:
    if len(log_ratios) == 0:
        raise ValueError("a ratio needs at least one process; got none")
    return [_checked(rounds, level) for rounds in log_ratios]


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


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
