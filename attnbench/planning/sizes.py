"""Sizes of memory as they are typed. No torch."""

from __future__ import annotations

from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, parse_number

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def size_bytes(text: str) -> int:
    """Read `4GiB`, `1.5MiB` or a number of bytes, as bytes.

    Raises:
        AttnbenchError: another form, less than one byte, or 2^63 bytes and more.
    """
    unit = next((u for u in UNITS if text.endswith(u)), "")
    value = (parse_number(text.removesuffix(unit).strip()) or 0.0) * UNITS.get(unit, 1)
    if not 1 <= value < 2**63:
        raise AttnbenchError(
            f"a size is a number with {', '.join(UNITS)}, or a number of bytes, at least 1; got {brief(text)}; "
            "e.g. 4GiB"
        )
    return int(value)
