"""Why a count of ours prints otherwise than the published one: the reasons, as data, with their arithmetic.

`differences.toml` holds them. A reason whose arithmetic is known leads from our count to the printed text, and a
test does the sum.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from typing import Any

CAUSES = ("known", "inferred", "unknown")
WAYS = ("rounded", "truncated", "rounded twice")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why some published cells differ.

    Attributes:
        file: the published file; `rows` and `quantities`: labels and columns, whose every pair is one cell.
        why: the cause in words; of an unknown one, what was tried.
        cause: known where the sources state it; inferred where arithmetic alone supports it.
        terms: what to add to our count to have the published one, by name.
        gives: what the published rule gives in the printed unit, where its terms are not known to the unit.
        printed: how that becomes the printed text; rounded twice means first to one digit more.
    """

    file: str
    rows: tuple[str, ...]
    quantities: tuple[str, ...]
    why: str
    cause: str = "known"
    terms: Mapping[str, int] = field(default_factory=dict)
    gives: float | None = None
    printed: str = "rounded"

    @property
    def has_arithmetic(self) -> bool:
        """Whether there is a sum that leads to the printed text."""
        return bool(self.terms) or self.gives is not None or self.printed != "rounded"

    def text(self, ours: int) -> str:
        """The cause and its sum."""
        words, steps = self.why, ""
        for name, n in self.terms.items():
            steps += f" {'-' if n < 0 else '+'} {abs(n):,} ({name})"
        if steps:
            words += f": {ours:,}{steps} = {ours + sum(self.terms.values()):,}"
            words += "" if self.printed == "rounded" else f", {self.printed}"
        elif self.gives is not None:
            words += f": {self.gives:g}"
        return words if self.cause == "known" else f"{self.cause}; {words}"

    def prints(self, ours: int, scale: float, text: str) -> str:
        """What the arithmetic prints with as many decimals as `text` has."""
        exact = Decimal(ours + sum(self.terms.values())) / Decimal(scale)
        value = exact if self.gives is None else Decimal(str(self.gives))
        step = Decimal(1).scaleb(-len(text.partition(".")[2]))
        if self.printed == "truncated":
            return str(value.quantize(step, ROUND_DOWN))
        if self.printed == "rounded twice":
            return str(value.quantize(step / 10, ROUND_HALF_UP).quantize(step, ROUND_HALF_UP))
        return str(value.quantize(step, ROUND_HALF_EVEN))


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads((files("attnbench.published") / "differences.toml").read_text(encoding="utf-8"))


@cache
def reasons() -> tuple[Reason, ...]:
    """Every reason, in the order of the tables."""
    return tuple(
        Reason(**{**entry, "rows": tuple(entry["rows"]), "quantities": tuple(entry["quantities"])})
        for entry in _data()["reason"]
    )


@cache
def by_cell() -> Mapping[tuple[str, str, str], Reason]:
    """(file, row, quantity) -> its reason."""
    return {(r.file, row, quantity): r for r in reasons() for row in r.rows for quantity in r.quantities}


@cache
def absent() -> Mapping[tuple[str, str], str]:
    """(file, row) of published models that nothing here can build -> why."""
    return {(entry["file"], row): entry["why"] for entry in _data()["absent"] for row in entry["rows"]}
