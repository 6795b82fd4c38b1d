"""docs/generate.py writes what the code declares, and notices every difference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from attnbench import registry
from attnbench.conformance import RUNTIMES
from attnbench.conformance.exports import RuntimeResult

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "generate.py"
BETWEEN = "before\n<!-- mechanisms:begin -->\nold\n<!-- mechanisms:end -->\nafter\n"
LAYERS = "before\n<!-- layers:begin -->\nold\n<!-- layers:end -->\nafter\n"


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
def layer_names():
    known = registry.load(entry_points=False)  # without those that other tests have declared
    return [name for name in known.names("layer") if known[name].build.__module__.startswith("mechanisms.")]


@pytest.fixture
def call(generate, tmp_path, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["generate.py", *words])
        return generate.main(tmp_path)

    (tmp_path / "README.md").write_text(BETWEEN)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "architecture.md").write_text(LAYERS)
    return run


def test_what_was_written_is_found_unchanged(call, tmp_path):
    assert call() == 0
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert call("--check") == 0
    assert call() == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == first
    assert {path.name for path in first} == {
        "README.md", "msa.md", "msa.svg", "window.md", "window.svg", "records.md", "architecture.md",
        "constraints-oldest.txt", "defaults.json",
    }  # fmt: skip


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
        (lambda root: (root / "README.md").write_text("no markers"), "README.md lacks the markers"),
        (lambda root: (root / "docs/records.md").write_text("mine"), "records.md differs"),
        (lambda root: (root / "docs/architecture.md").write_text(LAYERS), "architecture.md differs"),
        (lambda root: (root / "docs/architecture.md").write_text("no markers"), "architecture.md lacks the markers"),
        (lambda root: (root / "constraints-oldest.txt").write_text("torch==1.0\n"), "constraints-oldest.txt differs"),
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


def test_the_layers_are_drawn_from_the_top_down_with_what_each_holds(generate, tmp_path):
    for name in ("upper", "left"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""The {name} one."""\n')
    (tmp_path / "right.py").write_text('"""The right one.\n\nMore.\n"""\n')
    drawn = generate.layers('LAYERS = [["left", "right"], ["upper"]]', tmp_path).splitlines()
    assert drawn[:7] == [
        "```text", "+--------------+", "|    upper     |", "+--------------+", "| left   right |", "+--------------+",
        "```",
    ]  # fmt: skip
    assert drawn[-3:] == [
        "| `attnbench/upper` | The upper one. |",
        "| `attnbench/left` | The left one. |",
        "| `attnbench/right.py` | The right one. |",
    ]


def test_the_lowest_versions_are_the_bounds_of_what_the_tests_install(generate):
    extras = {"test": ["two>=2.0"], "models": ["two>=2.0"], "gpu": [], "parquet": ["three>=3"], "dev": ["linter>=9"]}
    text = generate.oldest({"dependencies": ["one>=1.5"], "optional-dependencies": extras})
    assert text.splitlines()[1:] == ["one==1.5", "two==2.0", "three==3"]


@pytest.mark.parametrize("requirement", ["one", "one<2", "one>=1,<2"])
def test_a_requirement_without_a_lowest_version_is_refused(generate, requirement):
    with pytest.raises(ValueError, match=f"lowest that is tested; got {requirement}"):
        generate.oldest({"dependencies": [requirement], "optional-dependencies": {}})


def test_a_column_without_a_meaning_is_an_error(generate, monkeypatch):
    monkeypatch.setattr(generate, "MORE_COLUMNS", ("colour",))
    with pytest.raises(KeyError, match="colour"):
        generate.records_page()


@pytest.mark.parametrize("place", ["docs/records.md", "docs/architecture.md", "constraints-oldest.txt"])
def test_the_committed_page_is_the_one_that_the_code_declares(generate, place):
    files, problems = generate.wanted(generate.registry.Registry({}), ROOT)
    assert problems == []
    assert (ROOT / place).read_text() == files[Path(place)]


def test_every_layer_has_the_answers_of_both_runtimes_and_no_other_has(layer_names, generate):
    stored = generate.exports.read()
    assert list(stored["layers"]) == sorted(layer_names)
    assert set(stored["versions"]) == set(generate.exports.PACKAGES)
    for name, answers in stored["layers"].items():
        assert tuple(answers) == RUNTIMES, name
        for answer in answers.values():
            wanted = ("error_at_most",) if answer["outcome"] == "ok" else ("stage", "reason")
            assert tuple(answer) == ("outcome", *wanted), name


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (RuntimeResult(error=2.9e-7), "exports and runs; error against eager at most 1e-06."),
        (RuntimeResult(error=4e-7), "exports and runs; error against eager at most 1e-05."),
        (RuntimeResult(error=9e-5), "exports and runs; error against eager at most 1e-04."),
        (RuntimeResult(), "exports and runs; its output is random, so it was not compared with eager's."),
        (
            RuntimeResult(outcome="declined", stage="export", reason="aten.x cannot be exported"),
            "declined at export: aten.x cannot be exported.\n  Remedy: compute the same with other operators",
        ),
    ],
)
def test_a_page_says_what_a_runtime_made_of_the_layer_and_the_remedy(generate, found, line):
    stored = {
        "versions": dict.fromkeys(generate.exports.PACKAGES, "1.2"),
        "layers": {"msa": {"openvino": generate.exports.entry(found)}},
    }
    assert f"- OpenVINO 1.2: {line}" in "\n".join(generate.exports.section(stored, "msa"))


def test_a_layer_without_answers_is_a_problem_with_the_command_that_asks(call, generate, monkeypatch, capsys):
    stored = generate.exports.read()
    del stored["layers"]["msa"]
    monkeypatch.setattr(generate.exports, "read", lambda: stored)
    assert call() == 1
    assert "docs/exports.json must have every layer; it lacks msa; run `" in capsys.readouterr().err
