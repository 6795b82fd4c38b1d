"""The fused kernels, compiled layers, graphs and streams on the device."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import attnbench
from attnbench.machine.devices import Device
from attnbench.measure import latency
from attnbench.measure.kernels import attention_operators
from mechanisms.attend import attend

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
SIZE = {"dim": 96, "heads": 3, "grid": (8, 6)}


def tokens(device: Device, dtype: torch.dtype, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = (torch.randn(2, 4, 48, 32, generator=generator) for _ in range(3))
    return [x.to(device.torch_device(), dtype) for x in made]


def stream_of(device: Device) -> contextlib.AbstractContextManager[Any]:
    """A stream of its own on a GPU; nothing on a CPU."""
    new: Any = torch.cuda.Stream
    return torch.cuda.stream(new()) if device.name != "cpu" else contextlib.nullcontext()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_of_sdpa_agrees_with_the_eager_products(device, backend, precision):
    dtype = device.set_precision(precision)
    q, k, v = tokens(device, dtype, 1)
    wanted = attend(*(x.double() for x in (q, k, v)))
    with sdpa_kernel(BACKENDS[backend]):
        try:
            with torch.autograd.profiler.profile() as trace:
                found = attend(q, k, v, kernel="sdpa")
        except RuntimeError as none:
            pytest.skip(f"{backend} does not serve {precision} on {device.title()}: {str(none).splitlines()[0]}")
    ran = attention_operators(event.name() for event in trace.kineto_results.events())
    assert any(backend in name for name in ran) or device.name == "cpu"
    torch.testing.assert_close(found.double(), wanted, atol=2e-5 if precision == "fp32" else 3e-2, rtol=0)


def test_a_learned_bias_trains_in_bf16_with_finite_gradients(device):
    dtype = device.set_precision("bf16")
    q, k, v = (x.requires_grad_() for x in tokens(device, dtype, 2))
    bias = torch.randn(1, 4, 48, 48, generator=torch.Generator().manual_seed(3)).to(q).requires_grad_()
    attend(q, k, v, bias, kernel="sdpa").float().square().sum().backward()
    for leaf in (q, k, v, bias):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_flex_agrees_with_the_eager_products_after_more_shapes_than_dynamo_remembers(gpu, precision):
    dtype = gpu.set_precision(precision)
    for shape in range(10):  # the limit of recompilations is 8
        q, k, v = (x[:, :, : 16 + 3 * shape] for x in tokens(gpu, dtype, shape))
        torch.testing.assert_close(
            attend(q, k, v, kernel="flex").float(), attend(q, k, v).float(), atol=3e-2, rtol=3e-2
        )


@pytest.mark.parametrize("name", ["msa", "hilo", "shifted_window", "neighborhood", "focal"])
def test_a_compiled_layer_agrees_with_its_eager_form(device, name):
    device.set_precision("fp32")
    layer = attnbench.build(name, **SIZE).eval().to(device.torch_device())
    x = torch.randn(2, *SIZE["grid"], SIZE["dim"], device=device.torch_device())
    run = torch.compile(layer, dynamic=False, backend="aot_eager" if device.name == "cpu" else "inductor")
    with torch.inference_mode():
        torch.testing.assert_close(run(x), layer(x), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", ["msa", "hilo", "ss2d", "cascaded_group"])
def test_a_captured_layer_gives_what_the_layer_gives_for_another_input(gpu, name):
    gpu.set_precision("fp32")
    layer = attnbench.build(name, **SIZE).eval().to(gpu.torch_device())
    shape = (2, *SIZE["grid"], SIZE["dim"])
    x, other = (torch.randn(shape, device=gpu.torch_device()) for _ in range(2))
    with torch.inference_mode():
        with stream_of(gpu):
            for _ in range(3):
                layer(x)
        gpu.synchronize()
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = layer(x)
        x.copy_(other)
        graph.replay()
        gpu.synchronize()
        torch.testing.assert_close(captured, layer(other), atol=1e-5, rtol=1e-5)


def test_two_streams_of_one_process_give_what_one_gives(device):
    device.set_precision("fp32")
    where = device.torch_device()
    layers = [attnbench.build(name, **SIZE).eval().to(where) for name in ("msa", "hilo")]
    xs = [torch.randn(4, *SIZE["grid"], SIZE["dim"], device=where) for _ in layers]
    with torch.inference_mode():
        alone = [layer(x) for layer, x in zip(layers, xs, strict=True)]
        device.synchronize()
        together: list[list[Tensor]] = [[], []]
        streams = [stream_of(device) for _ in layers]
        for _ in range(5):
            for stream, layer, x, kept in zip(streams, layers, xs, together, strict=True):
                with stream:
                    kept.append(layer(x))
        device.synchronize()
    for kept, wanted in zip(together, alone, strict=True):
        for found in kept:
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_calls_on_another_stream_are_timed_by_its_own_events(device):
    x = torch.randn(256, 256, device=device.torch_device())
    device.synchronize()
    with stream_of(device):
        turn = latency.turn(device, lambda: x @ x, 5)
    assert len(turn.device_s) == 5
    assert min(turn.device_s) > 0
