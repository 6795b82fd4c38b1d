"""Ask ONNX Runtime and OpenVINO what they make of every layer; docs/generate.py writes the answers into the pages.

    python docs/exports.py [NAME ...]     write docs/exports.json: all layers, or the named ones beside the stored

Exporting takes some seconds a layer, so the answers are stored, with the versions of the packages. Errors are stored as
bounds that hold on other CPUs too. An answer of other versions is not kept: after an upgrade all layers are asked.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnbench import registry, runtimes
from attnbench.conformance import RUNTIMES
from attnbench.conformance.exports import OK, RuntimeResult, ask, remedy
from attnbench.conformance.subject import Subject
from attnbench.errors import AttnbenchError
from attnbench.execution.workers import Workers
from attnbench.planning import protocol
from attnbench.planning.sweep import Sweep
from attnbench.registry import Registry
from attnbench.registry.variant import Variant

FILE = Path(__file__).resolve().parent / "exports.json"
PACKAGES = ("torch", "onnx", "onnxscript", *RUNTIMES)
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
BOUNDS = (1e-6, 1e-5, 1e-4)
MARGIN = 3  # times the error that was found: rounding differs between CPUs

Answers = Mapping[str, Any]


def entry(found: RuntimeResult) -> dict[str, Any]:
    """What is stored of an answer.

    Raises:
        ValueError: an error above what a runtime is allowed, which never counts as ok.
    """
    if found.outcome != OK:
        return {"outcome": found.outcome, "stage": found.stage, "reason": found.reason}
    if found.error is None:
        return {"outcome": OK, "error_at_most": None}
    allowed = (*(bound for bound in BOUNDS if MARGIN * found.error <= bound), runtimes.TOLERANCES["fp32"])
    if found.error > allowed[0]:
        raise ValueError(f"an error must be at most {allowed[0]:g}; got {found.error:g}")
    return {"outcome": OK, "error_at_most": allowed[0]}


def read(file: Path = FILE) -> dict[str, Any]:
    """The stored answers: `versions` by package, `layers` by name, and of each the answers by runtime."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def lacking(stored: Answers, names: Iterable[str]) -> list[str]:
    """Which layers have no answers, in sentences."""
    return [
        f"docs/exports.json must have every layer; it lacks {name}; run `.venv/bin/python docs/exports.py {name}`"
        for name in names
        if name not in stored["layers"]
    ]


def section(stored: Answers, name: str) -> list[str]:
    """The lines of a mechanism's page: whether each runtime takes the layer, its error, and what to do if not."""
    lines = ["## Other runtimes", ""]
    for runtime, answer in stored["layers"][name].items():
        said = f"{TITLES[runtime]} {stored['versions'][runtime]}"
        if answer["outcome"] != OK:
            lines.append(f"- {said}: {answer['outcome']} at {answer['stage']}: {answer['reason']}.")
            lines.append(f"  Remedy: {remedy(answer['outcome'])}.")
        elif answer["error_at_most"] is None:
            lines.append(f"- {said}: exports and runs; its output is random, so it was not compared with eager's.")
        else:
            lines.append(f"- {said}: exports and runs; error against eager at most {answer['error_at_most']:.0e}.")
    torch = stored["versions"]["torch"]
    return [
        *lines,
        "",
        f"Exported by torch {torch} in fp32; error: greatest difference over the greatest output of eager.",
        f"`attnbench check {name} --runtimes` asks the versions that you have.",
        "",
    ]


def main() -> int:
    """Ask and write; 1 where a name is unknown, a runtime is missing or the stored answers are of other versions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="layers; all if none is named")
    wanted = parser.parse_args().names
    known = registry.load(entry_points=False)
    try:
        for runtime in RUNTIMES:
            runtimes.get(runtime).require()
        versions = {package: importlib.metadata.version(package).partition("+")[0] for package in PACKAGES}
        kept = _kept(versions, known) if wanted else {}
        with Workers(Sweep(), protocol.get("quick"), counts=True) as workers:
            asked = {name: _answers(known, name, workers) for name in wanted or known.names("layer")}
    except AttnbenchError as error:
        print(error, file=sys.stderr)
        return 1
    stored = {"versions": versions, "layers": dict(sorted({**kept, **asked}.items()))}
    FILE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {FILE.name}; `make docs` writes the pages")
    return 0


def _kept(versions: Mapping[str, str], known: Registry) -> dict[str, Any]:
    stored = read()
    if stored["versions"] != versions:
        raise AttnbenchError(
            f"answers of one file must be of the same versions; got {versions}, stored {stored['versions']}; "
            "name no layer to ask all of them"
        )
    return {name: answers for name, answers in stored["layers"].items() if name in known.names("layer")}


def _answers(known: Registry, name: str, workers: Workers) -> dict[str, Any]:
    subject = Subject(known, known.check(Variant(name)), backend=None, workers=workers)
    found = {runtime: ask(subject, runtime) for runtime in RUNTIMES}
    for runtime, answer in found.items():
        print(f"{name:20} {runtime:12} {answer.outcome:9} {answer.reason or answer.error}", flush=True)
    return {runtime: entry(answer) for runtime, answer in found.items()}


if __name__ == "__main__":
    sys.exit(main())
