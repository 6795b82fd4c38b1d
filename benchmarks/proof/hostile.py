"""Layers that misbehave (a plugin): one fails on the device while it is timed, one never returns, one waits for it."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor, nn

from attnbench import mechanism

FAILS_AT = 13  # a trial has fewer calls
CYCLES = 1 << 40  # about ten minutes of a GPU's clock


@mechanism(name="late", title="asserts on the device at its 13th call")
class Late(nn.Module):
    """Correct until its 13th call, then an index beyond the end: a device-side assert; on a CPU the process ends."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.line = nn.Linear(dim, dim)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same."""
        self.calls += 1
        if self.calls >= FAILS_AT:
            if x.device.type == "cpu":
                os.abort()
            beyond = torch.full((1,), x.shape[-1], device=x.device)
            x = x + x.flatten().index_select(0, beyond * x.numel()).sum()
        return self.line(x)


@mechanism(name="hangs", title="never returns")
class Hangs(nn.Module):
    """Queues a kernel that spins for minutes and waits for it; on a CPU it sleeps."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same, in ten minutes."""
        if x.device.type == "cpu":
            time.sleep(600)
        else:
            torch.cuda._sleep(CYCLES)
            torch.cuda.synchronize()
        return self.line(x)


@mechanism(name="waits", title="asks the device for a value in every call")
class Waits(nn.Module):
    """Correct, but no call of it can be captured as a graph: the host waits for the device."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to the same."""
        return self.line(x) * (1.0 if float(x.sum().item()) > 0 else 2.0)
