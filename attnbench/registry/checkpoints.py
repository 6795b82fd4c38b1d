"""An official checkpoint file -> a module, strictly: both must have the same parameters and buffers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, describe_error

WRAPPERS = ("model", "state_dict")  # where training codes put the weights in a checkpoint
_SHOWN = 3


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill `module` with the weights in the file at `path`.

    The file is read as data, never as code. The weights may stand under `model`, under `state_dict`, or be
    the file's whole content.

    Raises:
        AttnbenchError: the file cannot be read, holds no weights, or they are not the module's; the module is
            then as it was.
    """
    state = read_weights(path)
    ours = module.state_dict()
    missing = [key for key in ours if key not in state]
    unexpected = [key for key in state if key not in ours]
    other = [
        f"{key} {_by(state[key])} for {_by(ours[key])}"
        for key in ours
        if key in state and state[key].shape != ours[key].shape
    ]
    integers = [
        key
        for key, own in ours.items()
        if key in state and own.is_floating_point() and not state[key].is_floating_point()
    ]
    wrong = [
        _listed(name, keys)
        for name, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", other),
            ("without real numbers", integers),
        )
        if keys
    ]
    if wrong:
        raise AttnbenchError(
            f"a checkpoint must hold exactly the weights of {type(module).__name__}; "
            f"got {', '.join(wrong)} in {_name(path)}"
        )
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise AttnbenchError(
                f"weights must be finite numbers; {key} in {_name(path)} has some that are not; use another checkpoint"
            )
    module.load_state_dict(state, strict=True)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors in a checkpoint file.

    Raises:
        AttnbenchError: the file cannot be read, or holds no weights.
    """
    file = inputs.regular_file("a checkpoint", str(path), kind="a file of tensors")
    try:
        with warnings.catch_warnings(action="ignore"):  # of a file in an older form
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on a damaged file torch's readers raise whatever they meet
        why = describe_error(error, first_line=True)
        raise AttnbenchError(
            f"a checkpoint must be a file of tensors that torch.load reads with weights_only=True; "
            f"got {_name(path)}: {why}"
        ) from error
    found: Any = content
    if isinstance(content, Mapping):
        found = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    named = isinstance(found, Mapping) and all(isinstance(key, str) for key in found)
    if not named or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise AttnbenchError(
            f"a checkpoint holds named tensors, plainly or under {' or '.join(WRAPPERS)}; "
            f"got {_content(content)} in {_name(path)}"
        )
    for key, tensor in found.items():
        kind = _kind(tensor)
        if kind:
            raise AttnbenchError(
                f"a checkpoint holds plain tensors with their values; {brief(key)} in {_name(path)} is {kind}"
            )
    return dict(found)


def _kind(tensor: Tensor) -> str:
    """What makes a tensor unfit as weights; empty for a plain one."""
    if tensor.layout is not torch.strided:
        return "sparse"
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}"
    if tensor.is_quantized or tensor.is_nested:
        return "quantized or nested"
    return "complex" if tensor.is_complex() else ""


def _name(path: str | Path) -> str:
    return inputs.printable(Path(path).name)


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(map(inputs.printable, keys[:_SHOWN]))}{more})"


def _content(content: Any) -> str:
    if isinstance(content, Mapping):
        shown = [inputs.printable(key) if isinstance(key, str) else brief(key) for key in list(content)[:_SHOWN]]
        return f"a mapping with {', '.join(shown) or 'nothing'}"
    return f"a {type(content).__name__}"
