"""Axes that advance together: a sweep whose `zip` names some of its axes -> one sweep for each step along them. Pure.

`zip = ["stride", "dim", "heads"]` measures the first stride with the first dim and the first heads, then the second of
each, and so on, where a product would measure every stride with every dim. `STAGES` are the shapes of a hierarchical
backbone's four stages, which are such axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attnbench import inputs
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.planning.sweep import Sweep

ZIPPABLE = ("res", "batch", "stride", "dim", "heads", "threads")
STAGE_AXES = ("stride", "dim", "heads")
STAGES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "small": {"stride": (4, 8, 16, 32), "dim": (96, 192, 384, 768), "heads": (3, 6, 12, 24)},
    "base": {"stride": (4, 8, 16, 32), "dim": (128, 256, 512, 1024), "heads": (4, 8, 16, 32)},
}
"""Of LITv2-S and LITv2-B (arXiv:2205.13213), 32 channels a head; the paper's first two stages have no attention."""


def check(axes: tuple[str, ...], lengths: Mapping[str, int]) -> None:
    """Refuse axes that cannot advance together.

    Args:
        axes: as `Sweep.zip` has them; empty: none.
        lengths: the number of values of each axis.

    Raises:
        AttnbenchError: an axis is unknown, is named twice or alone, or the lengths differ.
    """
    for axis in axes:
        inputs.one_of("zip", axis, ZIPPABLE)
    given = ", ".join(axes)
    if len(set(axes)) != len(axes):
        raise AttnbenchError(f"zip must name each axis once; got {given}")
    if len(axes) == 1:
        raise AttnbenchError(f"zip must name two axes or more, which advance together; got {given}")
    if len({lengths[axis] for axis in axes}) > 1:
        each = ", ".join(f"{axis} has {lengths[axis]}" for axis in axes)
        raise AttnbenchError(
            f"zipped axes must have equally many values; {each}; leave an axis out of zip, or complete it"
        )


def unzipped(sweep: Sweep) -> list[Sweep]:
    """The sweeps without `zip` whose products together are what the sweep asks for, in its order."""
    if not sweep.zip:
        return [sweep]
    steps = zip(*(getattr(sweep, axis) for axis in sweep.zip), strict=True)
    parts = []
    for values in steps:
        given: dict[str, Any] = {axis: (value,) for axis, value in zip(sweep.zip, values, strict=True)}
        parts.append(replace(sweep, zip=(), **given))
    return parts


def of_stage(stage: object, given: Mapping[str, object]) -> dict[str, tuple[Any, ...]]:
    """The axes of the preset `stage`, and that they advance together.

    Args:
        stage: a name of `STAGES`.
        given: the axes that the request gives besides, by name, with their values.

    Raises:
        AttnbenchError: the stage is unknown, or an axis that it binds, or `zip`, is given too.
    """
    name = inputs.one_of("stage", stage, STAGES)
    both = [axis for axis in (*STAGE_AXES, "zip") if axis in given]
    if both:
        raise AttnbenchError(
            f"stage binds stride, dim and heads together; got stage={name} and {', '.join(both)}; give one or the other"
        )
    return {**STAGES[name], "zip": STAGE_AXES}
