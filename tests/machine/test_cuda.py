"""Tests that need a real GPU; without one, all are skipped with the reason."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from attnbench.machine.devices import open_device
from attnbench.measure import latency
from attnbench.measure.ceilings import measure_ceilings
from mechanisms.msa import MSA

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: nothing of CUDA was tested for real"),
]
MIB = 1 << 20


@pytest.fixture
def device():
    return open_device("cuda")


def test_event_time_is_that_of_the_work_and_host_time_holds_it(device):
    x = torch.randn(4096, 4096, device=device.torch_device())
    latency.prime(device, lambda: x @ x)
    turn = latency.turn(device, lambda: x @ x, 8)
    assert len(turn.device_s) == 8
    assert min(turn.device_s) > 0
    assert turn.host_s >= 0.9 * sum(turn.device_s) / 8
    assert turn.queue_s <= turn.host_s


def test_twice_the_work_takes_longer(device):
    x = torch.randn(4096, 4096, device=device.torch_device())
    latency.prime(device, lambda: x @ x)
    once, twice = (sorted(latency.turn(device, call, 15).device_s)[7] for call in (lambda: x @ x, lambda: x @ x @ x))
    assert twice > once


def test_cold_calls_are_timed_one_by_one(device):
    x = torch.randn(512, 512, device=device.torch_device())
    turn = latency.turn(device, lambda: x @ x, 5, cold=True)
    assert len(turn.device_s) == 5
    assert min(turn.device_s) > 0


@pytest.mark.parametrize(("precision", "on"), [("fp32", False), ("tf32", True)])
def test_tf32_changes_the_rounding_of_products_and_convolutions_alike(device, precision, on):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    where = device.torch_device()
    device.set_precision(precision)
    x, w = torch.randn(256, 512, device=where), torch.randn(512, 256, device=where)
    exact = x.double() @ w.double()
    error = float(((x @ w).double() - exact).abs().max() / exact.abs().max())
    image, kernel = torch.randn(8, 64, 32, 32, device=where), torch.randn(64, 64, 3, 3, device=where)
    true = torch.nn.functional.conv2d(image.double(), kernel.double(), padding=1)
    got = torch.nn.functional.conv2d(image, kernel, padding=1)
    conv_error = float((got.double() - true).abs().max() / true.abs().max())
    device.set_precision("fp32")
    assert (error > 2e-5) is on
    assert (conv_error > 2e-5) is on


def test_the_peak_of_a_known_allocation_is_found(device):
    where = device.torch_device()

    def call() -> None:
        a = torch.ones(64 * MIB, dtype=torch.uint8, device=where)
        b = torch.ones(32 * MIB, dtype=torch.uint8, device=where)
        del a, b

    found = device.measure_memory(call)
    assert found["peak_growth_bytes"] == pytest.approx(96 * MIB, abs=MIB)
    assert found["peak_reserved_bytes"] >= found["peak_growth_bytes"]


def test_out_of_memory_is_recognised_and_leaves_the_gpu_usable(device):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8, device=device.torch_device())
    assert device.is_out_of_memory(caught.value)
    assert not device.is_sticky(caught.value)
    assert float(torch.ones(3, device=device.torch_device()).sum()) == 3.0


_STICKY = """
import sys, torch
from attnbench.machine.devices import open_device
device = open_device("cuda")
where = device.torch_device()
try:
    torch.zeros(4, device=where)[torch.tensor([9], device=where)]
    device.synchronize()
except RuntimeError as error:
    sys.exit(0 if device.is_sticky(error) and not device.is_out_of_memory(error) else 1)
sys.exit(2)
"""


def test_a_device_side_assert_is_recognised_as_sticky():
    done = subprocess.run([sys.executable, "-c", _STICKY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 3e-2)])
def test_msa_on_the_gpu_equals_msa_on_the_cpu(device, precision, tolerance):
    torch.manual_seed(0)
    layer, x = MSA(24, 3), torch.randn(2, 5, 7, 24)
    expected = layer(x)
    dtype = device.set_precision(precision)
    got = layer.to(device.torch_device(), dtype)(x.to(device.torch_device(), dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(got.float().cpu(), expected, atol=tolerance, rtol=tolerance)


def test_the_ceilings_order_bf16_above_fp32(device):
    fp32 = measure_ceilings(device, device.set_precision("fp32"))
    bf16 = measure_ceilings(device, device.set_precision("bf16"))
    assert bf16.macs_per_s > fp32.macs_per_s
    assert fp32.bytes_per_s > 1e9


def test_a_round_has_conditions(device):
    found = device.start_reading().finish()
    assert found["wall_s"] > 0


def test_the_gpu_has_a_title_and_free_memory(device):
    assert device.title()
    assert device.free_bytes() > 0
