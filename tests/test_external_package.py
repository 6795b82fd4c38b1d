"""The package that docs/adding-a-mechanism.md shows: built, installed, listed, checked and measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "adding-a-mechanism.md"


def shown() -> dict[str, str]:
    """The files that the page shows, by name."""
    return dict(re.findall(r"^`([\w.]+)`\n\n```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the package without a network; the folder that holds it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name, text in shown().items():
        (source / name).write_text(text)
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    made = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--target", str(target), str(source)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return target


def attnbench(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where the package is installed."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *words],
        env={**os.environ, "PYTHONPATH": path},
        cwd=PAGE.parent.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_thirty_lines_are_enough():
    lines = [line for line in shown()["attention_by_row.py"].splitlines() if line.strip()]
    assert 0 < len(lines) <= 30


def test_an_installed_package_is_listed_beside_the_built_in_mechanisms(installed):
    listed = attnbench(installed, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    names = [row["name"] for row in json.loads(listed.stdout)]
    assert {"by_row", "hilo"} <= set(names)


def test_an_installed_package_passes_the_check(installed):
    checked = attnbench(installed, "check", "by_row", "--no-compile", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (report,) = json.loads(checked.stdout)["reports"]
    assert report["passed"]


def test_without_the_package_there_is_no_such_mechanism(tmp_path):
    checked = attnbench(tmp_path, "check", "by_row")
    assert checked.returncode == 2
    assert "by_row" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_the_page_ends_with_the_command_that_must_pass():
    assert PAGE.read_text().rstrip().splitlines()[-3:] == [
        "attnbench new my_attention",
        "attnbench check my_attention.py",
        "```",
    ]
