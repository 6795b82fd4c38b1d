"""Run folders -> a folder of tables, figures and one page. No torch, no clock, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench import claims
from attnbench.declaration import AttnbenchError
from attnbench.report import beyond, figures, measured, page, papers_figures
from attnbench.report import published as papers
from attnbench.report.chart import Chart
from attnbench.report.evidence import Evidence, gather
from attnbench.report.style import charts as chart_settings
from attnbench.report.style import look
from attnbench.report.tables import Table, comma_separated, latex, markdown
from attnbench.store import Run

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
    sections = list(_sections(evidence))
    written: list[Path] = []
    for _, _, tables, drawn in sections:
        for table in tables:
            written += _save_table(table, out / "tables")
        for chart in drawn:
            written += chart.save(out / "figures")
    names = sorted({p.cell.mechanism for p in evidence.points})
    text = page.render(
        summary=list(_summary(evidence)),
        problems=evidence.problems,
        sections=sections,
        runs=[{"folder": r.folder.name, "id": r.id, "facts": list(facts(r))} for r in evidence.runs],
        mechanisms=[(name, look(name).color) for name in names],
    )
    index = out / "index.html"
    index.write_text(text, encoding="utf-8")
    return [index, *written]


def _sections(evidence: Evidence) -> Iterator[Section]:
    scopes = list(dict.fromkeys(p.cell.scope for p in evidence.points))
    kernel_table, kernel_charts = beyond.kernels(evidence)
    judged = claims.judge(evidence)
    tables = [measured.table(evidence, s) for s in scopes]
    yield "measured", "What was measured", [*tables, measured.outcomes(evidence)], []
    yield "resolution", "Over resolution", [beyond.scaling_table(evidence)], [*figures.over_resolution(evidence), *beyond.scaling_charts(evidence)]
    yield "flops", "FLOPs against speed", [beyond.flops_table(evidence)], beyond.flops_charts(evidence)
    yield "pareto", "Speed and memory", [beyond.pareto_table(evidence)], beyond.pareto_charts(evidence)
    yield "kernels", "Kernels and precisions", [kernel_table], kernel_charts
    drawn = [papers_figures.complexity(evidence), papers_figures.alpha(evidence), *papers_figures.bars(evidence)]
    yield "papers", "The papers' tables and figures beside these runs", papers.tables(evidence), drawn
    yield "claims", "What the papers claim", [claims.table(judged)], []


def _save_table(table: Table, folder: Path) -> list[Path]:
    paths = []
    for ending, text in (("md", markdown(table)), ("csv", comma_separated(table)), ("tex", latex(table))):
        path = folder / f"{table.name}.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _summary(evidence: Evidence) -> Iterator[str]:
    cells, ok = len(evidence.points), len(evidence.ok)
    yield f"{ok} of {cells} planned cells were measured on {', '.join(evidence.machines) or 'no machine'}."


def facts(run: Run) -> Iterator[tuple[str, str]]:
    """The facts of a run as (name, value), nested names joined by dots; the plan's cells are left to the tables."""
    yield from _flat({k: v for k, v in run.facts.items() if k != "plan"}, "")
    plan = run.facts["plan"]
    yield "plan.hash", str(plan["hash"])
    for note in plan.get("notes", ()):
        yield "plan.note", str(note)


def _flat(facts: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key in sorted(facts, key=str):
        value = facts[key]
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value not in (None, "", [], ()):
            yield name, value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
