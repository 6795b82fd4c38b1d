"""Kernels of other packages, which a mechanism may declare beside PyTorch's; refused where the package is absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

NATIVE: Mapping[str, str] = {"natten": "natten"}  # kernel -> the package that has it


def absent_package(kernel: str) -> str | None:
    """Why a kernel of another package cannot be used here; None for one that can, and for PyTorch's own."""
    package = NATIVE.get(kernel)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return (
        f"kernel {kernel} needs the package {package}, which is not installed; got kernel={kernel}; "
        f"pip install 'attnbench[{package}]', or leave the kernel out"
    )
