"""A layer -> an ONNX file for one input shape, with its weights inside; what cannot be exported is named."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

_OPERATOR = re.compile(r"\b(?:aten|prims|torchvision|quantized)(?:::|\.)\w+(?:\.\w+)?")


def export(module: nn.Module, example: Tensor, precision: str, path: Path) -> None:
    """Write `path`; for int8 the matrix products with constant weights are quantized dynamically.

    Raises:
        UnsupportedError: an operator has no counterpart, or nothing in the layer can be quantized.
    """
    import torch

    program = export_program(module, example)
    whole = path.with_name(f"{path.name}.fp32") if precision == "int8" else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        try:
            torch.onnx.export(program, (), str(whole), dynamo=True, external_data=False, verbose=False)
        except Exception as error:  # the exporter's errors have no common base
            if type(error).__module__.startswith("torch."):
                raise UnsupportedError(f"{operator(error)} cannot be exported to ONNX") from error
            raise
    if precision == "int8":
        try:
            quantize(whole, path)
        finally:
            whole.unlink()


def export_program(module: nn.Module, example: Tensor) -> Any:
    """`torch.export` of the module for this input shape.

    Raises:
        UnsupportedError: Python code in `forward` that cannot be traced.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module.eval(), (example,))
        except Exception as error:
            if type(error).__module__.startswith("torch."):  # builtin errors come from the layer's own code
                raise UnsupportedError(f"torch.export cannot trace it: {operator(error)}") from error
            raise


def quantize(source: Path, target: Path) -> None:
    """Quantize the matrix products of constant weights to int8, their input at each call.

    Raises:
        UnsupportedError: the layer has no such product.
    """
    import onnx

    from attnbench.runtimes import onnxruntime

    onnxruntime.load()  # without telemetry
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation through the root logger
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(str(target)).graph.node):
        raise UnsupportedError("int8 quantizes matrix products with constant weights; the layer has none")


def operator(error: BaseException) -> str:
    """The operator that an exporter's chain of errors names, else the first line of the innermost error."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for each in reversed(chain):
        if found := _OPERATOR.search(str(each)):
            return found[0]
    innermost = chain[-1]
    lines = [line.strip() for line in str(innermost).splitlines() if line.strip()]
    return f"{type(innermost).__name__}: {lines[0] if lines else 'no message'}"[:300]
