"""Measure vision attention mechanisms: which one, at my resolution, on my device.

Everything here is imported on first use, so that the command line starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.analysis.table import load
    from attnbench.api import claims, compare, recommend, run
    from attnbench.errors import AttnbenchError
    from attnbench.planning.sweep import Sweep
    from attnbench.registry import build, names
    from attnbench.registry.declaration import Size, mechanism
    from attnbench.report import report

__version__ = "0.1.0"
__all__ = [
    "AttnbenchError",
    "Size",
    "Sweep",
    "build",
    "claims",
    "compare",
    "load",
    "mechanism",
    "names",
    "recommend",
    "report",
    "run",
]

_HOME = {
    "AttnbenchError": "errors",
    "Size": "registry.declaration",
    "Sweep": "planning.sweep",
    "build": "registry",
    "claims": "api",
    "compare": "api",
    "load": "analysis.table",
    "mechanism": "registry.declaration",
    "names": "registry",
    "recommend": "api",
    "report": "report",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"attnbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
