"""The declared defaults of the built-in mechanisms, for readers of records that must not import torch.

`defaults.json` is a copy of what `@mechanism(defaults=..., per_stride=...)` declares: `make docs` writes it, and a test
compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from attnbench.registry.declaration import Declaration, Setting

FILE = "defaults.json"
Settings = Mapping[str, Setting]


def declared_defaults(name: str, stride: int) -> Settings:
    """The default settings of a built-in mechanism at a stride (0 for a model); empty for an unknown name."""
    entry = _stored().get(name, {})
    return {**entry.get("defaults", {}), **entry.get(f"stride {stride}", {})}


@cache
def _stored() -> Mapping[str, Mapping[str, Settings]]:
    stored: Mapping[str, Mapping[str, Settings]] = json.loads(
        (files("attnbench.registry") / FILE).read_text(encoding="utf-8")
    )
    return stored


def text(declarations: Iterable[Declaration]) -> str:
    """What `defaults.json` should hold for these mechanisms."""
    declared = {
        d.name: {
            "defaults": dict(d.defaults),
            **{f"stride {stride}": dict(settings) for stride, settings in sorted(d.per_stride.items())},
        }
        for d in sorted(declarations, key=lambda d: d.name)
    }
    return json.dumps(declared, indent=1) + "\n"
