"""Layers of known behaviour, for `attnbench selftest`; only the self-test loads this plugin.

The same work under many names (`copy`), the same work done several times (`times`), a known allocation, a known delay.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import mechanism

KNOWN_BYTES = 96 << 20
KNOWN_DELAY_S = 0.02


@mechanism(name="probe", title="plain attention, done `times` times", defaults={"copy": 0, "times": 1})
class Probe(nn.Module):
    """Plain attention [B,H,W,C] -> [B,H,W,C], computed `times` times; `copy` only makes another arm of it."""

    def __init__(self, dim: int, heads: int, *, copy: int, times: int) -> None:
        super().__init__()
        self.heads, self.copy, self.times = heads, copy, times
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """The same result whatever `times` is."""
        for _ in range(self.times):
            y = self._once(x)
        return y

    def _once(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        q, k, v = self.qkv(x).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weight = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weight @ v).transpose(1, 2).reshape(B, H, W, C))


@mechanism(name="probe_allocation", title="an allocation of known size")
class ProbeAllocation(nn.Module):
    """Allocate KNOWN_BYTES, free them, and return a copy of the input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Allocate the block and write to every page of it."""
        block = torch.empty(KNOWN_BYTES, dtype=torch.uint8, device=x.device).fill_(1)
        return x + block[0].to(x.dtype) * 0


@mechanism(name="probe_delay", title="a known delay")
class ProbeDelay(nn.Module):
    """Sleep for KNOWN_DELAY_S seconds."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Sleep, then return a copy of the input."""
        time.sleep(KNOWN_DELAY_S)
        return x.clone()
