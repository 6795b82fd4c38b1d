"""OpenVINO on the CPU, from the same ONNX file as ONNX Runtime.

Its default precision is the fastest that the CPU has, bf16 for one, whatever the model holds: the cell's precision is
set and read back. Its Python package sends an event when it is imported: the sender is kept out of the process.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import Prepared, Runtime, UnsupportedError, _onnx
from attnbench.runtimes.onnxruntime import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
PROPERTIES = (
    "INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "EXECUTION_MODE_HINT",
    "ENABLE_CPU_PINNING", "ENABLE_HYPER_THREADING",
)  # fmt: skip
_SENDER = "openvino_telemetry"
_NODE = re.compile(r"No conversion rule found for operations: ([^\n]+)|validating node '([^' ]+)|for ([A-Z]\w+)-\d+")


def load() -> None:
    """Import it, and its CPU plugin, without its telemetry.

    An import of the sender fails, so OpenVINO uses its own stub.
    """
    if _SENDER not in sys.modules:
        sys.modules[_SENDER] = None  # type: ignore[assignment]  # what makes an import fail
    _core().get_property("CPU", "FULL_DEVICE_NAME")


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """The compiled model with one request, its input and output bound to torch's memory.

    Raises:
        UnsupportedError: an operator cannot be read, or the CPU does not compute in this precision.
    """
    load()
    import openvino

    assert artifact is not None
    wanted: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    try:
        model = _core().compile_model(str(artifact), "CPU", wanted)
    except RuntimeError as error:
        if "memory" in str(error).lower() and "alloc" in str(error).lower():
            raise
        raise UnsupportedError(f"OpenVINO cannot compile it: {node(str(error))}") from error
    options = {name: _text(model.get_property(name)) for name in PROPERTIES}
    if options["INFERENCE_PRECISION_HINT"] != HINTS[precision]:
        raise UnsupportedError(
            f"OpenVINO does not compute in {precision} on this CPU; it gives "
            f"INFERENCE_PRECISION_HINT={options['INFERENCE_PRECISION_HINT']}"
        )
    request = _Request(model, openvino)
    return Prepared(
        call=request,
        bind=request.bind,
        forget=request.forget,
        version=openvino.get_version(),
        options=options,
        executed=lambda: executed(model),
    )


def executed(model: Any) -> str:
    """The most frequent kinds of nodes with the precision that each ran in; constants and reorders of shapes left out.

    `FullyConnected f32 x4, Softmax f32 x2 and 11 others`.
    """
    kinds: Counter[str] = Counter()
    for operation in model.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        if "layerType" in info and "runtimePrecision" in info:
            kind, precision = info["layerType"].value, info["runtimePrecision"].value
            if kind not in ("Const", "Input", "Output"):
                kinds[f"{kind} {precision}"] += 1
    return counted(kinds)


def node(message: str) -> str:
    """The operator that an error names, else what it says first."""
    found = _NODE.search(message)
    if found:
        return next(filter(None, found.groups()))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return (lines[-1] if lines else "no message")[:300]


class _Request:
    """Calls of one inference request on torch's own memory."""

    def __init__(self, model: Any, openvino: Any) -> None:
        self.ov = openvino
        self.request = model.create_infer_request()
        self.outputs = [(tuple(o.shape), o.get_element_type()) for o in model.outputs]
        self.inputs: dict[int, Any] = {}
        self.results: list[Tensor] = []
        self.current = 0

    def bind(self, inputs: Sequence[Tensor]) -> None:
        for x in inputs:
            if x.data_ptr() not in self.inputs:
                if not x.is_contiguous():
                    raise ValueError("an input is contiguous, because its memory is used as it is; got strides")
                self.inputs[x.data_ptr()] = self._shared(x)
        self._outputs()

    def forget(self) -> None:
        """Let inputs and outputs go; the request itself still holds those of its last call."""
        self.inputs, self.results, self.current = {}, [], 0

    def __call__(self, x: Tensor) -> Any:
        place = x.data_ptr()
        if place not in self.inputs:
            self.bind([x])
        if place != self.current:
            self.request.set_input_tensor(self.inputs[place])
            self.current = place
        self.request.infer()
        return self.results if len(self.results) > 1 else self.results[0]

    def _outputs(self) -> None:
        import torch

        if self.results:
            return
        for number, (shape, kind) in enumerate(self.outputs):
            y = torch.empty(shape, dtype=getattr(torch, _TYPES[kind.get_type_name()]))
            self.results.append(y)
            self.request.set_output_tensor(number, self._shared(y))

    def _shared(self, x: Tensor) -> Any:
        import torch

        if x.dtype == torch.bfloat16:  # NumPy has no such type
            return self.ov.Tensor(x.detach().view(torch.int16).numpy(), list(x.shape), self.ov.Type.bf16)
        return self.ov.Tensor(x.detach().numpy(), shared_memory=True)


_TYPES = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i64": "int64", "i32": "int32",
    "boolean": "bool",
}  # fmt: skip


def _text(value: Any) -> str:
    name = getattr(value, "get_type_name", None)
    if name is not None:
        return str(name())
    return str(getattr(value, "name", value))


RUNTIME = Runtime(
    name="openvino",
    prepare=prepare,
    export=_onnx.export,
    precisions=("fp32", "bf16", "fp16"),
    modules=("onnx", "onnxscript", "openvino"),
    extra="openvino",
    artifact="onnx",
    load=load,
    why_not={"int8": "it computes dynamically quantized products of an ONNX file in f32"},
)
