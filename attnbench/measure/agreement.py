"""Whether a runtime gives what eager PyTorch gives: same layer, weights and input, at a tolerance from the dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from attnbench import runtimes
from attnbench.machine.devices import Device
from attnbench.measure.arm import Arm, ContractError, InputSets, tensors_of
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
    largest = max((float(t.abs().max()) for t in expected if t.numel()), default=0.0)
    pairs = [(mine, true) for mine, true in zip(found, expected, strict=True) if true.numel()]
    apart = max((float((mine.double() - true.double()).abs().max()) for mine, true in pairs), default=0.0)
    error = apart / largest if largest else apart
    tolerance = runtimes.TOLERANCES[cell.precision]
    if not error <= tolerance:
        raise ContractError(
            f"{cell.runtime} must agree with eager to {tolerance:g} in {cell.precision}; got an error of {error:.2g}"
        )
    return error
