"""Whether outputs agree at a tolerance from the dtype: those of a runtime and of eager, of two versions of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from attnbench import runtimes
from attnbench.machine.devices import Device
from attnbench.measure.arm import Arm, ContractError, InputSets, build_module, make_inputs, tensors_of
from attnbench.planning.cell import Cell
from attnbench.registry import Registry


def expected_output(
    cell: Cell, device: Device, known: Registry, inputs: InputSets, *, inference: bool, weights: str
) -> list[Tensor]:
    """What eager gives for the first of these inputs; empty where nothing is to be compared.

    That is the cell's own eager form, and for int8 the one in fp32. Only forward passes in eval mode are compared, and
    no layer whose output is random.
    """
    precision = "fp32" if cell.precision == "int8" else cell.precision
    eager = replace(cell, runtime=runtimes.EAGER, graphs=False, precision=precision)
    if eager == replace(cell, graphs=False) or cell.pass_ != "forward" or not inference or known[cell.mechanism].random:
        return []
    arm = Arm(eager, device, known, inference=True, weights=weights)
    arm.feed(inputs)
    arm()
    device.synchronize()
    return [t.detach().clone() for t in tensors_of(arm.output)]


def error_against(expected: Sequence[Tensor], found: Sequence[Tensor], cell: Cell) -> float:
    """Greatest |difference| over greatest |eager output|.

    Raises:
        ContractError: it is beyond the precision's tolerance, or the outputs are not of the same number and shapes.
    """
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (found, expected)]
    if shapes[0] != shapes[1]:
        raise ContractError(f"{cell.runtime} must give outputs of eager's shapes; got {shapes[0]}, eager {shapes[1]}")
    error = greatest_difference(expected, found)
    tolerance = runtimes.TOLERANCES[cell.precision]
    if not error <= tolerance:
        raise ContractError(
            f"{cell.runtime} must agree with eager to {tolerance:g} in {cell.precision}; got an error of {error:.2g}"
        )
    return error


def greatest_difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Greatest |difference| over greatest |expected|, of tensors of the same shapes."""
    largest = max((float(t.abs().max()) for t in expected if t.numel()), default=0.0)
    pairs = [(mine, true) for mine, true in zip(found, expected, strict=True) if true.numel()]
    apart = max((float((mine.double() - true.double()).abs().max()) for mine, true in pairs), default=0.0)
    return apart / largest if largest else apart


def compare_versions(base: Cell, head: Cell, device: Device, known: Registry, *, seed: int) -> tuple[float | None, str]:
    """How far two versions of a layer are apart, with the same weights and input, in inference.

    Every parameter is random, also those that a layer starts at zero: what they do is then seen.

    Returns:
        The greatest difference over base's greatest output; or None, and why they cannot be compared.
    """
    dtype = device.set_precision(base.precision)
    modules = [build_module(cell, device, known, inference=True, weights="") for cell in (base, head)]
    randomise(modules[0], seed)
    state = modules[0].state_dict()
    mine = {name: tuple(tensor.shape) for name, tensor in modules[1].state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if mine != theirs:
        apart = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        return None, f"the versions have different weights: {', '.join(apart[:3])}"
    modules[1].load_state_dict(state, strict=True)
    (x,) = make_inputs(base, device, dtype, seed, sets=1).restored()
    with torch.inference_mode():
        expected, found = (tensors_of(module(x.clone())) for module in modules)
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (expected, found)]
    if shapes[0] != shapes[1]:
        return None, f"the versions give outputs of different shapes: {shapes[0]} and {shapes[1]}"
    if known[base.mechanism].random or known[head.mechanism].random:
        return None, "the output is random"
    return greatest_difference(expected, found), ""


def randomise(layer: nn.Module, seed: int) -> None:
    """Give every parameter random values of the size that keeps activations near one, so that each has an effect."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            inputs = p[0].numel() if p.dim() > 1 else 1
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * max(inputs, 1) ** -0.5)
