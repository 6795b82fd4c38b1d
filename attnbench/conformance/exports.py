"""Whether other runtimes take a layer: exported, loaded and called in processes of their own; recorded, not required.

A layer that a runtime refuses keeps the contract; one whose output differs there from eager's does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnbench import runtimes
from attnbench.conformance.subject import CheckError, Note, Subject
from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.results.events import Failure

OK = "ok"
_REMEDIES = {
    "declined": "compute the same with other operators; without that it runs in eager, compile and aoti only",
    "failed": "avoid what depends on values, on memory layout, or on being traced",
    "timeout": "avoid Python loops over tokens: each step becomes operators of the graph",
}


@dataclass(frozen=True, kw_only=True)
class RuntimeResult:
    """What one runtime made of a layer in fp32.

    Attributes:
        outcome: `ok`, or the outcome of what failed; `stage`: the one that failed, `export` or `run`.
        reason: of a failure, with the operator where one is not supported.
        error: greatest |difference| / greatest |output of eager|; None where the output is random or nothing ran.
        export_s: seconds.
        executed: what ran, in the runtime's words.
    """

    outcome: str = OK
    stage: str = ""
    reason: str = ""
    error: float | None = None
    export_s: float = 0.0
    executed: str = ""


def remedy(outcome: str) -> str:
    """What to change in a layer with this outcome; empty for one that runs."""
    if outcome == OK:
        return ""
    return _REMEDIES.get(outcome, "run it with --runtime eager to see whether the layer itself is at fault")


def ask(s: Subject, name: str) -> RuntimeResult:
    """Export the layer for a runtime that is installed, and call it there."""
    assert s.workers is not None
    cell = _cell(s, name)
    exported = s.workers.export(cell)
    if isinstance(exported, Failure):
        return RuntimeResult(outcome=exported.outcome, stage="export", reason=exported.reason)
    s.workers.artifacts[cell.id] = exported.artifact
    tried = s.workers.trial(cell)
    if isinstance(tried, Failure):
        return RuntimeResult(outcome=tried.outcome, stage="run", reason=tried.reason)
    return RuntimeResult(
        error=tried.values.get("runtime_error"),
        export_s=exported.values["export_s"],
        executed=tried.words.get("executed", "as it says"),
    )


def onnxruntime(s: Subject) -> str:
    """The layer as an ONNX file in ONNX Runtime agrees with eager."""
    return _runs(s, "onnxruntime")


def openvino(s: Subject) -> str:
    """The layer as an ONNX file in OpenVINO agrees with eager."""
    return _runs(s, "openvino")


def _runs(s: Subject, name: str) -> str:
    try:
        runtimes.get(name).require()
    except AttnbenchError as error:
        return Note(str(error))
    r = ask(s, name)
    if r.outcome == OK:
        agrees = "its output is random" if r.error is None else f"error against eager {r.error:.0e}"
        return Note(f"{agrees}; exported in {r.export_s:.1f} s; ran {r.executed}")
    if (r.outcome, r.stage) == ("failed", "run"):
        raise CheckError(r.reason, remedy(r.outcome))
    said = Note(f"{r.stage}: {r.outcome}: {r.reason}")
    said.remedy = remedy(r.outcome)
    return said


def _cell(s: Subject, runtime: str) -> Cell:
    grid, stride = s.some((4, 6))[0], 16
    size = s.size(grid, stride=stride)
    return Cell(
        scope="layer", variant=str(s.variant), settings=tuple(size.settings.items()), res_h=grid[0] * stride,
        res_w=grid[1] * stride, batch=1, dim=s.dim, heads=s.heads, stride=stride, device="cpu", precision="fp32",
        pass_="forward", kernel="eager", threads=1, allocator="pinned", runtime=runtime,
    )  # fmt: skip
