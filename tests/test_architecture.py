"""Imports point one way, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attnbench

HOUSE = Path(attnbench.__file__).parent
# From the top down: a module may import what stands in later rows, and its own row's neighbours only where said.
STOREYS = [
    ["cli"],
    ["commands"],
    ["selftest"],
    ["runner"],
    ["progress"],
    ["estimate", "conclude", "executors", "jobs", "worker", "conformance"],
    ["devices", "measure"],
    ["store"],
    ["record"],
    ["sweep"],
    ["registry"],
    ["variant"],
    ["declaration"],
]
NO_TORCH = [
    "axes", "claims", "cli", "compare", "conclude", "declaration", "estimate", "executors.local", "progress",
    "protocol", "record", "report", "runner", "scenes", "spectrum", "statistics", "stopping", "store", "suites",
    "sweep", "terminal", "variant",
]  # fmt: skip


def imported(file: Path) -> set[str]:
    """Names of attnbench's modules that a file imports at its top or inside functions, type checking apart."""
    found: set[str] = set()
    tree = ast.parse(file.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "attnbench":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("attnbench.")}
    return found


def test_nothing_imports_what_stands_above_it():
    height = {name: floor for floor, names in enumerate(STOREYS) for name in names}
    wrong = []
    for file in HOUSE.rglob("*.py"):
        home = file.relative_to(HOUSE).with_suffix("").parts[0]
        for name in imported(file):
            if home in height and name in height and height[name] < height[home]:
                wrong.append(f"{file.relative_to(HOUSE)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("module", NO_TORCH)
def test_needs_no_torch(module):
    code = f"import sys, attnbench.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_mechanisms_import_of_the_harness_only_the_declaration_and_the_registry():
    import mechanisms

    wrong = [
        f"{file.name} imports {name}"
        for file in Path(mechanisms.__file__).parent.rglob("*.py")
        for name in imported(file) - {"declaration", "registry", "variant", "AttnbenchError", "mechanism", "build"}
    ]
    assert wrong == []
