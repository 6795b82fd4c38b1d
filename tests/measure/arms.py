"""Arms of layers declared on the spot, for the measurements of one arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from attnbench import registry
from attnbench.machine.devices import Device, open_device
from attnbench.measure.arm import Arm, make_inputs
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Sweep, plan
from attnbench.registry import Registry
from attnbench.registry.declaration import Declaration


def known(**layers: Callable[..., nn.Module]) -> Registry:
    """The built-in mechanisms and these layers; each is built as `layer(dim, heads)`."""
    made = Registry()
    made.add(registry.load(entry_points=False))
    kernels = ("eager", "sdpa", "flex")
    made.add(Declaration(name=name, build=build, kernels=kernels, source=name) for name, build in layers.items())
    return made


def cell(variant: str, layers: Registry, **changes: object) -> Cell:
    """A small cell of this variant: 4 x 4 tokens of 16 channels, 2 heads, one image."""
    sweep = Sweep(mechanism=(variant,), reference="none", res=((64, 64),), dim=(16,), heads=(2,), batch=(1,))
    (made,) = plan(sweep, layers).cells
    return replace(made, **changes)


def arm(made: Cell, layers: Registry, device: Device | None = None) -> Arm:
    """The cell's arm, fed with its inputs; on the CPU, or what stands in for a GPU."""
    device = device or open_device("cpu")
    built = Arm(made, device, layers, inference=True, weights="")
    built.feed(make_inputs(made, device, built.dtype, 0))
    return built


class Lines(nn.Module):
    """Two linear layers and nothing else."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply one, then the other."""
        result: torch.Tensor = self.second(self.first(x))
        return result
