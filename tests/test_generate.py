"""docs/generate.py writes what the registry says, and notices every difference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from attnbench import registry

SCRIPT = Path(__file__).parent.parent / "docs" / "generate.py"
BETWEEN = "before\n<!-- mechanisms:begin -->\nold\n<!-- mechanisms:end -->\nafter\n"


@pytest.fixture
def generate(monkeypatch):
    spec = importlib.util.spec_from_file_location("attnbench_docs_generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known = registry.load(entry_points=False)
    few = registry.Registry({name: known[name] for name in ("msa", "window")})
    monkeypatch.setattr(module.registry, "load", lambda **_: few)
    return module


@pytest.fixture
def call(generate, tmp_path, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["generate.py", *words])
        return generate.main(tmp_path)

    (tmp_path / "README.md").write_text(BETWEEN)
    return run


def test_what_was_written_is_found_unchanged(call, tmp_path):
    assert call() == 0
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert call("--check") == 0
    assert call() == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == first
    assert {path.name for path in first} == {
        "README.md",
        "msa.md",
        "msa.svg",
        "window.md",
        "window.svg",
        "defaults.json",
    }


def test_the_table_stands_between_the_markers(call, tmp_path):
    call()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- mechanisms:begin -->\n| mechanism |")
    assert text.endswith("|\n<!-- mechanisms:end -->\nafter\n")
    assert "[window](docs/mechanisms/window.md)" in text
    assert "521 M" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "docs/mechanisms/msa.md").write_text("mine"), "msa.md differs"),
        (lambda root: (root / "docs/mechanisms/msa.svg").unlink(), "msa.svg differs"),
        (lambda root: (root / "attnbench/registry/defaults.json").unlink(), "defaults.json differs"),
        (lambda root: (root / "docs/mechanisms/gone.md").write_text("old"), "no registered mechanism"),
        (lambda root: (root / "README.md").write_text(BETWEEN), "README.md differs"),
        (lambda root: (root / "README.md").write_text("no markers"), "lacks the markers"),
    ],
)
def test_check_names_what_differs_and_writes_nothing(call, tmp_path, capsys, change, message):
    call()
    change(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert call("--check") == 1
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_the_diagram_shows_the_window(generate):
    svg, grid, place, seen = generate.diagram(generate.registry.load(), "window")
    assert (grid, place, seen) == ((14, 14), (4, 9), 49)
    assert svg.count("h111v15") == 7


def test_sections_are_read_by_their_headings(generate):
    found = generate.sections("Idea: words.\n\nPaper   a\n        b\nCost    N C^2\n         deeper")
    assert found == {"": "Idea: words.", "Paper": "a\nb", "Cost": "N C^2\n deeper"}
