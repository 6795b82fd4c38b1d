"""What a person writes for an axis in Python -> its tuple: a value alone, text as typed on the command line, a list."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attnbench.planning.protocol import LONGEST_S
from attnbench.planning.sizes import resolutions, seconds, size_bytes
from attnbench.registry.variant import split_list

WHOLE = ("batch", "dim", "heads", "stride", "threads")
PATHS = ("plugins",)
_FIELD = {"budget": "budget_s", "timeout": "timeout_s", "within": "within_s"}  # of a protocol
TEXTS = ("mechanism", "backbone", "task", "device", "precision", "pass_", "kernel", "runtime", "allocator", "measure",
         "isolate", "zip")  # fmt: skip


def as_tuple(name: str, value: Any) -> Any:
    """The values of the axis `name`; what has no such form is returned as it is, for the sweep to refuse.

    `"hilo,msa"` gives ("hilo", "msa"), `224` or `"224x384"` as resolution ((224, 224),) or ((224, 384),), and a
    mapping as settings {"hilo.alpha": (0, 0.5)} its pairs.

    Raises:
        AttnbenchError: text that is no resolution.
    """
    if name == "settings":
        pairs = value.items() if isinstance(value, Mapping) else value
        return tuple((k, _values(v)) for k, v in pairs) if isinstance(value, Mapping) else _listed(pairs)
    if name == "overrides":
        return tuple(value.items()) if isinstance(value, Mapping) else _listed(value)
    if name == "res":
        return _resolutions(value)
    if isinstance(value, str):
        return tuple(split_list(value)) if name in TEXTS else (value,)
    if name in PATHS and isinstance(value, os.PathLike):
        return (os.fspath(value),)
    if isinstance(value, bool) if name == "graphs" else isinstance(value, int) and name in WHOLE:
        return (value,)
    values = _listed(value)
    return tuple(os.fspath(v) if isinstance(v, os.PathLike) else v for v in values) if name in PATHS else values


def protocol_numbers(given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The command line's words for the numbers of a protocol, as overrides; None and a switch that is off are left out.

    Raises:
        AttnbenchError: text that is no size or duration.
    """
    numbers = {k: v for k, v in given.items() if v is not None and v is not False}
    if "rounds" in numbers:
        numbers = {"looks": (numbers.pop("rounds"),), **numbers}
    if isinstance(numbers.get("memory_limit"), str):
        numbers["memory_limit"] = size_bytes(numbers["memory_limit"])
    if "within" in numbers:
        numbers["within"] = seconds(numbers["within"], most=LONGEST_S)
    return tuple((_FIELD.get(name, name), value) for name, value in numbers.items())


def _resolutions(value: Any) -> Any:
    if isinstance(value, str):
        return resolutions(value)
    if isinstance(value, int):
        return ((value, value),)
    sides = _listed(value)
    if not isinstance(sides, tuple):
        return value
    each = [resolutions(s) if isinstance(s, str) else ((s, s),) if isinstance(s, int) else (_listed(s),) for s in sides]
    return tuple(size for sizes in each for size in sizes)


def _values(value: Any) -> Any:
    return _listed(value) if isinstance(value, list | tuple) else (value,)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | range) else value
