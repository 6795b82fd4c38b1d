"""Run folders -> a folder of tables, figures and one page. No torch, no clock, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnbench import inert
from attnbench.errors import AttnbenchError
from attnbench.report import (
    claims,
    differences,
    errata,
    figures,
    kernels,
    measured,
    page,
    papers_figures,
    roofline,
    scaling,
    spectrum_figure,
    tradeoff,
)
from attnbench.report import published as papers
from attnbench.report.chart import Chart
from attnbench.report.evidence import Evidence, gather
from attnbench.report.style import charts as chart_settings
from attnbench.report.style import look
from attnbench.report.tables import Table, cell_text, comma_separated, latex, markdown, number
from attnbench.results.lines import encode
from attnbench.results.store import Run

Section = tuple[str, str, list[Table], list[Chart]]


def write(folders: Sequence[Path], out: Path) -> list[Path]:
    """Make every table, figure and the page `index.html` under `out`; returns what was written.

    Args:
        folders: run folders.
        out: where the report goes; made when it is not there.

    Raises:
        AttnbenchError: no folder, a folder that is no run or is damaged, or `out` cannot be written.
    """
    if not folders:
        raise AttnbenchError("a report needs at least one run folder; got none; `attnbench run` makes one")
    evidence = gather(folders)
    try:
        for name in ("tables", "figures"):
            (out / name).mkdir(parents=True, exist_ok=True)
        with chart_settings():
            return _write(evidence, out)
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; make room or choose another --out"
        ) from error


def _write(evidence: Evidence, out: Path) -> list[Path]:
    judged = claims.judge(evidence)
    sections = list(_sections(evidence, judged))
    written: list[Path] = []
    for _, _, tables, drawn in sections:
        for table in tables:
            written += _save_table(table, out / "tables")
        for chart in drawn:
            written += chart.save(out / "figures")
    written.append(_gallery([c for _, _, _, drawn in sections for c in drawn], out / "figures" / "README.md"))
    written += _save_table(papers.long_table(evidence), out / "tables", ("csv",))
    names = sorted({p.cell.mechanism for p in evidence.points})
    text = page.render(
        summary=list(_summary(evidence, judged)),
        problems=evidence.problems,
        sections=sections,
        runs=[{"folder": r.folder.name, "id": r.id, "facts": list(facts(r))} for r in evidence.runs],
        mechanisms=[(name, page.theme_color(look(name).color)) for name in names],
    )
    index = out / "index.html"
    index.write_text(text, encoding="utf-8")
    return [index, *written]


def _sections(evidence: Evidence, judged: Sequence[claims.Judgement]) -> Iterator[Section]:
    scopes = list(dict.fromkeys(p.cell.scope for p in evidence.points))
    kernel_table, kernel_charts = kernels.kernels(evidence)
    resolved = measured.resolutions(evidence)
    tables = [measured.table(evidence, s, resolved) for s in scopes]
    yield "measured", "What was measured", [*tables, measured.outcomes(evidence)], []
    yield (
        "resolution",
        "Over resolution",
        [scaling.scaling_table(evidence)],
        [*figures.over_resolution(evidence), *scaling.scaling_charts(evidence)],
    )
    yield "flops", "FLOPs against speed", [tradeoff.flops_table(evidence)], tradeoff.flops_charts(evidence)
    yield "pareto", "Speed and memory", [tradeoff.pareto_table(evidence)], tradeoff.pareto_charts(evidence)
    under_the_roof = roofline.charts(evidence)
    if under_the_roof:  # few runs measure the intensity
        yield "roofline", "The roofline", [roofline.table(evidence)], under_the_roof
    yield "kernels", "Kernels and precisions", [kernel_table], kernel_charts
    drawn = [
        papers_figures.complexity(evidence),
        papers_figures.alpha(evidence),
        *spectrum_figure.charts(evidence),
        *papers_figures.bars(evidence),
    ]
    yield "papers", "The papers' tables and figures beside these runs", papers.tables(evidence), drawn
    yield "claims", "What the papers claim", [claims.table(judged)], []
    yield "differences", "Published counts and ours", differences.tables(evidence), []
    yield "errata", "Errata of the papers", [errata.table()], []


def _gallery(drawn: Sequence[Chart], path: Path) -> Path:
    """Every figure with its caption on one page of Markdown."""
    lines = ["# Figures", "", "Made by `attnbench report` from stored runs. Each is there as PDF, SVG and PNG.", ""]
    for chart in drawn:
        formats = ", ".join(f"[{kind}]({chart.name}.{kind})" for kind in ("pdf", "svg", "png"))
        lines += [
            f"## {inert.markdown(chart.title)}",
            "",
            f"![{inert.markdown(chart.title)}]({chart.name}.png)",
            "",
            f"{inert.markdown(chart.caption, block=True)} ({formats})",
            "",
        ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def text_of(table: Table, form: str) -> str:
    """A table as `md`, `csv`, `tex` or `json` (a list of objects, every value as text)."""
    if form == "json":
        rows = [{c.key: cell_text(v, c) for c, v in zip(table.columns, row, strict=True)} for row in table.rows]
        return json.dumps(rows, indent=1) + "\n"
    return {"md": markdown, "csv": comma_separated, "tex": latex}[form](table)


def _save_table(table: Table, folder: Path, forms: Sequence[str] = ("md", "csv", "tex")) -> list[Path]:
    paths = []
    for form in forms:
        path = folder / f"{table.name}.{form}"
        path.write_text(text_of(table, form), encoding="utf-8")
        paths.append(path)
    return paths


def _summary(evidence: Evidence, judged: Sequence[claims.Judgement]) -> Iterator[str]:
    yield from _leaders(evidence)
    cells, ok = len(evidence.points), len(evidence.ok)
    if not cells:
        yield "These runs hold no cell: there is nothing to report but what the papers say."
    else:
        yield f"{ok} of {cells} planned cells were measured on {' and '.join(evidence.machines)}."
    if len(evidence.machines) > 1:
        yield "Several machines: every table of absolute numbers has a column that names the machine."
    yield claims.tally(judged)
    agreed = papers.agreement(evidence)
    if agreed:
        yield agreed


def _leaders(evidence: Evidence) -> Iterator[str]:
    """Per machine, who is fastest at the papers' size, and whether FLOPs would have predicted it."""
    for machine in evidence.machines:
        points = tradeoff.at_the_papers_size(evidence, machine)
        if len(points) < 2:
            continue
        first, second = sorted(points, key=lambda p: -tradeoff.speed(p))[:2]
        fewest = tradeoff.fewest(points)
        rho, _ = tradeoff.rank_correlation(points)
        yield (
            f"On {machine} the fastest of {len(points)} layers at 224x224, batch {first.cell.batch}, is "
            f"{first.cell.variant} "
            f"({number(tradeoff.speed(first))} img/s, {number(tradeoff.speed(first) / tradeoff.speed(second), 3)} "
            f"times {second.cell.variant}); "
            f"{fewest.cell.variant} has the fewest MACs, and the rank correlation of MACs and time is {rho:.2f}."
        )


def facts(run: Run) -> Iterator[tuple[str, str]]:
    """The facts of a run as (name, value), nested names joined by dots; the plan's cells are left to the tables."""
    yield from _flat(encode(replace(run.facts, plan=None)), "")
    yield "plan.hash", run.facts.planned.hash
    for note in run.facts.planned.notes:
        yield "plan.note", note


def _flat(facts: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key in sorted(facts, key=str):
        value = facts[key]
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value not in (None, "", [], ()):
            yield name, value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
