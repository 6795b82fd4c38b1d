"""The numerical error of a layer beside its speed, and how far an approximation is from what it approximates.

The truth is the same layer in float64 on the CPU, in eval mode with the eager kernel. Weights and one image are drawn
in float32 and cast, to the cell's precision on its device and to float64 for the truth: the error holds the rounding of
weights, input and output as well as that of the arithmetic. It is the rms of the difference over the rms of the truth,
with the input as drawn (rms 1) and scaled by 8 and by 64, which sharpens a softmax and shows overflow.

A mechanism whose declaration says `approximates` is compared with that mechanism too, both in float64 with the same
projections. Weights as drawn give an almost even softmax: the distance is one of structure, not of trained models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from attnbench.machine.devices import Device, open_device
from attnbench.measure.arm import Arm, InputSets, make_inputs, tensors_of
from attnbench.planning.cell import Cell
from attnbench.registry import Registry
from attnbench.registry.variant import Variant, parse_variant

SCALES = {"error_rms": 1.0, "error_rms_x8": 8.0, "error_rms_x64": 64.0}
# Parameters that together are the rows of one of the approximated mechanism's, in its order.
_PARTS: Mapping[str, Sequence[Sequence[str]]] = {
    "qkv": (("qkv",), ("query", "kv"), ("q", "kv"), ("to_q", "to_k", "to_v"), ("q", "k", "v")),
}
Result = tuple[dict[str, float | int], dict[str, str]]


def measure(
    cell: Cell, device: Device, known: Registry, *, weights: str = "", seed: int = 0, artifact: str = ""
) -> Result:
    """The quantities `error_rms`, `error_rms_x8`, `error_rms_x64` and `distance_to_msa`, and notes on what is absent.

    Args:
        cell: its variant, size, precision, device, kernel and compilation count; not its batch or pass.
        device: the cell's device.
        known: what can be built.
        weights: a checkpoint file, or empty.
        seed: of the input.
        artifact: the name of the exported layer, if the cell's runtime needs one.
    """
    declaration = known[cell.mechanism]
    if declaration.random:
        return {}, {"error_notes": "its output is random: two calls on one input differ"}
    # an exported layer takes its own batch: the same image in every place
    batch = cell.batch if artifact else 1
    one = replace(cell, batch=batch, pass_="forward")
    (x,) = make_inputs(replace(one, batch=1), open_device("cpu"), torch.float32, seed, sets=1).originals
    x = x.repeat(batch, *[1] * (x.dim() - 1))
    values: dict[str, float | int] = {}
    notes: list[str] = []
    try:
        truth = in_float64(one, known, weights)
        expected = {name: _call(truth, x.double() * scale) for name, scale in SCALES.items()}
    except Exception as problem:  # a layer may raise anything
        first = (str(problem).splitlines() or [""])[0]
        return {}, {"error_notes": f"it cannot run in float64: {type(problem).__name__}: {first}"[:500]}
    if declaration.approximates and cell.scope == "layer":
        distance, note = _distance(one, known, declaration.approximates, truth, x.double(), expected["error_rms"])
        values |= {} if distance is None else {"distance_to_msa": distance}
        notes += [note] if note else []
    arm = Arm(one, device, known, inference=True, weights=weights, artifact=artifact)
    for name, scale in SCALES.items():
        arm.feed(InputSets([(x * scale).to(arm.dtype)], device.torch_device()))
        arm()
        device.synchronize()
        error = relative_rms(tensors_of(arm.output), expected[name])
        if error is None:
            notes.append(f"{name}: the output in {cell.precision} is not finite")
        else:
            values[name] = error
    return values, {"error_notes": "; ".join(notes)} if notes else {}


def relative_rms(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float | None:
    """Root of (sum of squared differences / sum of squares of the truth); None where that is not finite.

    Raises:
        ValueError: the two are not of the same shapes.
    """
    difference = whole = 0.0
    for mine, true in zip(found, truth, strict=True):
        if mine.shape != true.shape:
            raise ValueError(f"outputs must have one shape; got {tuple(mine.shape)}, in float64 {tuple(true.shape)}")
        if true.is_floating_point():
            difference += float((mine.detach().cpu().double() - true).square().sum())
            whole += float(true.square().sum())
    error = (difference / whole) ** 0.5 if whole else (0.0 if not difference else float("inf"))
    return error if error < float("inf") else None


def in_float64(cell: Cell, known: Registry, weights: str = "") -> nn.Module:
    """The cell's layer with the weights that its arm has, cast to float64, on the CPU in eval mode."""
    variant = known.check(parse_variant(cell.variant))
    kernel = "eager" if "eager" in known.kernels(variant, cell.size) else cell.kernel
    torch.manual_seed(0)  # as an arm does
    module = known.build(variant, cell.size, kernel=kernel)
    if weights:
        from attnbench.registry.checkpoints import load_weights

        load_weights(module, weights)
    return module.double().eval()


def copy_projections(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy into `target` each parameter that `source` has under the same name, or in parts; names not copied."""
    mine = dict(source.named_parameters())
    left = []
    for name, parameter in target.named_parameters():
        prefix, _, last = name.rpartition(".")
        for parts in _PARTS.get(prefix, ((prefix,),)):
            found = [mine.get(f"{part}.{last}" if part else last) for part in parts]
            tensors = [p for p in found if p is not None]
            joined = torch.cat([t.detach() for t in tensors]) if len(tensors) == len(found) else None
            if joined is not None and joined.shape == parameter.shape:
                parameter.data.copy_(joined)
                break
        else:
            left.append(name)
    return left


def _distance(
    cell: Cell, known: Registry, model: str, layer: nn.Module, x: Tensor, mine: Sequence[Tensor]
) -> tuple[float | None, str]:
    """The distance from the mechanism `model` with the layer's projections, or why there is none."""
    size = known.size(Variant(model), dim=cell.dim, heads=cell.heads, grid=cell.grid, stride=cell.stride)
    exact = known.build(Variant(model), size).double().eval()
    left = copy_projections(layer, exact)
    if left:
        return None, f"no distance to {model}: these projections have no counterpart: {', '.join(left)}"
    return relative_rms(mine, _call(exact, x)), ""


def _call(module: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return tensors_of(module(x))
