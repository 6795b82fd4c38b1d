"""AOTInductor: the layer compiled ahead of time with frozen weights, loaded from a package.

Freezing packs the weights of linear layers for oneDNN, which `torch.compile` does not do for fp32 with static shapes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import Prepared, Runtime, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn


def export(module: nn.Module, example: Tensor, precision: str, path: Path) -> None:
    """Compile the layer for this input shape, with its weights inside."""
    import torch
    from torch._inductor import aoti_compile_and_package

    from attnbench.runtimes._onnx import export_program

    program = export_program(module, example)
    try:
        with torch.no_grad():
            aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})
    except NotImplementedError as error:
        raise UnsupportedError(f"AOTInductor cannot compile it: {error}") from error


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """The package, loaded; it uses torch's threads."""
    import torch
    from torch._inductor import aoti_load_package

    assert artifact is not None
    model: Any = aoti_load_package(str(artifact))
    metadata = {k: str(v) for k, v in model.get_metadata().items() if k.startswith("AOTI_") and v and "/" not in str(v)}
    return Prepared(
        call=model,
        version=str(torch.__version__),
        options={"freezing": "True", "threads": str(torch.get_num_threads())},
        executed=lambda: ", ".join(f"{k} {v}" for k, v in sorted(metadata.items())),
    )


def missing() -> str:
    """A reason where no C++ compiler is found."""
    return "" if any(map(shutil.which, ("g++", "clang++", "c++"))) else "needs a C++ compiler; install g++"


RUNTIME = Runtime(
    name="aoti",
    prepare=prepare,
    export=export,
    precisions=("fp32", "bf16", "fp16"),
    artifact="pt2",
    missing=missing,
)
