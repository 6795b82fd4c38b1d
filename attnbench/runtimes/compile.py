"""`torch.compile`: the layer as one graph of generated code, made at the first call, without a silent fall-back.

Dynamo compiles a function anew for every shape and module that it meets, and after eight of them runs the ninth
uncompiled with a warning. A timing process holds many arms, so the limits are raised, and reaching one is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import COMPILE, Prepared, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

RECOMPILATIONS = 4096  # more than the arms of any process times their functions
_LIMITS = (
    "recompile_limit", "accumulated_recompile_limit",  # from torch 2.7
    "cache_size_limit", "accumulated_cache_size_limit",  # up to torch 2.6; aliases after it
)  # fmt: skip
_FAIL = ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit")
OPTIONS = ("freezing", "max_autotune", "cpp_wrapper")


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """The compiled module, for static shapes; the first call compiles, and fails where one graph cannot hold it."""
    import torch

    forbid_fallback()

    def executed() -> str:
        from torch._dynamo.utils import counters

        stats: Any = counters["stats"]
        breaks = sum(counters["graph_break"].values())
        return f"{stats['unique_graphs']} graphs, {breaks} breaks"

    call: Callable[[Tensor], Any] = torch.compile(module, dynamic=False, fullgraph=True)
    return Prepared(call=call, version=str(torch.__version__), options=options(), executed=executed)


def forbid_fallback() -> None:
    """Let this process compile as many graphs as its arms need, and fail where Dynamo would run one uncompiled."""
    import torch._dynamo.config as dynamo

    for name in _LIMITS:
        if hasattr(dynamo, name):
            setattr(dynamo, name, RECOMPILATIONS)
    for name in _FAIL:
        if hasattr(dynamo, name):
            setattr(dynamo, name, True)


def options() -> dict[str, str]:
    """The settings of the compiler that decide about speed, and its C++ compiler and vector instructions."""
    from torch._inductor import config, cpu_vec_isa

    return {**{name: str(getattr(config, name)) for name in OPTIONS}, "isa": str(cpu_vec_isa.pick_vec_isa())}


RUNTIME = Runtime(
    name=COMPILE,
    prepare=prepare,
    precisions=("fp32", "tf32", "bf16", "fp16"),
    passes=("forward", "train"),
    devices=("cpu", "cuda"),
    kernels=("eager", "sdpa", "flex"),
    needs_eval=False,
)
