"""Memory as it is split, conditions of a reading, and a second device."""

from __future__ import annotations

import pytest
import torch

from attnbench import registry
from attnbench.machine import nvml
from attnbench.machine.devices import facts_of, open_device, present
from attnbench.measure import memory
from attnbench.measure.arm import Arm, make_inputs
from attnbench.planning.sweep import Sweep, plan

KNOWN = registry.load(entry_points=False)
BLOCK = 512  # bytes to which the caching allocator rounds


@pytest.mark.parametrize("pass_", ["forward", "train"])
def test_memory_is_split_into_weights_input_and_growth(device, pass_):
    sweep = Sweep(mechanism=("msa",), device=(device.name,), batch=(2,), dim=(192,), heads=(3,), pass_=(pass_,))
    cell = plan(sweep, KNOWN).cells[0]
    arm = Arm(cell, device, KNOWN, inference=True, weights="")
    arm.feed(make_inputs(cell, device, arm.dtype, 0, sets=1))
    found = memory.measure(device, arm)
    assert found["weights_bytes"] == 4 * sum(p.numel() for p in arm.module.parameters())
    assert found["input_bytes"] == 4 * 2 * 14 * 14 * 192
    assert found["peak_memory_bytes"] == sum(found[k] for k in ("weights_bytes", "input_bytes", "peak_growth_bytes"))
    logits = 4 * 2 * 3 * (14 * 14) ** 2
    assert found["allocator_peak_bytes"] >= 2 * logits  # before and after the softmax


def test_weights_take_on_the_gpu_what_the_record_says(gpu):
    cell = plan(Sweep(mechanism=("msa",), device=("cuda",), batch=(2,)), KNOWN).cells[0]
    before = torch.cuda.memory_allocated()
    arm = Arm(cell, gpu, KNOWN, inference=True, weights="")
    tensors = len(list(arm.module.parameters())) + len(list(arm.module.buffers()))
    assert 0 <= torch.cuda.memory_allocated() - before - arm.weights_bytes <= tensors * BLOCK


def test_an_arm_that_leaves_holds_its_weights_alone(gpu):
    cell = plan(Sweep(mechanism=("msa",), device=("cuda",), batch=(2,), pass_=("train",)), KNOWN).cells[0]
    arm = Arm(cell, gpu, KNOWN, inference=True, weights="")
    inputs = make_inputs(cell, gpu, arm.dtype, 0)
    arm.feed(inputs)
    arm()  # what a library allocates once
    arm.leave()
    before = torch.cuda.memory_allocated()
    arm.feed(inputs)
    arm()
    arm.leave()
    gpu.synchronize()
    assert torch.cuda.memory_allocated() == before


def test_a_reading_has_the_conditions_of_its_device(device):
    found = device.start_reading().finish()
    wanted = {"wall_s", "own_cpu_s"}
    if device.name != "cpu" and nvml.library() is not None:
        wanted |= {"sm_clock_mhz", "temperature_c", "power_w", "throttle_reasons", "other_gpu_processes"}
    assert wanted <= set(found)
    assert facts_of(device.name) or device.name == "cpu"


def test_nvml_finds_the_gpu_that_torch_opened(gpu):
    if nvml.library() is None:
        pytest.skip(f"NVML: {nvml.why_not()}")
    found = nvml.open_gpu(gpu.uuid())
    assert found is not None
    assert found.facts()["driver"]
    assert found.energy_j() is None or found.energy_j() > 0


def test_what_is_present_can_be_opened_and_computes(device):
    same = [name for name in present() if name.partition(":")[0] == device.name.partition(":")[0]]
    assert device.name in same
    for name in same:
        other = open_device(name)
        assert float(torch.ones(3, device=other.torch_device()).sum()) == 3.0
        assert other.title()
    device.torch_device()


def test_a_second_gpu_has_its_own_memory_and_time(gpu, second):
    first = torch.cuda.memory_allocated("cuda:0")
    x = torch.randn(512, 512, device=second.torch_device())
    assert x.device == torch.device("cuda", 1)
    turn = second.time_calls(lambda: x @ x, 3)
    assert min(turn.device_s) > 0
    assert torch.cuda.memory_allocated("cuda:0") == first
    gpu.torch_device()
    assert torch.cuda.current_device() == 0
