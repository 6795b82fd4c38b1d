"""The committed tables are what the committed runs give, to the byte, and no byte depends on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from driven import is_on_screen, log, text, view, visit

REPORTS = Path(__file__).parents[2] / "reports"
RUNS = sorted(path.parent for path in (REPORTS / "runs").glob("*/run.json"))


def old_cpu() -> dict[str, str]:
    """Variables with which the libraries of a process compute as they would on the oldest CPU that they serve."""
    extensions = np.show_config("dicts")["SIMD Extensions"].get("found", [])
    return {
        "OPENBLAS_CORETYPE": "Prescott",
        "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": " ".join(extensions),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two folders that `attnbench report` wrote at the same time: as on this CPU, and as on an old one."""
    assert RUNS, "the repository holds reference runs"
    folders = [tmp_path_factory.mktemp(name) for name in ("this", "old")]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "attnbench", "report", *map(str, RUNS), "--out", str(folder)],
            env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for folder, variables in zip(folders, ({}, old_cpu()), strict=True)
    ]  # fmt: skip
    said = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    return folders


def different(one: Path, other: Path, *names: str) -> list[str]:
    """The files under folders of these names that are not in both with the same bytes."""
    found = [
        {str(p.relative_to(root)): p.read_bytes() for name in names for p in (root / name).iterdir()}
        for root in (one, other)
    ]
    return sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))


def test_the_committed_tables_are_what_the_records_give(made):
    assert different(REPORTS, made[0], "tables") == [], "run `make report` and commit what it changes"


def test_tables_and_figures_have_the_same_bytes_on_an_old_cpu(made):
    assert different(*made, "tables", "figures") == []
    assert (made[0] / "index.html").read_bytes() == (made[1] / "index.html").read_bytes()


def test_the_page_of_the_committed_runs_is_small_and_answers_on_its_first_screen(made, browser):
    page = made[0] / "index.html"
    assert page.stat().st_size <= 3_000_000
    view(browser, 1280, 800)
    machine = urllib.parse.quote("Intel(R) Xeon(R) Processor (2 cores) (intel6m167-2c-c09f)")
    visit(browser, page, f"#machine={machine}&res=512x512&batch=1")
    assert browser.execute_script("return document.documentElement.scrollHeight") <= 6000
    answer = text(browser, "answer")
    assert "512×512, batch 1" in answer
    assert "attention only" in answer
    assert [name for name in ("poolformer", "gfnet", "lightvit_biattn") if name in answer] == []
    assert answer.count(" ×") == 3
    for selector in ("#chooser", "#answer", "#ranked-chart", "#front-chart"):
        assert is_on_screen(browser, selector), selector
    assert log(browser) == []


def test_every_figure_is_committed_in_its_three_forms(made):
    wanted = {p.name for p in (made[0] / "figures").iterdir()}
    assert {p.name for p in (REPORTS / "figures").iterdir()} == wanted


def test_the_captions_of_the_committed_figures_are_what_the_records_give(made):
    assert (REPORTS / "figures" / "README.md").read_text() == (made[0] / "figures" / "README.md").read_text()
