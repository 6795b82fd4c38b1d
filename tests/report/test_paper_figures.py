"""Figures and tables for a paper: their size, their text, their names, and that LaTeX takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import synthetic as made
from latex_compiler import assert_compiles
from pdf_text import flat, texts
from pypdf import PdfReader

from attnbench.analysis.survival import PAPER, Axes, Condition
from attnbench.commands.report import FIGURES as OFFERED
from attnbench.errors import AttnbenchError
from attnbench.report import paper
from attnbench.report.chart import MOST_NAMES
from attnbench.report.names import display
from attnbench.report.style import charts
from attnbench.report.survival_figure import bump_chart

THREE = ("hilo", "msa", "window")
LARGEST_PT, SMALLEST_PT = 9.0, 6.5


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


def test_figures_4_and_5_are_legible_in_a_column_and_name_what_they_show(tmp_path: Path) -> None:
    models = [made.measured(made.model(f"litv2_s[alpha={a}]")) for a in (0.0, 0.5, 0.9)]
    folder = made.run(tmp_path / "run", models)
    (folder / "spectrum.json").write_text(json.dumps(made.SPECTRUM))
    paper.write([folder], tmp_path / "out", paper.Choice(figures=("fig4", "fig5"), width=3.3))
    for name, words in (
        ("fig4-alpha", ("MACs (G)", "top-1 as published (%)", "throughput (img/s)", "alpha")),
        ("fig5-spectrum", ("Hi-Fi", "Lo-Fi", "frequency (cycles per token)", "log amplitude")),
    ):
        pdf = tmp_path / "out" / f"{name}.pdf"
        (page,) = PdfReader(pdf).pages
        assert float(page.mediabox.width) == pytest.approx(3.3 * 72, abs=0.5)
        sizes = {size for _, size in texts(pdf)}
        assert SMALLEST_PT <= min(sizes) <= max(sizes) <= LARGEST_PT, name
        held = flat("".join(text for text, _ in texts(pdf)))
        assert [word for word in words if flat(word) not in held] == [], name


def test_the_survival_figure_of_few_has_whole_ranks_the_best_on_top_and_every_name(tmp_path: Path) -> None:
    speeds = ({"msa": 0.0, "hilo": 2.0, "window": 1.0}, {"msa": 2.0, "hilo": 0.0, "window": 1.0})
    conditions = [
        Condition(scope="layer", source=PAPER, origin=name, axes=Axes(device=name), speeds=given)
        for name, given in zip(("one", "other"), speeds, strict=True)
    ]
    with charts():
        chart = bump_chart(conditions, THREE, ("one", "other"), conditions)
        chart.save(tmp_path, ("pdf",))
    (axes,) = chart.axes
    assert axes.get_yticks().tolist() == [1, 2, 3]
    assert axes.yaxis.get_inverted()
    found = texts(tmp_path / "survival.pdf")
    assert min(size for _, size in found) >= SMALLEST_PT
    held = flat("".join(text for text, _ in found))
    assert [n for n in map(display, THREE) if flat(n) not in held] == []


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
    assert_compiles(table, tmp_path)


def test_a_name_or_a_size_that_the_runs_lack_is_refused_with_what_they_hold(run: Path, tmp_path: Path) -> None:
    with pytest.raises(AttnbenchError, match=r"--only must name mechanisms or variants .*; got 'hila'; .*hilo"):
        paper.write([run], tmp_path, paper.Choice(only=("hila",)))
    with pytest.raises(AttnbenchError, match="got 448x448; they hold 224x224, 512x512"):
        paper.write([run], tmp_path, paper.Choice(res=((448, 448),)))


def test_the_command_offers_every_figure() -> None:
    assert set(OFFERED) == set(paper.FIGURES)
