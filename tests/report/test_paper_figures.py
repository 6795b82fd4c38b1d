"""Figures and tables for a paper: their size, their text, their names, and that LaTeX takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import synthetic as made
from pypdf import PdfReader

from attnbench.commands.report import FIGURES as OFFERED
from attnbench.errors import AttnbenchError
from attnbench.report import paper
from attnbench.report.chart import MOST_NAMES
from attnbench.report.names import display

THREE = ("hilo", "msa", "window")
LARGEST_PT, SMALLEST_PT = 9.0, 6.5


def texts(pdf: Path) -> list[tuple[str, float]]:
    """The texts of a figure with their sizes in points."""
    found: list[tuple[str, float]] = []

    def visit(text: str, _matrix: Any, _at: Any, _font: Any, size: float) -> None:
        if text.strip():
            found.append((text.strip(), size))

    (page,) = PdfReader(pdf).pages
    page.extract_text(visitor_text=visit)
    return found


def flat(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.layers(tmp_path_factory.mktemp("paper") / "run", sizes=(224, 512), batch=1)


@pytest.fixture(scope="module")
def three(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("three")
    paper.write([run], out, paper.Choice(only=THREE, res=((512, 512),), width=3.3))
    return out


def test_a_report_of_three_arms_writes_what_was_asked_for_and_no_more(three: Path) -> None:
    figures = {f"{name}.{kind}" for name in ("pareto", "fig3-resolution", "bars") for kind in ("pdf", "svg", "txt")}
    assert {p.name for p in three.iterdir()} == {*figures, "layer-512x512-batch1.tex"}


@pytest.mark.parametrize("name", ["pareto", "fig3-resolution", "bars"])
def test_a_figure_has_its_width_legible_text_and_every_name(three: Path, name: str) -> None:
    (page,) = PdfReader(three / f"{name}.pdf").pages
    assert float(page.mediabox.width) == pytest.approx(3.3 * 72, abs=0.5)
    found = texts(three / f"{name}.pdf")
    assert {size for _, size in found} <= {7.0, 8.0}
    words = flat("".join(text for text, _ in found))
    assert [n for n in map(display, THREE) if flat(n) not in words] == []
    caption = (three / f"{name}.txt").read_text()
    assert "Invented CPU" in caption
    assert "Invented CPU" not in words, "the caption stands beside the figure"


@pytest.mark.parametrize("style", ["paper", "talk"])
def test_every_figure_of_all_mechanisms_is_legible_and_names_all_of_them(run: Path, tmp_path: Path, style: str) -> None:
    names = ("front", "fig2", "fig3", "fig6", "bars")
    paper.write([run], tmp_path, paper.Choice(figures=names, style=style))
    assert len(made.LAYERS) == MOST_NAMES
    for pdf in tmp_path.glob("*.pdf"):
        sizes = {size for _, size in texts(pdf)}
        assert SMALLEST_PT <= min(sizes) <= max(sizes) <= LARGEST_PT, pdf.name
        if pdf.stem in ("bars", "pareto", "fig3-resolution"):
            held = flat("".join(text for text, _ in texts(pdf)) + pdf.with_suffix(".txt").read_text())
            assert [n for n in made.LAYERS if flat(display(n)) not in held] == [], pdf.name


def test_the_table_fits_a_two_column_paper_and_has_the_best_in_bold(three: Path, tmp_path: Path) -> None:
    table = (three / "layer-512x512-batch1.tex").read_text()
    row = next(line for line in table.splitlines() if line.startswith("HiLo"))
    assert row.count(r"\bfseries") == 5
    assert r" \pm " in row
    assert r"\tiny" not in table
    assert not re.search(r"flags|outcome|ties|reason", table)
    siunitx = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True) if shutil.which("kpsewhich") else None
    if not shutil.which("pdflatex") or siunitx is None or siunitx.returncode:
        pytest.skip("pdflatex or siunitx is not installed: the table was not compiled")
    text = rf"\input{{{three / 'layer-512x512-batch1.tex'}}}"
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{siunitx}"
    (tmp_path / "paper.tex").write_text(
        rf"\documentclass[twocolumn]{{article}}{packages}\begin{{document}}{text}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=100)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-1500:]
    assert "Overfull" not in log


def test_a_name_or_a_size_that_the_runs_lack_is_refused_with_what_they_hold(run: Path, tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match=r"--only must name mechanisms or variants .*; got 'hila'; .*hilo"):
        paper.write([run], tmp_path, paper.Choice(only=("hila",)))
    with pytest.raises(AttnbenchError, match="got 448x448; they hold 224x224, 512x512"):
        paper.write([run], tmp_path, paper.Choice(res=((448, 448),)))


def test_the_command_offers_every_figure() -> None:
    assert set(OFFERED) == set(paper.FIGURES)
