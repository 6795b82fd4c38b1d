"""What prose names exists: paths, links, modules, commands, their options, and targets of make."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from attnbench.cli import COMMANDS, group
from attnbench.results.flags import FLAGS
from attnbench.results.record import COLUMN_MEANINGS, COLUMNS, MORE_COLUMNS, OUTCOMES, QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
SKIP = {".venv", ".venv-oldest", "__pycache__", "build", "dist", "local"}
MADE_BY_USE = ("reports/local", "reports/index.html", "reports/out")  # not committed
ENTRY_POINTS = "attnbench.mechanisms"  # a group of entry points, not a module
PATH = re.compile(r"(?<![\w./:-])(?:attnbench|mechanisms|docs|tests|benchmarks|reports|\.ci|\.github)/[\w./-]*[\w/]")
ROOT_FILE = re.compile(r"(?<![\w./-])[A-Z]+\.md\b|(?<![\w./-])(?:constraints[\w-]*\.txt|pyproject\.toml|Makefile)\b")
MODULE = re.compile(r"(?<![\w./@-])attnbench(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```[^\n]*\n(.*?)```|^ {4}(\S[^\n]*)$|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def files(*patterns: str) -> list[Path]:
    found = (file for pattern in patterns for file in ROOT.glob(pattern))
    return sorted(file for file in found if not SKIP & set(file.relative_to(ROOT).parts))


MARKDOWN = files("*.md", "docs/**/*.md", "reports/**/*.md", "attnbench/**/*.md")
SOURCES = files("attnbench/**/*.py", "mechanisms/**/*.py", "benchmarks/*.py", "docs/*.py", "tests/**/*.py")


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose_of(source: str, *, strings: bool) -> str:
    """A module's docstrings and comments, and with `strings` its other strings, one after another."""
    tree = ast.parse(source)
    if strings:
        found = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    else:
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        found = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, kinds)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join([*found, *(t.string for t in tokens if t.type == tokenize.COMMENT)])


def codes(text: str) -> Iterator[str]:
    """Each line of code in Markdown: of blocks, indented or fenced, and of spans."""
    for match in CODE.finditer(text):
        yield from next(g for g in match.groups() if g is not None).splitlines()


def missing_paths(text: str) -> list[str]:
    wrong = []
    for name in PATH.findall(text) + ROOT_FILE.findall(text):
        template = "NAME" in name or name.endswith("_")
        if not template and not name.startswith(MADE_BY_USE) and not (ROOT / name).exists():
            wrong.append(f"no such path: {name}")
    return wrong


def missing_modules(text: str) -> list[str]:
    return [f"no such module or attribute: {name}" for name in MODULE.findall(text) if not resolves(name)]


@cache
def resolves(name: str) -> bool:
    if name == ENTRY_POINTS or name.endswith((".toml", ".svg", ".io")):
        return True
    parts = name.split(".")
    module = importlib.import_module("attnbench")
    for place, part in enumerate(parts[1:], 2):
        path = ".".join(parts[:place])
        if hasattr(module, "__path__") and find_spec(path) is not None:
            module = importlib.import_module(path)
        else:
            return hasattr(module, part)
    return True


@cache
def options_of(command: str) -> set[str]:
    found = group.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None
    return {"--help", *(word for parameter in found.params for word in parameter.opts + parameter.secondary_opts)}


@cache
def script_options() -> set[str]:
    return {
        word
        for file in files("benchmarks/*.py", "docs/*.py")
        for word in re.findall(r'"(--[a-z-]+)"', file.read_text())
    }


def missing_commands(text: str) -> list[str]:
    wrong = []
    for line in codes(text):
        code = line.split(" #")[0].strip()
        if found := re.match(r"attnbench ([a-z]+)\b(.*)", code):
            command, rest = found.groups()
            if command not in COMMANDS:
                wrong.append(f"no such command: attnbench {command}")
            else:
                wrong += [
                    f"no such option: attnbench {command} {o}"
                    for o in OPTION.findall(rest)
                    if o not in options_of(command)
                ]
        elif code.startswith("--"):
            every = {"--version", *script_options(), *(o for command in COMMANDS for o in options_of(command))}
            wrong += [f"no such option: {o}" for o in OPTION.findall(code) if o not in every]
        elif (found := re.match(r"make ([a-z-]+)", code)) and f"\n{found[1]}:" not in (ROOT / "Makefile").read_text():
            wrong.append(f"no such target: make {found[1]}")
    return wrong


def missing_links(text: str, file: Path) -> list[str]:
    wrong = []
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        if names(target).startswith(MADE_BY_USE):
            continue
        if not target.exists():
            wrong.append(f"a broken link: {link}")
        elif anchor and anchor not in {slug(line) for line in target.read_text().splitlines() if line.startswith("#")}:
            wrong.append(f"no such heading: {link}")
    return wrong


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("file", MARKDOWN, ids=names)
def test_what_a_page_names_exists(file):
    text = file.read_text()
    wrong = missing_paths(LINK.sub("]", text)) if "mechanisms" not in file.parts else []
    assert wrong + missing_links(text, file) + missing_modules(text) + missing_commands(text) == []


@pytest.mark.parametrize("file", SOURCES, ids=names)
def test_what_a_module_names_in_prose_exists(file):
    text = prose_of(file.read_text(), strings="tests" not in file.relative_to(ROOT).parts)
    spans = "\n".join(f"`{span}`" for span in re.findall(r"`([^`\n]+)`", text))
    assert missing_paths(text) + missing_modules(text) + missing_commands(spans) == []


def test_what_make_and_ci_call_exists():
    text = "\n".join((ROOT / name).read_text() for name in ("Makefile", ".ci/run", ".github/workflows/ci.yml"))
    steps = "\n".join(f"`{line.strip()}`" for line in text.splitlines() if line.startswith("make "))
    assert steps
    assert missing_paths(text) + missing_commands(steps) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see attnbench/worker.py", "no such path: attnbench/worker.py"),
        ("`tests/test_statistics.py`", "no such path: tests/test_statistics.py"),
        ("read HISTORY.md", "no such path: HISTORY.md"),
        ("`attnbench.runner.run`", "no such module or attribute: attnbench.runner.run"),
        ("`attnbench.execution.walk`", "no such module or attribute: attnbench.execution.walk"),
        ("`attnbench fly`", "no such command: attnbench fly"),
        ("```sh\nattnbench run --speed 3\n```", "no such option: attnbench run --speed"),
        ("    attnbench export RUN --form csv   # indented", "no such option: attnbench export --form"),
        ("`--speed`", "no such option: --speed"),
        ("`make tea`", "no such target: make tea"),
        ("[gone](gone.md)", "a broken link: gone.md"),
        ("[gone](docs/methods.md#gone)", "no such heading: docs/methods.md#gone"),
    ],
)
def test_a_name_that_is_gone_is_reported(text, problem):
    found = missing_paths(LINK.sub("]", text)) + missing_modules(text) + missing_commands(text)
    assert found + missing_links(text, ROOT / "README.md") == [problem]


def test_the_page_of_records_explains_every_column_outcome_and_flag():
    page = (ROOT / "docs" / "records.md").read_text()
    for name in (*COLUMNS, *MORE_COLUMNS, *OUTCOMES, *FLAGS):
        assert f"\n| `{name}` |" in page


def test_every_column_is_declared_once():
    columns = [*COLUMNS, *MORE_COLUMNS]
    assert sorted(columns) == sorted({*QUANTITIES, *COLUMN_MEANINGS})
    assert not set(QUANTITIES) & set(COLUMN_MEANINGS)
    assert len(columns) == len(set(columns))
