"""The declared defaults of the built-in mechanisms, for readers of records that must not import torch.

`defaults.json` is a copy of what `@mechanism(defaults=..., per_stride=...)` declares, written by

    python -m attnbench.registry.defaults

A test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from attnbench.registry.declaration import Setting

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


def generate() -> str:
    """The text that `defaults.json` should hold; imports torch with the mechanisms."""
    from attnbench.registry.registry import BUILTIN, load

    builtin = [d for d in load(entry_points=False) if d.build.__module__.split(".")[0] == BUILTIN]
    declared = {
        d.name: {
            "defaults": dict(d.defaults),
            **{f"stride {stride}": dict(settings) for stride, settings in sorted(d.per_stride.items())},
        }
        for d in sorted(builtin, key=lambda d: d.name)
    }
    return json.dumps(declared, indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / FILE).write_text(generate(), encoding="utf-8")
