"""`torch.compile`: the layer as one graph of generated code, made at the first call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import COMPILE, Prepared, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

OPTIONS = ("freezing", "max_autotune", "cpp_wrapper")


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """The compiled module, for static shapes; the first call compiles."""
    import torch

    def executed() -> str:
        from torch._dynamo.utils import counters

        stats: Any = counters["stats"]
        breaks = sum(counters["graph_break"].values())
        return f"{stats['unique_graphs']} graphs, {breaks} breaks"

    return Prepared(
        call=torch.compile(module, dynamic=False), version=str(torch.__version__), options=options(), executed=executed
    )


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
