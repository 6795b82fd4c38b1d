"""Imports point one way, every module has a layer, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnbench

PACKAGE_DIR = Path(attnbench.__file__).parent
# From the ground up: a module imports from its own folder and from lower layers. Two folders of one layer do not see
# each other.
LAYERS = [
    ["errors"],
    ["registry", "machine"],
    ["planning"],
    ["measure"],
    ["results", "published"],
    ["analysis"],
    ["execution"],
    ["report"],
    ["conformance", "selftest", "studies"],
    ["commands"],
    ["cli", "declaration"],
    ["__main__", "__init__"],
]
HEIGHT = {folder: height for height, folders in enumerate(LAYERS) for folder in folders}
NO_TORCH = [
    "analysis.compare", "analysis.statistics", "analysis.stopping", "analysis.summarize", "cli", "commands.options",
    "errors", "execution.fork_server", "execution.progress", "execution.runner", "machine.disturbances",
    "machine.environment", "planning.duration", "planning.protocol", "planning.sweep", "published.suites",
    "registry.declaration", "registry.variant", "report.claims", "report.recommend", "report.terminal", "report.write",
    "results.flags", "results.record", "results.store", "studies.images", "studies.spectrum",
]  # fmt: skip


def modules() -> Iterator[Path]:
    return (file for file in sorted(PACKAGE_DIR.rglob("*.py")) if "__pycache__" not in file.parts)


def folder_of(file: Path) -> str:
    return file.relative_to(PACKAGE_DIR).with_suffix("").parts[0]


def imported(file: Path) -> set[str]:
    """Folders of attnbench that a file imports from, at its top or inside functions; type checking included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "attnbench":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("attnbench.")}
    return found


def test_every_module_has_a_layer():
    homeless = sorted({folder_of(file) for file in modules()} - set(HEIGHT))
    assert homeless == [], "add the folder to LAYERS, at the height of what it uses"


@pytest.mark.parametrize("file", [f for f in modules() if f.parent != PACKAGE_DIR or f.stem == "cli"], ids=str)
def test_a_module_imports_only_from_lower_layers(file):
    home = folder_of(file)
    wrong = [
        name
        for name in imported(file)
        if name in HEIGHT and name != home and HEIGHT[name] >= HEIGHT[home] and name != "__init__"
    ]
    assert wrong == []


@pytest.mark.parametrize("module", NO_TORCH)
def test_needs_no_torch(module):
    code = f"import sys, attnbench.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_mechanisms_import_of_the_harness_only_the_registry():
    import mechanisms

    wrong = [
        f"{file.name} imports {name}"
        for file in Path(mechanisms.__file__).parent.rglob("*.py")
        for name in imported(file) - {"registry", "errors", "Size", "mechanism", "build"}
    ]
    assert wrong == []
