"""Lets timm and transformers be imported beside a torch that torchvision's compiled operators were not built for.

`mechanisms.backbones.libraries` declares the names of its operators. That is enough to import the packages, and too
little to use torchvision: a test process forgets torchvision again (`library`), or is one of its own.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType

import pytest

from mechanisms.backbones.libraries import load_torchvision, stands_in


def missing() -> str:
    """Packages that are not installed, for the reason of a skip; empty when none is."""
    return ", ".join(name for name in ("timm", "torchvision", "transformers") if find_spec(name) is None)


def declared() -> str:
    """Why torchvision itself cannot be asked in this process, for the reason of a skip; empty where it can."""
    return "torchvision does not load here: its operators were declared for other tests" if stands_in() else ""


def library(name: str) -> ModuleType:
    """A module of timm or transformers, to compare with; the test is skipped with the reason where there is none."""
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {absent}: cannot be compared")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that each other's new versions deprecate
        forgotten = name.split(".")[0] not in sys.modules and load_torchvision()
        found = importlib.import_module(name)
    if forgotten:  # other tests shall find it as it is
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
    return found
