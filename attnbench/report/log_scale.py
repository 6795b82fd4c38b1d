"""A logarithmic scale that puts a mark at the same place on every CPU.

matplotlib's own takes numpy's vectorised log10, whose last bit depends on the CPU's instructions; where a
coordinate lies half-way between two pixels, that bit moves a mark or a label by one. Here each value goes through
the C library's log10, and the result is rounded to twelve decimals: a millionth of a millionth of a decade.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.scale import InvertedLogTransform, LogTransform
from matplotlib.scale import LogScale as MatplotlibLogScale
from numpy.typing import NDArray

DECIMALS = 12
BELOW = -1000.0  # where matplotlib, too, puts what has no logarithm: far outside the axes


class LogScale(MatplotlibLogScale):
    """Base 10, for `axes.set_xscale(LogScale(axes.xaxis))`; locators and formatters are matplotlib's."""

    def __init__(self, axis: Any) -> None:
        super().__init__(axis)
        self._transform = _Logarithm(10)


class _Logarithm(LogTransform):
    def transform_non_affine(self, values: Any) -> NDArray[np.float64]:
        """Decades of values of any shape."""
        return _each(lambda v: round(math.log10(v), DECIMALS) if v > 0 else BELOW, values)

    def inverted(self) -> InvertedLogTransform:
        return _Power(10)


class _Power(InvertedLogTransform):
    def transform_non_affine(self, values: Any) -> NDArray[np.float64]:
        """10 to the power of values of any shape; infinite beyond what a float holds."""
        return _each(lambda v: float(f"{10.0**v:.{DECIMALS}g}") if v < 308 else math.inf, values)

    def inverted(self) -> LogTransform:
        return _Logarithm(10)


def _each(function: Callable[[float], float], values: Any) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=float)
    return np.array([function(v) if math.isfinite(v) else v for v in found.ravel().tolist()]).reshape(found.shape)
