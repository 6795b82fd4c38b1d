"""The libraries that build models of other projects: imported when a model is built, and what is missing, in words.

torchvision, which both import, describes its compiled operators to torch and raises where they do not load, as beside
torch's build for the CPU. No classifier here calls one, so that their names are then declared without any
implementation: a call of one would be an error of torch.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from attnbench.errors import AttnbenchError

REMEDY = "pip install 'attnbench[models]'"
NEEDS = {"timm": ("timm", "torchvision"), "transformers": ("transformers",)}  # timm imports torchvision
OPERATORS = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "qroi_align", "roi_pool", "_roi_pool_backward",
    "ps_roi_align", "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward",
    "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip
_declared: list[torch.library.Library] = []  # they last as long as this does


def absent(library: str) -> str | None:
    """Why a library is missing, by the list of installed packages; nothing is imported."""
    for package in NEEDS[library]:
        if find_spec(package) is None:
            needed = library if package == library else f"{library}, which needs {package}"
            return f"this model needs {needed}, which is not installed; {REMEDY}"
    return None


def imported(library: str) -> Any:
    """Import a library.

    Raises:
        AttnbenchError: it is not installed, or cannot be imported.
    """
    with importing(library):
        if library not in sys.modules and find_spec("torchvision") is not None:
            load_torchvision()
        return importlib.import_module(library)


@contextlib.contextmanager
def importing(library: str) -> Iterator[None]:
    """Turn what an import inside of it raises into one sentence, and leave its warnings out.

    Raises:
        AttnbenchError: the library cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that each other's new versions deprecate
            yield
    except (ImportError, RuntimeError, AttributeError) as error:  # what a torchvision of another torch raises
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = (str(cause).splitlines() or [""])[0]
        raise AttnbenchError(
            f"this model needs {library}, which is installed and cannot be imported; "
            f"got {type(cause).__name__}: {first}; torch, torchvision and {library} must be built for each other: "
            f"{absent(library) or REMEDY + ' in a fresh environment'}"
        ) from error


def load_torchvision() -> bool:
    """Import torchvision, with its operators' names alone where they do not load; whether that was so."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            raise
        declared = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's own
        for name in OPERATORS:
            declared.define(f"{name}(Tensor x) -> Tensor")  # type: ignore[no-untyped-call]  # the same
        _declared.append(declared)
        importlib.import_module("torchvision")
        return True
    return False


def stands_in() -> bool:
    """Whether torchvision's operators are names alone in this process."""
    return bool(_declared)
