"""torch.compile without a silent fall-back.

Dynamo compiles a function anew for every shape and module that it meets, and after eight of them runs the ninth
uncompiled with a warning. A timing process holds many arms, so the limits are raised, and reaching one is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

RECOMPILATIONS = 4096  # more than the arms of any process times their functions
_LIMITS = (
    "recompile_limit", "accumulated_recompile_limit",  # from torch 2.7
    "cache_size_limit", "accumulated_cache_size_limit",  # up to torch 2.6; aliases after it
)  # fmt: skip
_FAIL = ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit")


def prepare() -> None:
    """Let this process compile as many graphs as its arms need, and fail where Dynamo would run one uncompiled."""
    import torch._dynamo.config as dynamo

    for name in _LIMITS:
        if hasattr(dynamo, name):
            setattr(dynamo, name, RECOMPILATIONS)
    for name in _FAIL:
        if hasattr(dynamo, name):
            setattr(dynamo, name, True)


def compiled(module: Callable[..., Any]) -> Callable[..., Any]:
    """The module as one graph for one shape; its first call compiles, and fails where one graph cannot hold it."""
    result: Callable[..., Any] = torch.compile(module, dynamic=False, fullgraph=True)
    return result
