"""The ceilings of a device, with an invented clock and on the CPU."""

from __future__ import annotations

import torch

from attnbench.machine.devices import Turn, open_device
from attnbench.measure.ceilings import Rates, measure_ceilings


class Second:
    """A device whose every call takes a second."""

    def __init__(self) -> None:
        self.calls = 0

    def torch_device(self):
        return torch.device("cpu")

    def free_bytes(self):
        return 1 << 25

    def time_calls(self, call, calls, *, cold=False):
        call()
        self.calls += calls
        return Turn((1.0,) * calls, 1.0, 1.0)


def test_ceilings_are_multiply_accumulates_and_bytes_read_and_written():
    found = measure_ceilings(Second(), torch.float32, 0.2)  # type: ignore[arg-type]
    assert found == Rates(macs_per_s=512.0**3, bytes_per_s=2.0 * (1 << 22))


def test_the_cpus_ceilings_are_positive():
    found = measure_ceilings(open_device("cpu"), torch.float32, seconds=0.01)
    assert found.macs_per_s > 1e6
    assert found.bytes_per_s > 1e6
