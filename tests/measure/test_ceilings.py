"""The ceilings of a device, with an invented clock and on the CPU."""

from __future__ import annotations

import torch

from attnbench.machine.devices import Turn, open_device
from attnbench.measure.ceilings import measure_ceilings


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
    found = measure_ceilings(Second(), torch.float32, 0.4)  # type: ignore[arg-type]
    assert (found.macs_per_s, found.bytes_per_s) == (512.0**3, 2.0 * (1 << 22))
    assert found.conv_macs_per_s == 4 * 28 * 28 * 768.0**2
    assert found.linear_macs_per_s in (None, 4 * 28 * 28 * 768.0**2)


def test_the_cpus_ceilings_are_positive_and_say_what_serves_them():
    found = measure_ceilings(open_device("cpu"), torch.float32, seconds=0.02)
    assert min(found.macs_per_s, found.bytes_per_s, found.conv_macs_per_s or 0) > 1e6
    assert dict(found.libraries).keys() == {"linear", "convolution"}
    assert all(name.startswith("aten::") for _, name in found.libraries)


def test_bf16_has_ceilings_too():
    assert measure_ceilings(open_device("cpu"), torch.bfloat16, seconds=0.02).macs_per_s > 1e6
