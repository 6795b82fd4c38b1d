"""Whether other runtimes take a layer: exported, loaded and called in processes of their own; recorded, not required.

A layer that a runtime refuses keeps the contract; one whose output differs there from eager's does not.
"""

from __future__ import annotations

from attnbench import runtimes
from attnbench.conformance.subject import CheckError, Note, Subject
from attnbench.errors import AttnbenchError
from attnbench.planning.cell import Cell
from attnbench.results.events import Failure

_REMEDIES = {
    "declined": "compute the same with other operators; without that it runs in eager, compile and aoti only",
    "failed": "avoid what depends on values, on memory layout, or on being traced",
    "timeout": "avoid Python loops over tokens: each step becomes operators of the graph",
}


def onnxruntime(s: Subject) -> str:
    """The layer as an ONNX file in ONNX Runtime agrees with eager."""
    return _runs(s, "onnxruntime")


def openvino(s: Subject) -> str:
    """The layer as an ONNX file in OpenVINO agrees with eager."""
    return _runs(s, "openvino")


def _runs(s: Subject, name: str) -> str:
    assert s.workers is not None
    try:
        runtimes.get(name).require()
    except AttnbenchError as error:
        return Note(str(error))
    cell = _cell(s, name)
    exported = s.workers.export(cell)
    if isinstance(exported, Failure):
        return _refused(exported, "export")
    s.workers.artifacts[cell.id] = exported.artifact
    tried = s.workers.trial(cell)
    if isinstance(tried, Failure):
        return _refused(tried, "run")
    apart = tried.values.get("runtime_error")
    seconds = exported.values["export_s"]
    agrees = "its output is random" if apart is None else f"error against eager {apart:.0e}"
    return Note(f"{agrees}; exported in {seconds:.1f} s; ran {tried.words.get('executed', 'as it says')}")


def _refused(failure: Failure, stage: str) -> str:
    remedy = _REMEDIES.get(failure.outcome, "run it with --runtime eager to see whether the layer itself is at fault")
    if failure.outcome == "failed" and stage == "run":
        raise CheckError(failure.reason, remedy)
    said = Note(f"{stage}: {failure.outcome}: {failure.reason}")
    said.remedy = remedy
    return said


def _cell(s: Subject, runtime: str) -> Cell:
    grid, stride = s.some((4, 6))[0], 16
    size = s.size(grid, stride=stride)
    return Cell(
        scope="layer", variant=str(s.variant), settings=tuple(size.settings.items()), res_h=grid[0] * stride,
        res_w=grid[1] * stride, batch=1, dim=s.dim, heads=s.heads, stride=stride, device="cpu", precision="fp32",
        pass_="forward", kernel="eager", threads=1, allocator="pinned", runtime=runtime,
    )  # fmt: skip
