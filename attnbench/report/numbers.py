"""Numbers as text: how many digits, intervals, bounds and units, for the terminal, the tables and the page alike.

A number is written with significant digits and never with an exponent. An interval has its value's decimals; where its
ends are more than a factor of ten apart it says nothing, and stands as `unresolved`. What is counted without one of its
parts is a lower bound and stands as `≥ 0`. `assets/cells.js` follows the same rules on the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

UNRESOLVED = "unresolved"
FACTOR = 10.0  # between the ends of an interval: beyond it nothing is resolved
WARN_PCT = 10.0  # half an interval: above it a terminal and the page colour it
LOWER_BOUND = "lower_bound"  # the flag of a count that lacks a part


def decimals(x: float, digits: int) -> int:
    """The decimals with which a number has so many significant digits; negative where whole digits are rounded."""
    return digits - 1 - int(f"{x:.{max(digits, 1) - 1}e}".partition("e")[2]) if x else 0


def number(x: float, digits: int = 4) -> str:
    """A number with so many significant digits, never in exponents, never losing whole digits."""
    if not math.isfinite(x):
        return "–"
    return _fixed(x, decimals(x, digits))


def _fixed(x: float, places: int) -> str:
    return f"{round(x, places):.{max(places, 0)}f}" if math.isfinite(x) else "–"


def counted(things: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{things} {noun}{'' if things == 1 else 's'}"


def is_unresolved(low: float, high: float) -> bool:
    """Whether an interval of a positive quantity spans more than a factor of ten."""
    return low > 0 and high > FACTOR * low


def estimate(value: float, low: float | None, high: float | None, digits: int = 4) -> str:
    """A value with its interval, `12.3 [12.1, 12.6]`; `unresolved` where the interval says nothing."""
    if low is None or high is None:
        return number(value, digits)
    if is_unresolved(low, high):
        return UNRESOLVED
    places = decimals(value, digits)
    return f"{_fixed(value, places)} [{_fixed(low, places)}, {_fixed(high, places)}]"


def half_width_pct(value: float, low: float | None, high: float | None) -> float | None:
    """Half an interval in per cent of its value: the number behind ±. None where there is none or it says nothing."""
    if low is None or high is None or value <= 0 or is_unresolved(low, high) or not math.isfinite(high - low):
        return None
    return 50 * (high - low) / value


def uncertainty_pct(values: Mapping[str, float | int]) -> float | None:
    """± in per cent of a record's speed ratio; of its throughput where the ratio has no interval, as the reference's.

    Args:
        values: a record's quantities.
    """
    for value, low, high in (
        ("ratio_to_reference", "ratio_low", "ratio_high"),
        ("throughput_img_per_s", "throughput_low", "throughput_high"),
    ):
        if {value, low, high} <= values.keys() and values[low] < values[high]:
            return half_width_pct(values[value], values[low], values[high])
    return None


def percent(x: float | None) -> str:
    """Per cent with one decimal below ten and none above; None as nothing."""
    return "" if x is None else f"{x:.1f}" if x < 9.95 else f"{x:.0f}"


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """A number with an SI prefix: `521 M`, `1.87 G`; None as `-`."""
    if value is None:
        return "-"
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{number(value / limit, digits)} {prefix}{unit}"
    return f"{number(value, digits)} {unit}".rstrip()


def at_least(text: str, *, lower_bound: bool) -> str:
    """A count as text; `≥ 0` for a lower bound."""
    return f"≥ {text}" if lower_bound else text


def size(bytes_: float | None) -> str:
    """Bytes in MiB or GiB with three significant digits; None as `-`."""
    if bytes_ is None:
        return "-"
    return f"{number(bytes_ / 2**30, 3)} GiB" if bytes_ >= 2**30 else f"{number(bytes_ / 2**20, 3)} MiB"
