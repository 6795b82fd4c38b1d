"""Why a cell of a plan is not measured: rules of devices, runtimes and kernels, and the mechanism's own. No torch."""

from __future__ import annotations

import importlib.metadata
from typing import Protocol

from attnbench import runtimes
from attnbench.planning.cell import Cell
from attnbench.registry.declaration import Declaration, Scope, Size
from attnbench.registry.native import absent_package
from attnbench.registry.variant import Variant


class Mechanisms(Protocol):
    """The part of the registry that a plan uses; `attnbench.registry.Registry` implements it."""

    def __getitem__(self, name: str) -> Declaration:
        """The declaration of a mechanism or model; raises AttnbenchError for an unknown name."""

    def names(self, scope: Scope | None = "layer") -> list[str]:
        """The names of one scope: layer, backbone or task."""

    def check(self, variant: Variant) -> Variant:
        """Return the variant with its settings checked; raises AttnbenchError for a wrong one."""

    def declines(self, variant: Variant, size: Size) -> str | None:
        """The reason why the variant cannot serve this size; None if it can."""

    def kernels(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """The kernels with which the variant runs at this size."""

    def origins_of(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """The plugins whose code the variant runs; empty for attnbench's own."""

    def size(
        self, variant: Variant, *, dim: int = ..., heads: int = ..., grid: tuple[int, int] = ..., stride: int = ...
    ) -> Size:
        """The size with all settings filled in, defaults included."""


def of_cell(registry: Mechanisms, variant: Variant, cell: Cell) -> str | None:
    """Why the mechanism cannot serve the cell; None if it can."""
    if cell.precision == "tf32" and cell.device.startswith("cpu"):
        return "tf32 is a mode of CUDA matrix units; got precision=tf32, device=cpu"
    if cell.graphs and cell.device.startswith("cpu"):
        return "CUDA graphs need a CUDA device; got graphs=yes, device=cpu"
    if cell.graphs and cell.runtime not in (runtimes.EAGER, runtimes.COMPILE):
        return f"CUDA graphs capture calls of runtime eager or compile; got graphs=yes, runtime={cell.runtime}"
    if cell.precision == "int8" and not (cell.device.startswith("cpu") and cell.pass_ == "forward"):
        return f"int8 runs forward on the CPU; got precision=int8, device={cell.device}, pass={cell.pass_}"
    if cell.kernel == "flex" and cell.pass_ == "train" and cell.device.startswith("cpu"):
        return "flex_attention has no backward pass on the CPU; got kernel=flex, pass=train, device=cpu"
    if cell.kernel == "flex" and cell.device.startswith("cpu") and (version := _torch_version()) < (2, 6):
        installed = ".".join(map(str, version))
        return f"flex_attention runs on the CPU from torch 2.6; got kernel=flex, device=cpu, torch {installed}"
    reason = registry.declines(variant, cell.size)
    if reason:
        return reason
    try:
        offered = registry.kernels(variant, cell.size)
    except ValueError as error:  # a plugin whose answer differs from the one before
        return str(error)
    if cell.kernel not in offered:
        return f"{variant} runs with kernel {' or '.join(offered)}; got kernel={cell.kernel}"
    return absent_package(cell.kernel)


def of_runtime(cell: Cell, inference: bool) -> str | None:
    """Why the cell's runtime cannot serve it; None if it can."""
    wanted = runtimes.Wanted(
        device=cell.device, precision=cell.precision, pass_=cell.pass_, kernel=cell.kernel, inference=inference
    )
    return runtimes.get(cell.runtime).declines(wanted)


def _torch_version() -> tuple[int, ...]:
    """Major and minor version; from the package's metadata, since a plan imports no torch."""
    return tuple(int(part) for part in importlib.metadata.version("torch").split(".")[:2])
