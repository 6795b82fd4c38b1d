"""Imports point one way, every module has a layer, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnbench
from attnbench.results.record import QUANTITIES

PACKAGE_DIR = Path(attnbench.__file__).parent
# From the ground up: a module imports from its own folder and from lower layers. Two folders of one layer do not see
# each other.
LAYERS = [
    ["errors", "inert"],
    ["inputs"],
    ["registry", "machine"],
    ["runtimes"],
    ["planning"],
    ["measure"],
    ["results", "published"],
    ["analysis"],
    ["execution"],
    ["report"],
    ["conformance", "selftest", "studies"],
    ["commands"],
    ["cli", "declaration", "api"],
    ["__main__", "__init__"],
]
HEIGHT = {folder: height for height, folders in enumerate(LAYERS) for folder in folders}
NO_TORCH = [
    "analysis.table", "execution.cluster", "execution.slurm_queue", "results.merge",
    "analysis.compare", "analysis.machines", "analysis.statistics", "analysis.stopping", "analysis.summarize", "cli",
    "commands.options", "errors", "execution.fork_server", "execution.progress", "execution.runner",
    "inputs", "machine.disturbances", "machine.environment", "machine.fingerprint", "planning.duration",
    "planning.remaining",
    "planning.cell", "planning.protocol", "planning.sweep", "published.suites", "registry.declaration",
    "registry.variant", "report.claims", "report.recommend", "report.terminal", "report.write", "results.flags",
    "results.record", "results.run_facts", "results.store", "studies.images", "studies.spectrum",
]  # fmt: skip

# Names that are columns of data, wherever they are read: quantities and words of a record, conditions of a reading.
COLUMN_NAMES = {*QUANTITIES, "device_name", "kernel_ran", "executed", "reference", "stopped", "count_notes"}
CONDITION_NAMES = {
    "wall_s", "other_cpu_s", "load_1min", "sm_clock_mhz", "throttle_bits", "throttle_reasons", "other_gpu_processes",
    "steal_s", "own_cpu_s", "cpus", "nvml",
}  # fmt: skip
# Modules that read a mapping by literal keys because they own the data that they parse.
KEY_OWNERS = {
    "commands.check": "the parts of its own pattern NAME | FILE.py[:CLASS], which are groups of a match",
    "commands.doctor": "the distribution's own name among the versions of packages",
    "commands.slurm_options": "click's parameters, and the table [slurm] of a sweep file, which it declares",
    "commands.options": "click's parameters and the keys of a sweep file, which it declares",
    "commands.spectrum": "the study that it has just called",
    "commands.protocols": "click's parameters, which it declares",
    "conformance.behaviour": "a counter of torch",
    "execution.cluster": "collection.json and jobs.jsonl, which it writes",
    "execution.fork_server": "the wire between it and its server, both in this file",
    "execution.jobs": "the wire to a worker",
    "execution.worker": "the wire to a worker",
    "machine.devices.cpu": "lines of /proc/self/status",
    "machine.devices.cuda": "NVML's answers by name",
    "machine.environment": "lines of os-release",
    "machine.counters": "lines of /proc and of control groups",
    "machine.linux": "lines of /proc and of control groups",
    "planning.protocol": "overrides, which it declares",
    "planning.axis_values": "the command line's words for the numbers of a protocol, which it declares",
    "planning.cell": "a cell's own plain values",
    "published.claims": "claims.toml",
    "published.differences": "differences.toml",
    "published.layouts": "layouts.toml",
    "published.timm.__init__": "columns of its own CSV files",
    "published.suites": "the options of a suite, which it declares",
    "registry.defaults": "defaults.json, which the registry writes",
    "report.chooser": "its own table of axes",
    "report.mixing": "the setting of a task model that names its backbone",
    "report.papers_figures": "columns of the papers' CSV files, and settings of mechanisms",
    "report.top1": "columns of the papers' CSV files",
    "results.collection": "collection.json, which it writes",
    "results.events": "lines of the journal",
    "results.record": "lines of records.jsonl",
    "results.run_facts": "run.json",
    "results.store": "lines of the journal",
    "runtimes.compile": "the counters of torch's compiler",
    "runtimes.openvino": "properties of OpenVINO and of its nodes",
    "selftest.sensitivity": "the records of its own probes, by name",
    "selftest.stored": "the JSON file of a self-test, which it writes",
    "studies.protocols": "its own settings of a procedure",
    "studies.protocols_tables": "the JSON of studies.protocols, of which it is the other half",
    "studies.spectrum": "spectrum.json, and settings of its own",
}


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


def test_files_and_functions_stay_small():
    """A file of more than 400 lines has two subjects; a function of more than 60 does not fit on a screen."""
    long_files = {str(f.relative_to(PACKAGE_DIR)): n for f in modules() if (n := len(f.read_text().splitlines())) > 400}
    long_functions = {
        f"{f.relative_to(PACKAGE_DIR)}:{node.name}": size
        for f in modules()
        for node in ast.walk(ast.parse(f.read_text()))
        if isinstance(node, ast.FunctionDef) and (size := (node.end_lineno or 0) - node.lineno + 1) > 60
    }
    assert (long_files, long_functions) == ({}, {})


def literal_keys(tree: ast.AST) -> Iterator[str]:
    """Every `x["key"]`, `x.get("key")`, `x.pop("key")` and `x.setdefault("key")` of a file, except of `os.environ`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            mapping, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr not in ("get", "pop", "setdefault"):
                continue
            mapping, key = node.func.value, node.args[0]
        else:
            continue
        literal = isinstance(key, ast.Constant) and isinstance(key.value, str)
        if literal and ast.unparse(mapping) not in ("os.environ", "Literal"):
            yield key.value


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE_DIR).with_suffix("").parts)


def test_literal_keys_are_seen_in_every_form():
    text = 'a["k"]; b.get("l", 0); c.pop("m"); os.environ.get("n"); d[0]; e.get(name); f: Literal["o"]'
    assert set(literal_keys(ast.parse(text))) == {"k", "l", "m"}


def test_no_module_reads_another_modules_mapping_by_a_literal_key():
    """A name that two modules spell alike by hand is a field of a dataclass, so that a type checker sees it."""
    found = {module_name(file): set(literal_keys(ast.parse(file.read_text()))) for file in modules()}
    unknown = {name: sorted(keys - COLUMN_NAMES - CONDITION_NAMES) for name, keys in found.items()}
    wrong = {name: keys for name, keys in unknown.items() if keys and name not in KEY_OWNERS}
    assert wrong == {}, "read a dataclass, or name the module in KEY_OWNERS with the data that it owns"
    assert sorted(name for name in KEY_OWNERS if not unknown.get(name)) == [], "remove these from KEY_OWNERS"


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
