"""What readers of records must know of the built-in mechanisms without torch: defaults, kinds and display names.

`defaults.json` is a copy of what `@mechanism(display=..., defaults=..., per_stride=..., kind=..., reach=...)` declares:
`make docs` writes it, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from attnbench.registry.declaration import Declaration, Extent, Kind, Setting, Size

FILE = "defaults.json"
GRID = (32, 32)  # tokens of the map on which the reach of a layer is looked at: larger than every default window
Settings = Mapping[str, Setting]


class Mixing(NamedTuple):
    """How a mechanism mixes tokens, and from how far."""

    kind: Kind
    extent: Extent


def declared_defaults(name: str, stride: int) -> Settings:
    """The default settings of a built-in mechanism at a stride (0 for a model); empty for an unknown name."""
    entry = _stored().get(name, {})
    return {**entry.get("defaults", {}), **entry.get(f"stride {stride}", {})}


def declared_mixing(name: str) -> Mixing | None:
    """The kind and reach of a built-in mechanism with its default settings; None for an unknown name."""
    entry = _stored().get(name)
    return Mixing(*entry["mixing"].values()) if entry else None


def declared_display(name: str) -> str:
    """The name of a built-in mechanism as figures write it; empty where none is declared."""
    return str(_stored().get(name, {}).get("display", ""))


def declared_names(*, layers: bool) -> list[str]:
    """The built-in layers, or the whole models (which have no reach)."""
    return [name for name, entry in _stored().items() if bool(entry["mixing"]["extent"]) == layers]


@cache
def _stored() -> Mapping[str, Mapping[str, Any]]:
    stored: Mapping[str, Mapping[str, Any]] = json.loads(
        (files("attnbench.registry") / FILE).read_text(encoding="utf-8")
    )
    return stored


def text(declarations: Iterable[Declaration]) -> str:
    """What `defaults.json` should hold for these mechanisms."""
    declared = {
        d.name: {
            **({"display": d.display} if d.display else {}),
            "mixing": mixing(d)._asdict(),
            "defaults": dict(d.defaults),
            **{f"stride {stride}": dict(settings) for stride, settings in sorted(d.per_stride.items())},
        }
        for d in sorted(declarations, key=lambda d: d.name)
    }
    return json.dumps(declared, indent=1) + "\n"


def mixing(d: Declaration) -> Mixing:
    """The kind and reach of a mechanism with its default settings, as `defaults.json` holds them."""
    size = Size(dim=768, heads=12, grid=GRID, stride=16, settings=d.settings_at(16))
    return Mixing(d.kind, d.extent(size))
