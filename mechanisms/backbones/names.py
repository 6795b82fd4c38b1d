"""Another name for a part in state dicts, so that checkpoints keep the names that their authors gave."""

from __future__ import annotations

from typing import Any

from torch import nn


def rename(module: nn.Module, ours: str, theirs: str) -> None:
    """Save keys of `module` that begin with `ours` under `theirs`, and load them from there."""

    def written(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        _move(state, prefix + ours, prefix + theirs)

    def read(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if theirs or not any(key.startswith(prefix + ours) for key in state):
            _move(state, prefix + theirs, prefix + ours)

    module.register_state_dict_post_hook(written)  # type: ignore[no-untyped-call]  # torch's own
    module.register_load_state_dict_pre_hook(read)  # type: ignore[no-untyped-call]  # the same


def _move(state: dict[str, Any], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)
