"""Random weights without the cost of drawing them: the fillers of torch.nn.init copy from one prepared buffer.

A timing process builds every arm anew, and drawing 30 million normal numbers for a model takes longer than its turns.
Values keep their scale, so that softmax, routing and norms see what they would see; that they repeat after 262,144 is
nothing that a speed or a count depends on. What is compared with another output, as of an exported layer, and
numerical errors use the real initialisation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import init

_LENGTH = 1 << 18


@contextlib.contextmanager
def prepared_weights() -> Iterator[None]:
    """While it is entered, the random fillers of torch.nn.init copy instead of drawing."""
    fillers = {
        "normal_": lambda t, mean=0.0, std=1.0, generator=None: _fill(t, std, mean),
        "trunc_normal_": lambda t, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None: _fill(t, std, mean, a, b),
        "uniform_": lambda t, a=0.0, b=1.0, generator=None: _fill(t, (b - a) / math.sqrt(12), (a + b) / 2, a, b),
        "kaiming_uniform_": lambda t, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None: _fill(
            t, _kaiming_std(t, a, mode, nonlinearity)
        ),
        "kaiming_normal_": lambda t, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None: _fill(
            t, _kaiming_std(t, a, mode, nonlinearity)
        ),
        "xavier_uniform_": lambda t, gain=1.0, generator=None: _fill(t, _xavier_std(t, gain)),
        "xavier_normal_": lambda t, gain=1.0, generator=None: _fill(t, _xavier_std(t, gain)),
    }
    real = {name: getattr(init, name) for name in fillers}
    try:
        for name, filler in fillers.items():
            setattr(init, name, filler)
        yield
    finally:
        for name, function in real.items():
            setattr(init, name, function)


@cache
def _buffer(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(_LENGTH, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def _fill(tensor: Tensor, std: float, mean: float = 0.0, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Values of this standard deviation and mean, within the bounds; on the meta device nothing."""
    if tensor.is_meta:
        return tensor
    with torch.no_grad():
        flat = tensor.data.view(-1) if tensor.is_contiguous() else torch.empty(tensor.numel(), dtype=tensor.dtype)
        source = _buffer(tensor.device, tensor.dtype)
        for start in range(0, len(flat), _LENGTH):  # in parts that stay in a cache
            part = flat[start : start + _LENGTH]
            torch.mul(source[: len(part)], std, out=part)
            if mean:
                part.add_(mean)
            if math.isfinite(low) or math.isfinite(high):
                part.clamp_(low, high)
        if not tensor.is_contiguous():
            tensor.data.copy_(flat.view(tensor.shape))
    return tensor


def _kaiming_std(tensor: Tensor, a: float, mode: Any, nonlinearity: Any) -> float:
    fan = init._calculate_correct_fan(tensor, mode)
    return init.calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def _xavier_std(tensor: Tensor, gain: float) -> float:
    fan_in, fan_out = init._calculate_fan_in_and_fan_out(tensor)
    return gain * math.sqrt(2.0 / max(1, fan_in + fan_out))
