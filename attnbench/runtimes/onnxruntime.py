"""ONNX Runtime on the CPU.

Three of its defaults are set, because they falsify a comparison in one process: idle threads spin for 40 ms into the
next arm's turn, the memory arena hides page faults that others pay (and its memory from the measurement), and the
package sends telemetry from its import on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.runtimes import Prepared, Runtime, UnsupportedError, _onnx, set_environment

if TYPE_CHECKING:
    from torch import Tensor, nn

SPINNING = "session.intra_op.allow_spinning"
_SHOWN = 8  # kinds of operators that `executed` names


def load() -> None:
    """Import it with telemetry off."""
    set_environment(RUNTIME)
    import onnxruntime  # noqa: F401


def prepare(module: nn.Module, example: Tensor, threads: int, precision: str, artifact: Path | None) -> Prepared:
    """A session on the file, its inputs and outputs bound to torch's memory.

    Raises:
        UnsupportedError: the CPU provider has no kernel for an operator in this precision.
    """
    load()
    import onnxruntime

    assert artifact is not None
    session = _session(artifact, threads)
    given = session.get_session_options()
    return Prepared(
        call=(bound := _Bound(session)),
        bind=bound.bind,
        forget=bound.forget,
        version=onnxruntime.__version__,
        options={
            "intra_op_num_threads": str(given.intra_op_num_threads),
            "inter_op_num_threads": str(given.inter_op_num_threads),
            "execution_mode": given.execution_mode.name,
            "graph_optimization_level": given.graph_optimization_level.name,
            "enable_cpu_mem_arena": str(given.enable_cpu_mem_arena),
            "allow_spinning": given.get_session_config_entry(SPINNING),
            "providers": " ".join(session.get_providers()),
        },
        executed=lambda: operators(artifact, threads),
    )


def operators(artifact: Path, threads: int) -> str:
    """The most frequent operators of the graph after optimization: `MatMul x4, Softmax x2 and 11 others`."""
    import tempfile

    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        _session(artifact, threads, optimized)
        kinds = Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)
    return counted(kinds)


def counted(kinds: Counter[str]) -> str:
    """The most frequent of these, with how often each is there, and the number of the others."""
    shown = sorted(kinds.items(), key=lambda kv: (-kv[1], kv[0]))[:_SHOWN]
    rest = sum(kinds.values()) - sum(n for _, n in shown)
    return ", ".join(f"{kind} x{n}" for kind, n in shown) + (f" and {rest} others" if rest else "")


def _session(artifact: Path, threads: int, optimized: Path | None = None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry(SPINNING, "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # it warns of tables in fp16 that it does not fold
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return ort.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base
        if type(error).__name__ in ("NotImplemented", "InvalidGraph", "Fail"):
            first = str(error).splitlines()[0].partition(" : ")[2] or str(error)
            raise UnsupportedError(f"the CPU provider of ONNX Runtime cannot run it: {first[:300]}") from error
        raise


class _Bound:
    """Calls of a session on torch's own memory: nothing is copied in or out."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name
        self.outputs = [(o.name, tuple(o.shape), _TYPES[o.type]) for o in session.get_outputs()]
        self.bindings: dict[int, Any] = {}
        self.results: list[Tensor] = []

    def bind(self, inputs: Sequence[Tensor]) -> None:
        for x in inputs:
            if x.data_ptr() not in self.bindings:
                self.bindings[x.data_ptr()] = self._binding(x)

    def forget(self) -> None:
        self.bindings, self.results = {}, []

    def __call__(self, x: Tensor) -> Any:
        binding = self.bindings.get(x.data_ptr())
        if binding is None:
            self.bind([x])
            binding = self.bindings[x.data_ptr()]
        self.session.run_with_iobinding(binding)
        return self.results if len(self.results) > 1 else self.results[0]

    def _binding(self, x: Tensor) -> Any:
        import torch

        if not x.is_contiguous():
            raise ValueError("an input is contiguous, because its memory is used as it is; got a view with strides")
        if not self.results:
            self.results = [torch.empty(shape, dtype=getattr(torch, name)) for _, shape, name in self.outputs]
        binding = self.session.io_binding()
        kind = str(x.dtype).removeprefix("torch.")
        binding.bind_input(self.input, "cpu", 0, _numpy(kind), tuple(x.shape), x.data_ptr())
        for (output, shape, name), y in zip(self.outputs, self.results, strict=True):
            binding.bind_output(output, "cpu", 0, _numpy(name), shape, y.data_ptr())
        return binding


_TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(bool)": "bool",
}  # fmt: skip


def _numpy(name: str) -> Any:
    import numpy as np

    return np.dtype(name).type


RUNTIME = Runtime(
    name="onnxruntime",
    prepare=prepare,
    export=_onnx.export,
    precisions=("fp32", "fp16", "int8"),
    modules=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
    artifact="onnx",
    environment={"ORT_DISABLE_TELEMETRY": "1"},
    load=load,
    why_not={"bf16": "its CPU provider has no bf16 kernels"},
)
