"""A logarithmic scale that puts a mark at the same place on every CPU.

The last bit of a logarithm or a power depends on the CPU's instructions, in numpy as in the C library. Where a
coordinate lies half-way between two pixels, that bit moves a mark or a label by a pixel. Here both are rounded, to
less than a ten-thousandth of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.scale import InvertedLogTransform, LogTransform
from matplotlib.scale import LogScale as MatplotlibLogScale
from numpy.typing import NDArray

DECIMALS = 9  # of a decade
DIGITS = 10


class LogScale(MatplotlibLogScale):
    """Base 10, for `axes.set_xscale(LogScale(axes.xaxis))`; locators and formatters are matplotlib's."""

    def __init__(self, axis: Any) -> None:
        super().__init__(axis)
        self._transform = _Logarithm(10)


class _Logarithm(LogTransform):
    def transform_non_affine(self, values: Any) -> NDArray[np.float64]:
        """Decades, of an array of any shape."""
        return np.round(np.asarray(super().transform_non_affine(values), dtype=float), DECIMALS)

    def inverted(self) -> InvertedLogTransform:
        return _Power(10)


class _Power(InvertedLogTransform):
    def transform_non_affine(self, values: Any) -> NDArray[np.float64]:
        """10 to the power of an array of any shape."""
        found = np.asarray(super().transform_non_affine(values), dtype=float)
        return np.array([float(f"{v:.{DIGITS}g}") for v in found.ravel().tolist()]).reshape(found.shape)

    def inverted(self) -> LogTransform:
        return _Logarithm(10)
