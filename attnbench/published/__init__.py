"""The papers' numbers, as data: one CSV a table, the claims, and a small reader. `schema.md` explains each column.

Nothing here is measured by attnbench; nothing here needs torch.
"""

from __future__ import annotations

import csv
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

CLAIMS = "claims.toml"


@cache
def names() -> tuple[str, ...]:
    """Every published CSV file without its ending, in alphabetical order."""
    return tuple(sorted(f.name.removesuffix(".csv") for f in files(__name__).iterdir() if f.name.endswith(".csv")))


@cache
def read(name: str) -> tuple[dict[str, str], ...]:
    """The rows of one published table, every value as printed; an empty text means not published."""
    text = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """The comparisons that the papers make, in the order of the ledger."""
    found: list[dict[str, Any]] = tomllib.loads((files(__name__) / CLAIMS).read_text(encoding="utf-8"))["claim"]
    return tuple(found)
