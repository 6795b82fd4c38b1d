"""The distributions behind the intervals: Student's t, F, and the signed-rank statistic. Plain arithmetic."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=256)
def student_quantile(chance: float, df: float) -> float:
    """The t below which Student's distribution with `df` degrees of freedom has this chance (0.5 or more)."""
    low, high = 0.0, 1.0
    while student_tail(high, df) > 1 - chance:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, df) > 1 - chance else (low, middle)
    return (low + high) / 2


def student_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0."""
    return _beta(df / (df + t * t), df / 2, 0.5) / 2


def f_tail(f: float, df1: float, df2: float) -> float:
    """P(F > f) for f >= 0."""
    return 0.0 if math.isinf(f) else _beta(df2 / (df2 + df1 * f), df2 / 2, df1 / 2)


@lru_cache(maxsize=256)
def signed_rank(ranks: tuple[int, ...]) -> NDArray[np.float64]:
    """P(the sum of a random half of these ranks = s) for s = 0, 1, ...: each rank is in with chance 1/2."""
    chances = np.zeros(sum(ranks) + 1)
    chances[0], top = 1.0, 0
    for rank in ranks:
        chances[rank : top + rank + 1] += chances[: top + 1]
        top += rank
        chances[: top + 1] /= 2
    chances.flags.writeable = False  # it is kept for the next call
    return chances


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _away(1 + even * d), _away(1 + even / c)
        result *= c * d
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _away(1 + odd * d), _away(1 + odd / c)
        result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * result / a


def _away(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300  # not zero: it will divide
