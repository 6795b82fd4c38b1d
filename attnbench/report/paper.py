"""Run folders -> the chosen figures and tables for a paper or a talk, and nothing else.

Each figure is a PDF and an SVG at the stated width, its text at the size of its look, and a text file with its caption.
Each comparison is a LaTeX table (`paper_table`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnbench import inert, inputs
from attnbench.errors import AttnbenchError
from attnbench.report import (
    bars,
    figures,
    kernels,
    paper_table,
    papers_figures,
    roofline,
    scaling,
    spectrum_figure,
    tradeoff,
)
from attnbench.report.chart import Chart
from attnbench.report.evidence import Evidence, Point, gather
from attnbench.report.grouping import SPEED, comparable, size
from attnbench.report.style import LOOKS, charts

FIGURES: Mapping[str, Callable[[Evidence], Sequence[Chart]]] = {
    "front": tradeoff.pareto_charts,
    "resolution": figures.over_resolution,
    "bars": bars.charts,
    "flops": tradeoff.flops_charts,
    "scaling": scaling.scaling_charts,
    "kernels": lambda evidence: kernels.kernels(evidence, evidence)[1],
    "roofline": roofline.charts,
    "fig2": lambda evidence: [papers_figures.complexity(evidence)],
    "fig3": figures.over_resolution,
    "fig4": lambda evidence: [papers_figures.alpha(evidence)],
    "fig5": spectrum_figure.charts,
    "fig6": papers_figures.bars,
}
OVER_SIZES = ("resolution", "fig3", "scaling")  # they show every size that was measured, whatever was chosen
AS_PUBLISHED = ("fig2", "fig4", "fig5", "fig6")  # they show what the paper shows


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is wanted of the evidence.

    Attributes:
        only: mechanisms (with every setting) or variants; empty: all.
        res: (height, width) in pixels; empty: all.
        figures: names of `FIGURES`.
        style: a name of `LOOKS`; `width`: inches of a figure, 0: the look's own.
    """

    only: tuple[str, ...] = ()
    res: tuple[tuple[int, int], ...] = ()
    figures: tuple[str, ...] = ("front", "resolution", "bars")
    style: str = "paper"
    width: float = 0.0


def write(folders: Sequence[Path], out: Path, choice: Choice) -> list[Path]:
    """Draw the chosen figures and write the tables under `out`; returns what was written.

    Args:
        folders: run folders.
        out: where the files go; made when it is not there.
        choice: of variants, resolutions, figures and their look.

    Raises:
        AttnbenchError: a folder that is no run, nothing that was measured fits the choice, or `out` cannot be written.
    """
    evidence = gather(folders)
    chosen = select(evidence, choice.only, choice.res)
    everywhere = select(evidence, choice.only, ())
    look = LOOKS[choice.style]
    try:
        out.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        with charts(look):
            for name in dict.fromkeys(choice.figures):
                shown = evidence if name in AS_PUBLISHED else everywhere if name in OVER_SIZES else chosen
                for chart in FIGURES[name](shown):
                    chart.reflow(choice.width or look.width)
                    written += [*chart.save(out, ("pdf", "svg")), _caption(chart, out)]
        for points in comparable(chosen, SPEED):
            p = points[0]
            path = _free(out / f"{p.cell.scope}-{size(p)}-batch{p.cell.batch}.tex", written)
            path.write_text(paper_table.latex(points), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; make room or choose another --out"
        ) from error
    return written


def select(evidence: Evidence, only: Sequence[str], res: Sequence[tuple[int, int]]) -> Evidence:
    """The evidence of some variants and resolutions alone.

    Raises:
        AttnbenchError: a name that no cell has, or a resolution at which nothing was planned.
    """
    known = {name for p in evidence.points for name in (p.cell.mechanism, p.cell.variant)}
    for name in only:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name[: inputs.LONGEST_NAME], known, n=3)) or "none"
            raise AttnbenchError(
                f"--only must name mechanisms or variants of these runs; got {inputs.brief(name)}; nearest: {near}"
            )
    sizes = sorted({(p.cell.res_h, p.cell.res_w) for p in evidence.points})
    for wanted in res:
        if wanted not in sizes:
            there = ", ".join(f"{h}x{w}" for h, w in sizes) or "none"
            raise AttnbenchError(
                f"--res must be a resolution of these runs; got {wanted[0]}x{wanted[1]}; they hold {there}"
            )
    return replace(evidence, points=tuple(p for p in evidence.points if _fits(p, only, res)))


def _fits(p: Point, only: Sequence[str], res: Sequence[tuple[int, int]]) -> bool:
    named = not only or p.cell.mechanism in only or p.cell.variant in only
    return named and (not res or (p.cell.res_h, p.cell.res_w) in res)


def _caption(chart: Chart, out: Path) -> Path:
    path = out / f"{chart.name}.txt"
    path.write_text(f"{inert.plain(chart.title)}. {inert.plain(chart.caption)}\n", encoding="utf-8")
    return path


def _free(path: Path, taken: Sequence[Path]) -> Path:
    """The path, with a number where another comparison has it."""
    number = 2
    found = path
    while found in taken:
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found
