"""An official checkpoint file -> a module, strictly: both must have the same parameters and buffers."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.errors import AttnbenchError

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
    wrong = [
        _listed(name, keys)
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
        if keys
    ]
    if wrong:
        raise AttnbenchError(
            f"a checkpoint must hold exactly the weights of {type(module).__name__}; "
            f"got {', '.join(wrong)} in {Path(path).name}"
        )
    module.load_state_dict(state, strict=True)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors in a checkpoint file.

    Raises:
        AttnbenchError: the file cannot be read, or holds no weights.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise AttnbenchError(f"a checkpoint is a file; got {str(path)!r}, which is not there") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise AttnbenchError(
            f"a checkpoint must be a file of tensors that torch.load reads with weights_only=True; "
            f"got {Path(path).name}: {type(error).__name__}: {first}"
        ) from error
    found: Any = content
    if isinstance(content, Mapping):
        found = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    named = isinstance(found, Mapping) and all(isinstance(key, str) for key in found)
    if not named or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise AttnbenchError(
            f"a checkpoint holds named tensors, plainly or under {' or '.join(WRAPPERS)}; "
            f"got {_content(content)} in {Path(path).name}"
        )
    return dict(found)


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{more})"


def _content(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with {', '.join(str(key) for key in list(content)[:_SHOWN]) or 'nothing'}"
    return f"a {type(content).__name__}"
