"""What `attnbench check` demands of a mechanism, built-in or third-party, and the result of each check."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from attnbench.conformance import behaviour, exports, structure
from attnbench.conformance.subject import CheckError, CheckResult, Note, Subject, attempt
from attnbench.errors import AttnbenchError

# The most frequent mistakes first; where the first check fails, the others would mean nothing.
CHECKS: dict[str, Callable[[Subject], str]] = {
    "shape": behaviour.form,
    "strides": behaviour.strides,
    "determinism": behaviour.determinism,
    "batch": behaviour.batch,
    "kernels": behaviour.kernels,
    "native": behaviour.native,
    "precision": behaviour.precision,
    "autocast": behaviour.autocast,
    "gradients": structure.gradients,
    "reach": structure.reach,
    "macs": structure.macs,
    "memory": structure.memory,
    "weights": behaviour.weights,
    "against": structure.against,
    "compiled": behaviour.compiled,
    "flex": behaviour.flex,
    "export": behaviour.export,
    "onnxruntime": exports.onnxruntime,
    "openvino": exports.openvino,
}
COMPILES = ("compiled", "flex")
RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Report:
    """Every finding about one variant."""

    mechanism: str
    source: str
    dim: int
    heads: int
    findings: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(f.outcome != "fail" for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {**asdict(self), "findings": [asdict(f) for f in self.findings], "passed": self.passed}


def examine(subject: Subject, *, only: tuple[str, ...] = ()) -> Report:
    """Run the checks (all, or those named in `only`) and collect their findings."""
    findings = tuple(_findings(subject, only or tuple(CHECKS)))
    return Report(str(subject.variant), subject.declaration.source, subject.dim, subject.heads, findings)


def _findings(subject: Subject, names: tuple[str, ...]) -> Iterator[CheckResult]:
    for name, check in CHECKS.items():
        asked = (name != "against" or subject.against) and (name not in COMPILES or subject.backend)
        if name in RUNTIMES and subject.workers is None:
            continue
        if name not in names or not asked:
            continue
        finding = _ask(name, check, subject)
        yield finding
        if name == "shape" and finding.outcome == "fail":
            return


def _ask(name: str, check: Callable[[Subject], str], subject: Subject) -> CheckResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with attempt("the check ended", "see the contract in docs/adding-a-mechanism.md"):
                said = check(subject)
        except CheckError as error:
            return CheckResult(name, "fail", str(error), error.remedy)
        except AttnbenchError as error:
            return CheckResult(name, "fail", str(error), "see the contract in docs/adding-a-mechanism.md")
    if isinstance(said, Note):
        return CheckResult(name, "note", str(said), said.remedy)
    return CheckResult(name, "pass", said)
