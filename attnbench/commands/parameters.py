"""Readers for options and arguments of the commands: whole numbers within limits, and paths. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attnbench import inputs


def whole_number(name: str, least: int = 1, most: int = inputs.MOST) -> Callable[[object], int]:
    """A type for click that reads a whole number in ASCII digits; raises AttnbenchError, with `name`, for others."""

    def integer(value: object) -> int:
        return inputs.whole(name, value, least=least, most=most)

    return integer


def path_of(name: str) -> Callable[[object], Path]:
    """A type for click that reads a path; raises AttnbenchError, with `name`, for what no file system can have."""

    def path(value: object) -> Path:
        return Path(inputs.path(name, value))

    return path
