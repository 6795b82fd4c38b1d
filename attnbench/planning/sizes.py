"""Sizes of memory and of images, and durations, as they are typed. No torch."""

from __future__ import annotations

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, parse_number
from attnbench.registry.variant import split_list

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
TIMES = {"s": 1.0, "min": 60.0, "h": 3600.0}


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


def seconds(text: object, *, most: float) -> float:
    """Read `90s`, `30min`, `1.5h`, or a number of seconds, as seconds.

    Raises:
        AttnbenchError: another form, not above 0, or more than `most` seconds.
    """
    typed = text.strip() if isinstance(text, str) else str(text)
    unit = max((u for u in TIMES if typed.endswith(u)), key=len, default="")
    value = 0.0 if isinstance(text, bool) else (parse_number(typed.removesuffix(unit).strip()) or 0.0)
    if not 0 < value * TIMES.get(unit, 1.0) <= most:
        raise AttnbenchError(
            f"a duration is a number with {', '.join(TIMES)}, or a number of seconds, above 0 and at most {most:g} s; "
            f"got {brief(text)}; e.g. 30min"
        )
    return value * TIMES.get(unit, 1.0)


def resolutions(text: str) -> tuple[tuple[int, int], ...]:
    """Read `224,512x384` as ((224, 224), (512, 384)): (height, width) in pixels.

    Raises:
        AttnbenchError: an item is neither N nor HxW with whole numbers of at least 1.
    """
    sizes = []
    for item in split_list(text):
        sides = [inputs.parse_whole(side.strip()) or 0 for side in item.lower().split("x", 2)]
        if len(sides) > 2 or not all(0 < side <= inputs.MOST for side in sides):
            raise AttnbenchError(
                f"resolution must be pixels, 224 or 512x384 (height x width), each from 1 to {inputs.MOST}; "
                f"got {brief(item)}"
            )
        sizes.append((sides[0], sides[-1]))
    return tuple(sizes)
