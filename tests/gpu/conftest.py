"""Tests of a real GPU. Each takes a device: on `cuda` it is marked `gpu`; on `cpu` the same lines run everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from attnbench.machine.devices import Device, open_device

WHY = "no CUDA device: nothing of CUDA was tested for real"
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=WHY)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=CUDA)])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The CPU or the first GPU, in IEEE fp32 afterwards."""
    opened = open_device(request.param)
    opened.torch_device()
    yield opened
    opened.set_precision("fp32")


@pytest.fixture(params=[pytest.param("cuda", marks=CUDA)])
def gpu(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The first GPU, for what a CPU does not have."""
    opened = open_device(request.param)
    opened.torch_device()
    yield opened
    opened.set_precision("fp32")


@pytest.fixture
def second(gpu: Device) -> Device:
    """The second GPU; skipped where there is one alone."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU alone: a second one was not tested")
    other = open_device("cuda:1")
    other.torch_device()
    return other
