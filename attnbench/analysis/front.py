"""The front of speed and accuracy, and from bootstrap samples of the speeds how likely each item is to be on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def on_front(speeds: ArrayLike, accuracy: Sequence[float]) -> NDArray[np.bool_]:
    """Whether no other item is at least as fast and as accurate, and one of the two strictly.

    Args:
        speeds: [items] or [samples, items]; a logarithm serves as well.
        accuracy: [items].
    """
    s, a = np.atleast_2d(np.asarray(speeds, dtype=float)), np.asarray(accuracy, dtype=float)
    beaten = np.zeros(s.shape, dtype=bool)
    for i in range(len(a)):
        as_fast, as_good = s[:, i : i + 1] >= s, a[i] >= a
        beaten |= as_fast & as_good & ((s[:, i : i + 1] > s) | (a[i] > a))
    return np.asarray(~beaten.reshape(np.shape(speeds)))


def front_probability(samples: NDArray[np.float64], accuracy: Sequence[float]) -> NDArray[np.float64]:
    """The share of the samples, [samples, items], in which each item is on the front."""
    return np.asarray(on_front(samples, accuracy).mean(axis=0))
