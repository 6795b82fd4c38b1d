"""Lets timm and transformers be imported beside a torch that torchvision's compiled operators were not built for.

torchvision, when imported, describes its operators to torch, which fails where their library does not load: the
wheel for CUDA beside torch for the CPU. Here the operators' names are declared without any implementation. That
is enough to import the packages, and too little to use torchvision: a test process forgets torchvision again
(`library`), or is one of its own (`declare`).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch

OPERATORS = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "qroi_align", "roi_pool", "_roi_pool_backward",
    "ps_roi_align", "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward",
    "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip
_declared: list[torch.library.Library] = []  # they last as long as this does


def missing() -> str:
    """Packages that are not installed, for the reason of a skip; empty when none is."""
    return ", ".join(name for name in ("timm", "torchvision", "transformers") if find_spec(name) is None)


def declared() -> str:
    """Why torchvision itself cannot be asked in this process, for the reason of a skip; empty where it can."""
    return "torchvision does not load here: its operators were declared for other tests" if _declared else ""


def declare() -> bool:
    """Declare the operators where torchvision cannot be imported; whether that was needed."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(f"{name}(Tensor x) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
        return True
    return False


def library(name: str) -> ModuleType:
    """A module of timm or transformers, to compare with; the test is skipped with the reason where there is none."""
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {absent}: cannot be compared")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that each other's new versions deprecate
        stands_in = name.split(".")[0] not in sys.modules and declare()
        found = importlib.import_module(name)
    if stands_in:  # other tests shall find it as it is
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
    return found
