"""TOML beside this file -> frozen dataclasses: a misspelt or missing key is an error that names its place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def load(name: str) -> Mapping[str, Any]:
    """The tables of one TOML file of this folder."""
    return tomllib.loads((files("attnbench.published") / name).read_text(encoding="utf-8"))


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """One table as a dataclass, whose fields are its keys; arrays become tuples.

    Raises:
        ValueError: a key that the dataclass has not, or one without default that is missing.
    """
    known = {f.name for f in fields(cls)}
    needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    for problem, keys in (("has no", set(table) - known), ("needs", needed - set(table))):
        if keys:
            raise ValueError(
                f"{where}: {cls.__name__} {problem} {', '.join(sorted(keys))}; its keys: {', '.join(sorted(known))}"
            )
    return cls(**{key: frozen(value) for key, value in table.items()})


def frozen(value: Any) -> Any:
    """Arrays as tuples, at every depth."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def one_of(value: str, allowed: tuple[str, ...], where: str) -> None:
    """Check a word.

    Raises:
        ValueError: it is none of the allowed ones.
    """
    if value not in allowed:
        raise ValueError(f"{where} must be one of {', '.join(allowed)}; got {value!r}")
