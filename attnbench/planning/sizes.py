"""Sizes of memory and of images as they are typed. No torch."""

from __future__ import annotations

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, parse_number
from attnbench.registry.variant import split_list

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
