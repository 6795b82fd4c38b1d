"""Run folders -> a folder of tables, figures and one page. No torch, no clock, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from attnbench import inert
from attnbench.errors import AttnbenchError
from attnbench.report import (
    chooser,
    claims,
    differences,
    errata,
    figures,
    kernels,
    latex_table,
    leftovers,
    measured,
    models,
    page,
    papers_figures,
    roofline,
    scaling,
    spectrum_figure,
    survival,
    tradeoff,
)
from attnbench.report import published as papers
from attnbench.report.aside import Later, begin
from attnbench.report.chart import Chart
from attnbench.report.chooser import Chooser
from attnbench.report.drawing import Drawing
from attnbench.report.evidence import Evidence, gather, groups
from attnbench.report.grouping import GROUP, busiest, drawn
from attnbench.report.numbers import number
from attnbench.report.page import Tab
from attnbench.report.style import charts as chart_settings
from attnbench.report.tables import Table, cell_text, comma_separated, markdown
from attnbench.results.garbage import search_put_off
from attnbench.results.lines import encode
from attnbench.results.store import Run

MANY = 2000  # rows: a longer table is saved as csv alone, and not put into the page, which names its file


@dataclass(frozen=True)
class Report:
    """Every table and figure, which are saved, and the tabs of the page, which show some of them.

    A table without rows, and a published table or figure without a partner in these runs, are not among them.
    `has_partner`: whether any published table has one.
    """

    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    tabs: tuple[Tab, ...]
    chooser: Chooser
    has_partner: bool


EVERY_FORM = ("md", "csv", "tex")


def write(folders: Sequence[Path], out: Path, *, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Make every table, figure and the page `index.html` under `out`; returns what was written.

    Args:
        folders: run folders.
        out: where the report goes; made when it is not there. What only an earlier report wrote there is removed.
        say: receives, in words, what was removed and what is not of this report.

    Raises:
        AttnbenchError: no folder, a folder that is no run or is damaged, or `out` cannot be written.
    """
    if not folders:
        raise AttnbenchError("a report needs at least one run folder; got none; `attnbench run` makes one")
    evidence = gather(folders)
    earlier = leftovers.read_list(out)
    try:
        for name in leftovers.FOLDERS:
            (out / name).mkdir(parents=True, exist_ok=True)
        with chart_settings():
            written = _write(evidence, out)
        for line in leftovers.clear(out, written, earlier):
            say(line)
        return written
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; make room or choose another --out"
        ) from error


def _write(evidence: Evidence, out: Path) -> list[Path]:
    resampled = begin(partial(models.probabilities, evidence), "resamples rounds")
    with resampled as chances, Drawing(out / "figures") as drawing:
        report = _report(evidence, drawing, chances)
        with begin(partial(_save_tables, report.tables, out / "tables"), "writes tables") as saved:
            more = [_gallery(report.charts, out / "figures" / "README.md")]
            if report.has_partner:
                more += _save_table(papers.long_table(evidence), out / "tables", ("csv",))
            index = out / "index.html"
            drawn_files = drawing.finish()  # which reads the charts back for the page
            index.write_text(_page(evidence, report), encoding="utf-8")
            return [index, *saved.result(), *drawn_files, *more]


def _save_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    return [
        path
        for table in tables
        for path in _save_table(table, folder, EVERY_FORM if len(table.rows) <= MANY else ("csv",))
    ]


def _page(evidence: Evidence, report: Report) -> str:
    return page.render(
        chooser=report.chooser,
        tabs=report.tabs,
        problems=evidence.problems,
        runs=[{"folder": r.folder.name, "id": r.id, "facts": list(facts(r))} for r in evidence.runs],
    )


@search_put_off()
def _report(evidence: Evidence, drawing: Drawing, chances: Later[list[models.Chances]]) -> Report:
    """Everything that is made of the evidence. A new tab of the page is one more `_tab` in `tabs`.

    A chart is added to `drawing` as soon as it is made, and drawn while the tables are made.
    """
    drawn_from = busiest(evidence)
    roofs = roofline.charts(drawn_from)  # few runs measure the intensity
    measured_charts = drawing.add([*_measured_charts(drawn_from), *roofs])
    kernel_table, kernel_charts = kernels.kernels(evidence, drawn_from)
    survives = survival.of_runs(evidence)
    paper_charts = [c for c in _published_charts(evidence) if c.has_data]
    drawing.add([*kernel_charts, *survives.charts, *paper_charts])
    judged = claims.judge(evidence)
    scopes = list(dict.fromkeys(p.cell.scope for p in evidence.points))
    resolved = measured.resolutions(evidence)
    cells = [measured.table(evidence, scope, resolved) for scope in scopes]
    outcomes, growth, flops = (
        measured.outcomes(evidence),
        scaling.scaling_table(evidence),
        tradeoff.flops_table(evidence),
    )
    speeds = [kernel_table, *([roofline.table(evidence)] if roofs else [])]
    printed = papers.partnered(evidence)
    verdicts, differ, wrong = claims.table(judged), differences.tables(evidence), errata.table()
    beside = [flops, *(t for table in printed if (t := papers.with_partner(table)).rows)]
    accurate = models.fronts(evidence, chances.result())
    accuracy_table, accuracy_charts = models.table(accurate), drawing.add(models.charts(accurate))
    tabs = (
        _tab("resolution", "Over resolution", [growth]),
        _tab("kernels", "Kernels and runtimes", speeds, roofs),
        *_survival_tab(survives),
        *([_tab("accuracy", "Accuracy beside latency", [accuracy_table], accuracy_charts)] if accurate else []),
        _tab("papers", "The papers", beside, paper_charts, (papers.agreement(evidence),)),
        _tab("claims", "Claims", [verdicts], words=(claims.tally(judged),)),
        _tab("differences", "Differences and errata", [*differ, wrong]),
        _tab("cells", "Every cell"),
        _tab("machines", "Machines", [outcomes], words=tuple(_summary(evidence))),
        _tab("reading", "How to read this"),
    )
    about_papers = [verdicts, *differ, wrong] if printed else [verdicts]
    tables = (
        *cells,
        outcomes,
        growth,
        flops,
        tradeoff.pareto_table(evidence),
        *([accuracy_table] if accurate else []),
        *speeds,
        *(survival.tables(survives) if survives.agreements else ()),
        *printed,
        *about_papers,
    )
    return Report(
        tables=tuple(table for table in tables if table.rows),
        charts=(*measured_charts, *kernel_charts, *survives.charts, *accuracy_charts, *paper_charts),
        tabs=tabs,
        chooser=chooser.chooser(evidence, resolved),
        has_partner=bool(printed),
    )


def _survival_tab(found: survival.Survival) -> list[Tab]:
    """The tab of the rankings; none where no two conditions can be compared."""
    if not found.agreements:
        return []
    return [_tab("survival", "Which rankings survive", survival.tables(found), found.charts, survival.words(found))]


def write_survival(found: survival.Survival, out: Path) -> list[Path]:
    """Write the tables and figures of `attnbench survive` into one folder; returns what was written.

    Raises:
        AttnbenchError: `out` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with chart_settings():
            written = [path for table in survival.tables(found) for path in _save_table(table, out, EVERY_FORM)]
            return written + [path for chart in found.charts for path in chart.save(out)]
    except OSError as error:
        raise AttnbenchError(
            f"{out} cannot be written: {error.strerror or error}; make room or choose another --out"
        ) from error


def _tab(
    key: str, heading: str, tables: Sequence[Table] = (), charts: Sequence[Chart] = (), words: Sequence[str] = ()
) -> Tab:
    """A tab without the tables that are too long for the page, and a sentence that says where they are."""
    short = [t for t in tables if len(t.rows) <= MANY]
    files = [f"{t.title}: {len(t.rows)} rows, in tables/{t.name}.csv." for t in tables if len(t.rows) > MANY]
    return Tab(key, heading, short, charts, (*(w for w in words if w), *files))


def _measured_charts(evidence: Evidence) -> list[Chart]:
    """Speed over sizes, and what it costs in MACs and memory."""
    return [
        *figures.over_resolution(evidence),
        *scaling.scaling_charts(evidence),
        *tradeoff.flops_charts(evidence),
        *tradeoff.pareto_charts(evidence),
    ]


def _published_charts(evidence: Evidence) -> list[Chart]:
    """The papers' figures, beside these runs where they hold a partner."""
    return [
        papers_figures.complexity(evidence),
        papers_figures.alpha(evidence),
        *spectrum_figure.charts(evidence),
        *papers_figures.bars(evidence),
    ]


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
    return {"md": markdown, "csv": comma_separated, "tex": latex_table.latex}[form](table)


def _save_table(table: Table, folder: Path, forms: Sequence[str]) -> list[Path]:
    paths = []
    for form in forms:
        path = folder / f"{table.name}.{form}"
        path.write_text(text_of(table, form), encoding="utf-8")
        paths.append(path)
    return paths


def _summary(evidence: Evidence) -> Iterator[str]:
    yield from _leaders(evidence)
    cells, ok = len(evidence.points), len(evidence.ok)
    if not cells:
        yield "These runs hold no cell: there is nothing to report but what the papers say."
    else:
        yield f"{ok} of {cells} planned cells were measured on {' and '.join(evidence.machines)}."
    if len(evidence.machines) > 1:
        yield "Several machines: every table of absolute numbers has a column that names the machine."
    yield from _bounds(evidence)


def _bounds(evidence: Evidence) -> Iterator[str]:
    """What a report of very many cells leaves out."""
    conditions = len(groups(evidence.points, *GROUP))
    if (most := drawn(conditions)) < conditions:
        yield (
            f"Figures are drawn for {most} of {conditions} conditions, those with most timed cells; tables hold all."
        )
    if measured.too_many(evidence):
        yield (
            f"These runs have more than {measured.TESTED} comparison groups: ties are intervals that overlap, "
            "which finds fewer differences than a test of each pair on its rounds; report fewer runs to have that."
        )


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
