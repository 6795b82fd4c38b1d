"""Every mechanism on the device, forward and backward, against the same layer in float64 on the CPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn

from attnbench import registry
from attnbench.registry.variant import Variant

KNOWN = registry.load(entry_points=False)
NAMES = KNOWN.names("layer")
DIM, HEADS, GRID, BATCH = 96, 6, (8, 6), 2
TOLERANCE = {"fp32": 2e-5, "bf16": 6e-2, "fp16": 1e-2}  # rms of the error over the rms of the truth
STEEPER = 4.0  # times the tolerance: gradients
# Top-k routing: rounding swaps regions whose scores are almost equal, so that low precision answers another question.
ROUTED = ("bi_level", "quadtree")
ON_THE_CPU = ("msa", "hilo", "window", "hornet")  # in low precision; set ATTNBENCH_ALL_ON_CPU=1 for all


def layer_of(name: str, kernel: str = "eager") -> nn.Module:
    torch.manual_seed(0)
    variant = KNOWN.check(Variant(name))
    size = KNOWN.size(variant, dim=DIM, heads=HEADS, grid=GRID, stride=16)
    built = KNOWN.build(variant, size, kernel=kernel)
    if name == "deformable":  # its samples start on pixels, where rounding chooses the slope of the interpolation
        built.sampling_offsets.bias.data.add_(0.3)
    return built


def error(found: Tensor, true: Tensor) -> float:
    return float((found.detach().double().cpu() - true).square().mean().sqrt() / true.square().mean().sqrt())


def results(layer: nn.Module, x: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """The output in eval mode; then in train mode the input's gradient and all of the parameters' as one vector."""
    with torch.no_grad():
        found = {"output": layer.eval()(x)}
    leaf = x.clone().requires_grad_()
    layer.train()(leaf).backward(direction)
    assert leaf.grad is not None
    gradients = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
    return {**found, "input's gradient": leaf.grad, **({"gradients": torch.cat(gradients)} if gradients else {})}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_agrees_with_float64_forward_and_backward(device, name, precision):
    low = precision != "fp32"
    if device.name == "cpu" and low and name not in ON_THE_CPU and not os.environ.get("ATTNBENCH_ALL_ON_CPU"):
        pytest.skip("low precision of this layer is for a GPU")
    try:
        dtype = device.set_precision(precision)
    except ValueError as lacking:
        pytest.skip(str(lacking))
    where = device.torch_device()
    layer = layer_of(name).to(where, dtype)
    x, direction = (torch.randn(BATCH, *GRID, DIM, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    found = results(layer, x.to(where, dtype), direction.to(where, dtype))
    device.synchronize()
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    if KNOWN[name].random or (low and name in ROUTED):
        return
    # the truth has the weights and inputs as rounded, so that the arithmetic alone is judged
    truth = layer_of(name).to(dtype).double()
    true = results(truth, x.to(dtype).double(), direction.to(dtype).double())
    errors = {what: error(tensor, true[what]) for what, tensor in found.items()}
    allowed = {what: TOLERANCE[precision] * (1 if what == "output" else STEEPER) for what in errors}
    assert {what: e for what, e in errors.items() if e > allowed[what]} == {}
