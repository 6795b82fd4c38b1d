"""The papers' numbers, as data: one CSV a table, the claims and layouts as TOML. `schema.md` explains each column.

Nothing here is measured by attnbench; nothing here needs torch.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files


@cache
def names() -> tuple[str, ...]:
    """Every published CSV file without its ending, in alphabetical order."""
    return tuple(sorted(f.name.removesuffix(".csv") for f in files(__name__).iterdir() if f.name.endswith(".csv")))


@cache
def read(name: str) -> tuple[dict[str, str], ...]:
    """The rows of one published table, every value as printed; an empty text means not published."""
    text = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
