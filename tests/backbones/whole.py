"""What the tests of whole classifiers share: building by name, counting on meta, official parameter names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench import registry
from attnbench.measure.flops import Counts, count
from attnbench.registry.variant import parse_variant


def model(
    text: str, resolution: tuple[int, int] = (64, 96), *, device: str = "cpu", kernel: str = "eager"
) -> nn.Module:
    """A classifier in eval mode."""
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    with torch.device(device):
        return known.build(variant, known.size(variant, grid=resolution), kernel=kernel).eval()


def declines(text: str, resolution: tuple[int, int] = (64, 96)) -> str | None:
    """Why it cannot be built."""
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    return known.declines(variant, known.size(variant, grid=resolution))


def formula(text: str, resolution: tuple[int, int] = (224, 224)) -> int:
    """Multiply-accumulates by the declared formula."""
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    macs = known[variant.name].macs
    assert macs is not None
    return macs(known.size(variant, grid=resolution))


def counts(text: str, resolution: tuple[int, int] = (224, 224), *, fvcore: bool = True) -> Counts:
    """What the counters see of one image; nothing is computed."""
    image = torch.empty(1, 3, *resolution, device="meta")
    return count(model(text, resolution, device="meta"), image, fvcore=fvcore)


def random_weights(built: nn.Module) -> nn.Module:
    """`built` in float64, its every parameter and float buffer random and none trivial."""
    g = torch.Generator().manual_seed(1)
    built = built.double()
    with torch.no_grad():
        for name, p in built.named_parameters():
            spread = 0.7 if "conv_offset.bias" in name else max(p[0].numel(), 1) ** -0.5 if p.dim() > 1 else 0.1
            scale = 1.0 if p.dim() == 1 and name.endswith("weight") else 0.0
            p.copy_(scale + spread * torch.randn(p.shape, generator=g, dtype=torch.float64))
        for name, b in built.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.2 * torch.randn(b.shape, generator=g, dtype=torch.float64))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=g, dtype=torch.float64))
    return built


def photos(resolution: tuple[int, int], batch: int = 2) -> Tensor:
    """Random normal images in float64."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *resolution, generator=g, dtype=torch.float64)


def golden_folder() -> Path:
    """The authors' golden outputs; skips with the reason where ATTNBENCH_GOLDEN is not set."""
    folder = os.environ.get("ATTNBENCH_GOLDEN")
    if not folder:
        pytest.skip("the authors' golden outputs are not at hand: set ATTNBENCH_GOLDEN to their folder")
    return Path(folder)


def manifest(name: str) -> dict[str, Any]:
    """Names, shapes and types of an official state dict."""
    file = golden_folder().parent / "facts" / "state_dict" / f"{name}.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def assert_official_names(text: str, resolution: tuple[int, int], official: str) -> None:
    """The model's state dict has the official names, shapes and types, in the official order."""
    ours = [(k, list(v.shape), str(v.dtype)) for k, v in model(text, resolution, device="meta").state_dict().items()]
    theirs = [(k["key"], k["shape"], f"torch.{k['dtype']}") for k in manifest(official)["keys"]]
    assert sorted(ours) == sorted(theirs)
