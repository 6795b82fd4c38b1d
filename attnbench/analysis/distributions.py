"""The exact distribution of the signed-rank statistic, for any ranks; Student's t and F are SciPy's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=256)
def signed_rank(ranks: tuple[int, ...]) -> NDArray[np.float64]:
    """P(the sum of a random half of these ranks = s) for s = 0, 1, ...: each rank is in with chance 1/2.

    SciPy's has the ranks 1..n alone, without ties.
    """
    chances = np.zeros(sum(ranks) + 1)
    chances[0], top = 1.0, 0
    for rank in ranks:
        chances[rank : top + rank + 1] += chances[: top + 1]
        top += rank
        chances[: top + 1] /= 2
    chances.flags.writeable = False  # it is kept for the next call
    return chances
