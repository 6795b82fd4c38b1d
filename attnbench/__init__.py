"""attnbench answers: which attention mechanism, at my resolution, on my device?.

Everything here is imported on first use, so that the command line starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbench.declaration import AttnbenchError, Size, mechanism
    from attnbench.registry import build, names
    from attnbench.runner import run
    from attnbench.store import load
    from attnbench.sweep import Sweep

__version__ = "0.1.0"
__all__ = ["AttnbenchError", "Size", "Sweep", "build", "load", "mechanism", "names", "run"]

_HOME = {
    "AttnbenchError": "declaration",
    "Size": "declaration",
    "Sweep": "sweep",
    "build": "registry",
    "load": "store",
    "mechanism": "declaration",
    "names": "registry",
    "run": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attnbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"attnbench.{_HOME[name]}"), name)
