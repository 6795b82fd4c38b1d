"""The committed tables are what the committed runs give, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.report import write

REPORTS = Path(__file__).parents[2] / "reports"
RUNS = sorted(path.parent for path in (REPORTS / "runs").glob("*/run.json"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    assert RUNS, "the repository holds reference runs"
    folder = tmp_path_factory.mktemp("reports")
    write(RUNS, folder)
    return folder


def test_the_committed_tables_are_what_the_records_give(made):
    ours = {p.name: p.read_bytes() for p in (REPORTS / "tables").iterdir()}
    fresh = {p.name: p.read_bytes() for p in (made / "tables").iterdir()}
    differ = sorted(name for name in ours.keys() | fresh.keys() if ours.get(name) != fresh.get(name))
    assert differ == [], "run `make report` and commit what it changes"


def test_every_figure_is_committed_in_its_three_forms(made):
    wanted = {p.name for p in (made / "figures").iterdir()}
    assert {p.name for p in (REPORTS / "figures").iterdir()} == wanted


def test_the_captions_of_the_committed_figures_are_what_the_records_give(made):
    assert (REPORTS / "figures" / "README.md").read_text() == (made / "figures" / "README.md").read_text()
