"""A fixed small computation beside every turn: if it is slow, the machine was, whatever the layer does."""

from __future__ import annotations

import time

import torch

from attnbench.machine.devices import Device

TARGET_S = 0.0012  # of one canary on a quiet machine
_SIDE = 192
_COPY_BYTES = 4 << 20


class Canary:
    """Products of small matrices and a copy, as many as take about a millisecond; calibrated when made.

    On a device other than the CPU it does nothing: its driver reports clocks and throttling (see the conditions).
    """

    def __init__(self, device: Device) -> None:
        self._on = device.name == "cpu"
        if not self._on:
            return
        generator = torch.Generator().manual_seed(0)
        self._a = torch.randn(_SIDE, _SIDE, generator=generator)
        self._out = torch.empty_like(self._a)
        self._from = torch.ones(_COPY_BYTES, dtype=torch.uint8)
        self._to = torch.empty_like(self._from)
        self._products = 1
        self()
        best = min(self() for _ in range(5))
        self._products = max(1, min(200, round(TARGET_S / max(best, 1e-6))))

    def __call__(self) -> float:
        """Seconds of one canary; 0 where it does nothing."""
        if not self._on:
            return 0.0
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(self._products):
                torch.mm(self._a, self._a, out=self._out)
            self._to.copy_(self._from)
        return time.perf_counter() - start
