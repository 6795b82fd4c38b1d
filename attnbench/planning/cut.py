"""Sweep -> [Sweep]: a request in parts, each with the arms that must be timed together and nothing else. Pure.

A comparison group holds what differs in variant, settings, kernel, runtime and graphs alone. So one value of each
other axis makes one group of layers, and one of whole models, which have no dim, heads and stride.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from attnbench.planning.cell import digest
from attnbench.planning.sweep import ISOLATE, Sweep
from attnbench.planning.zipped import unzipped
from attnbench.registry.variant import parse_variant

_OF_A_GROUP = ("device", "precision", "pass_", "res", "threads", "allocator", "batch")  # of layers and models alike
_OF_A_LAYER = ("stride", "dim", "heads")


def cut(sweep: Sweep) -> list[Sweep]:
    """The parts of a sweep, in its order; their cells together are the sweep's, and no group is in two parts.

    An axis without values stays without, so that the machine that measures the part fills it in.
    """
    parts = (
        part
        for step in _steps(sweep)
        for values in itertools.product(*(_values(step, axis) for axis in _OF_A_GROUP))
        for part in _shapes(_with(step, _OF_A_GROUP, values))
    )
    return list({digest(part.as_dict()): part for part in parts}.values())  # several steps have the same whole models


def name(part: Sweep) -> str:
    """A part's name, good as a folder's: its main axes and a hash of the whole request."""
    (height, width), device = part.res[0], part.device[0].replace(":", "")
    words = [f"{height}x{width}", *(f"b{batch}" for batch in part.batch), device, *part.precision, *part.pass_]
    return "-".join([*words, digest(part.as_dict())[:8]])


def _steps(sweep: Sweep) -> Iterator[Sweep]:
    """The sweep step by step along its zipped axes; whole models, which have no shape of a layer, apart from layers."""
    models = bool(sweep.backbone or sweep.task)
    if not sweep.zip or not models:
        yield from unzipped(sweep)
        return
    first: dict[str, Any] = {axis: getattr(sweep, axis)[:1] for axis in _OF_A_LAYER}
    for step in unzipped(sweep):
        if sweep.mechanism:
            yield _of(step, models=False)
        yield replace(_of(step, models=True), **first)


def _values(sweep: Sweep, axis: str) -> list[tuple[Any, ...]]:
    return [(value,) for value in dict.fromkeys(getattr(sweep, axis))] or [()]


def _with(sweep: Sweep, axes: Sequence[str], values: Sequence[tuple[Any, ...]]) -> Sweep:
    given: dict[str, Any] = dict(zip(axes, values, strict=True))
    return replace(sweep, **given)


def _shapes(sweep: Sweep) -> Iterator[Sweep]:
    """One sweep for each shape of a layer; whole models, which have none, in a sweep of their own."""
    shapes = list(itertools.product(*(_values(sweep, axis) for axis in _OF_A_LAYER)))
    models = bool(sweep.backbone or sweep.task)
    if len(shapes) == 1:
        yield sweep
        return
    if sweep.mechanism or not models:
        layers = _of(sweep, models=False) if models else sweep
        for values in shapes:
            yield _with(layers, _OF_A_LAYER, values)
    if models:
        yield _with(_of(sweep, models=True), _OF_A_LAYER, shapes[0])


def _of(sweep: Sweep, *, models: bool) -> Sweep:
    """The layers or the whole models of a sweep that has both, with the settings and isolated arms that are theirs."""
    names = {parse_variant(text).name for text in (*sweep.backbone, *sweep.task)}

    def theirs(text: str) -> bool:
        return (text in names) == models

    return replace(
        sweep,
        mechanism=() if models else sweep.mechanism,
        backbone=sweep.backbone if models else (),
        task=sweep.task if models else (),
        settings=tuple(swept for swept in sweep.settings if theirs(swept[0].partition(".")[0])),
        isolate=tuple(word for word in sweep.isolate if word in ISOLATE or theirs(parse_variant(word).name)),
    )
