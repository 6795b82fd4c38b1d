"""What the tests of single mechanisms share: images, builders, golden files, independent slow attention."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnbench import registry
from attnbench.registry.variant import parse_variant

GRIDS = [(4, 6), (5, 7), (9, 4)]  # non-square; divisible and not


def images(grid: tuple[int, int], dim: int = 24, batch: int = 2, seed: int = 0) -> Tensor:
    """Random normal [B,H,W,C] in float64."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *grid, dim, generator=g, dtype=torch.float64)


def layer(variant: str, grid: tuple[int, int], dim: int = 24, heads: int = 3, **kw: Any) -> nn.Module:
    """A float64 layer in eval mode whose every parameter and float buffer is random, none trivial."""
    kernel = kw.pop("kernel", "eager")
    stride = kw.pop("stride", 16)
    known = registry.load(entry_points=False)
    asked = known.check(parse_variant(variant).having(**kw))
    size = known.size(asked, dim=dim, heads=heads, grid=grid, stride=stride)
    built = known.build(asked, size, kernel=kernel).double().eval()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in built.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * max(p[0].numel(), 1) ** -0.5)
    return built


def golden(name: str) -> list[dict[str, Any]]:
    """The cases of one golden file; skips with the reason where ATTNBENCH_GOLDEN is not set."""
    folder = os.environ.get("ATTNBENCH_GOLDEN")
    if not folder:
        pytest.skip("the authors' golden outputs are not at hand: set ATTNBENCH_GOLDEN to their folder")
    return torch.load(Path(folder) / f"{name}.pt", weights_only=True)["cases"]


def assert_golden(built: nn.Module, case: dict[str, Any], grid: tuple[int, int] = (14, 14)) -> None:
    """`built` loads the authors' weights strictly and gives their output, in float64 and in float32."""
    for dtype, tolerance in ((torch.float64, 2e-6), (torch.float32, 2e-5)):
        built = built.to(dtype).eval()
        built.load_state_dict({k: v.to(dtype) if v.is_floating_point() else v for k, v in case["state_dict"].items()})
        x = case["x"].to(dtype)
        with torch.no_grad():
            y = built(x.view(x.shape[0], *grid, -1)).reshape(case["y"].shape)
        assert (y.double() - case["y"].double()).abs().max() <= tolerance


def weights(built: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers as NumPy arrays, by their names."""
    return {k: v.detach().numpy() for k, v in built.state_dict().items()}


def affine(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    """x W^T + b with the weights stored under `name`."""
    y = x @ w[f"{name}.weight"].reshape(w[f"{name}.weight"].shape[0], -1).T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def attention_of_one(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: float, bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """One query [D] against keys [M,D]: the weighted mean of values [M,E], by the textbook."""
    logits = np.array([scale * float(np.dot(q, key)) for key in keys]) + bias
    weight = np.exp(logits - logits.max())
    return (weight[:, None] * values).sum(0) / weight.sum()


def assert_close(ours: Tensor, truth: np.ndarray, tolerance: float = 1e-10) -> None:
    """Equal to a float64 truth."""
    assert ours.shape == truth.shape
    assert np.abs(ours.detach().numpy() - truth).max() <= tolerance


def depthwise(u: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Every channel of [H,W,C] convolved with its own odd kernel [C,k,k], zeros outside."""
    (H, W, _), half = u.shape, kernel.shape[-1] // 2
    out = np.zeros(u.shape) + bias
    for y, x, i, j in np.ndindex(H, W, *kernel.shape[1:]):
        if 0 <= y + i - half < H and 0 <= x + j - half < W:
            out[y, x] += kernel[:, i, j] * u[y + i - half, x + j - half]
    return out


def silu(u: np.ndarray) -> np.ndarray:
    """u times its logistic function."""
    return u / (1 + np.exp(-u))
