"""Everything -> one HTML file that works offline. Every text is escaped; only our own SVG goes in as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench import inert
from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate
from attnbench.report.style import INK, PALETTE
from attnbench.report.tables import Column, Table, Value, cell_text, data_number, heading_groups


def render(
    *,
    summary: Sequence[str],
    problems: Sequence[str],
    sections: Sequence[tuple[str, str, Sequence[Table], Sequence[Chart]]],
    runs: Sequence[Mapping[str, Any]],
    mechanisms: Sequence[tuple[str, str]],
) -> str:
    """The page.

    Args:
        summary: sentences, the most important first.
        problems: what is wrong with the run folders.
        sections: (id, heading, tables, charts), in the order of the page.
        runs: per run its folder, id and a list of (fact, value).
        mechanisms: (name, colour) for the switches.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attnbench.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else inert.plain(value),
    )
    environment.globals.update(text=cell_text, sort_key=sort_key, heading_groups=heading_groups)
    drawn = [
        (key, heading, tables, [(c, Markup(c.inline())) for c in charts]) for key, heading, tables, charts in sections
    ]
    return environment.get_template("page.html.j2").render(
        summary=summary, problems=problems, sections=drawn, runs=runs, mechanisms=mechanisms
    )


def theme_color(color: str) -> str:
    """The page's own colour for one of the charts', so that both themes can read it."""
    return "var(--ink)" if color == INK else f"var(--c{PALETTE.index(color)})"


def sort_key(value: Value, column: Column) -> str:
    """What the page sorts a cell by: the number as CSV has it, or the text."""
    return data_number(value.value) if isinstance(value, Estimate) else cell_text(value, column)
