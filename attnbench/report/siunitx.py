r"""Numbers in LaTeX by siunitx (version 3): cells as `1.535 \pm 0.045`, and the columns that align them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.report.evidence import Estimate
from attnbench.report.numbers import decimals, is_unresolved, number

PACKAGES = (
    r"% needs \usepackage{booktabs} and \usepackage{siunitx}, version 3; \usepackage[T1]{fontenc} for names"
    "\n"
    r"% such as Nystr\"omformer"
)
SETUP = (
    r"\sisetup{uncertainty-mode=separate, text-series-to-math=true, reset-text-series=false,"
    "\n"
    r"  table-align-uncertainty=true}"
)
NO_NUMBER = "{--}"
BEST = r"\bfseries "


def cell(e: Estimate | None, digits: int = 3, *, best: bool = False) -> str:
    """A cell of an `S` column.

    Args:
        e: None is written as a dash; what is no number stands in braces.
        digits: the significant digits of a number without an interval.
        best: in bold.
    """
    if e is None:
        return NO_NUMBER
    if e.at_least:
        return rf"{{$\ge$ {number(e.value, digits)}}}"
    if unresolved(e):
        return "{unresolved}"
    return f"{BEST}{_number(e, digits)}" if best else _number(e, digits)


def unresolved(e: Estimate) -> bool:
    """Whether the interval says nothing."""
    return e.low is not None and e.high is not None and is_unresolved(e.low, e.high)


def _number(e: Estimate, digits: int) -> str:
    r"""`1.535 \pm 0.045`: the uncertainty with two significant digits, the value with its decimals."""
    half = (e.high - e.low) / 2 if e.low is not None and e.high is not None else 0.0
    if not half:
        return number(e.value, digits)
    places = max(0, decimals(half, 2))
    return rf"{e.value:.{places}f} \pm {half:.{places}f}"


@dataclass(frozen=True)
class Digits:
    """What the numbers of a column need: digits before and after the point, and of the uncertainty (at most 9)."""

    negative: bool
    whole: int
    decimals: int
    uncertainty: int

    @property
    def widest(self) -> str:
        """A text as wide as the column: `00.000±00.000`."""
        tail = "." + "0" * self.decimals
        half = " ± " + "0" * max(self.uncertainty - self.decimals, 1) + tail
        return "-" * self.negative + "0" * self.whole + tail + (half if self.uncertainty else "")


def digits_of(cells: Sequence[str]) -> Digits | None:
    """The digits that any of these cells has; None where none is a number."""
    plain = [c.removeprefix(BEST).split(r" \pm ") for c in cells if c and not c.startswith("{")]
    if not plain:
        return None
    values, halves = [c[0] for c in plain], [c[1] for c in plain if len(c) > 1]
    after = max(len(v.partition(".")[2]) for v in values)
    return Digits(
        negative=any(v.startswith("-") for v in values),
        whole=max(len(v.removeprefix("-").partition(".")[0]) for v in values),
        decimals=after,
        uncertainty=max((len(f"{float(h):.{after}f}".replace(".", "").lstrip("0")) for h in halves), default=0),
    )


def column(cells: Sequence[str]) -> str:
    """The `S` column of these cells; `c` where none is a number."""
    found = digits_of(cells)
    if found is None:
        return "c"
    uncertainty = f"({found.uncertainty})" if found.uncertainty else ""
    return rf"S[table-format={'-' * found.negative}{found.whole}.{found.decimals}{uncertainty}]"
