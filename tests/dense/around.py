"""What the tests of detectors and segmenters share: building by name."""

from __future__ import annotations

import torch
from torch import nn

from attnbench import registry
from attnbench.registry.variant import parse_variant


def task(text: str, resolution: tuple[int, int], *, device: str = "cpu", seed: int = 0) -> nn.Module:
    """A task model in eval mode."""
    torch.manual_seed(seed)
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    with torch.device(device):
        return known.build(variant, known.size(variant, grid=resolution)).eval()


def declines(text: str, resolution: tuple[int, int] = (64, 96)) -> str | None:
    """Why it cannot be built."""
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    return known.declines(variant, known.size(variant, grid=resolution))
