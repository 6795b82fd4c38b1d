"""PyTorch as it is: every operator dispatched from Python. The runtime that the others are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import EAGER, Prepared, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """The module itself; for int8 with every `nn.Linear` replaced by its dynamically quantized form."""
    import torch

    if precision != "int8":
        return Prepared(call=module, version=str(torch.__version__))
    made = quantized(module)
    return Prepared(
        call=made,
        weights_bytes=sum(t.numel() * t.element_size() for t in tensors(made.state_dict().values())),
        version=str(torch.__version__),
        options={"engine": torch.backends.quantized.engine, "quantized": "nn.Linear, dynamic, per tensor"},
    )


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors of a state: packed weights stand there in tuples."""
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from tensors(value)


def quantized(module: nn.Module) -> nn.Module:
    """The module with linear layers of int8 weights, whose input is quantized at each call.

    Raises:
        UnsupportedError: this torch has no dynamic quantization any more, or the module has no linear layer.
    """
    import warnings

    import torch

    from attnbench.runtimes import UnsupportedError

    if not any(type(part) is torch.nn.Linear for part in module.modules()):
        raise UnsupportedError("int8 quantizes nn.Linear; the layer has none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since torch 2.8; it has no successor inside torch
        try:
            from torch.ao.quantization import quantize_dynamic
        except ImportError as error:
            raise UnsupportedError("this version of torch has no torch.ao.quantization.quantize_dynamic") from error
        quantize: Any = quantize_dynamic
        made: nn.Module = quantize(module.float().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    return made


RUNTIME = Runtime(
    name=EAGER,
    prepare=prepare,
    precisions=("fp32", "tf32", "bf16", "fp16", "int8"),
    passes=("forward", "train"),
    devices=("cpu", "cuda"),
    kernels=("eager", "sdpa", "flex"),
    needs_eval=False,
)
