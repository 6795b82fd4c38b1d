"""Everything -> one HTML file that works offline. Every text is escaped; only our own style and scripts go in as is.

The chooser's data, the tables and the figures are JSON in inert script elements: the browser keeps them as text until
the page's script asks for one of them. `assets/` holds the template, the style, the scripts, and the charts that
`tools/charts.py` compiled.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from attnbench import inert
from attnbench.report.chart import Chart
from attnbench.report.chooser import Chooser
from attnbench.report.evidence import Estimate
from attnbench.report.tables import DATA_DIGITS, Column, Table, Value, cell_text

SCRIPTS = ("cells.js", "state.js", "charts.js", "tables.js", "export.js", "main.js")

# The controls in their order: axis -> its title.
CONTROLS: Mapping[str, str] = {
    "scope": "Scope", "machine": "Machine and device", "device": "Device", "runtime": "Runtime", "kernel": "Kernel",
    "res": "Resolution", "batch": "Batch", "precision": "Precision", "pass": "Pass", "dim": "Channels",
    "heads": "Heads", "stride": "Stride", "threads": "Threads", "allocator": "Allocator", "run": "Run",
    "kind": "Kind", "reach": "Reach", "find": "Find", "memory": "MiB at most",
}  # fmt: skip


@dataclass(frozen=True)
class Tab:
    """A tab below the chooser, which prints as a section.

    Attributes:
        key: names it in the address and in the template.
        heading: of the tab and the section.
        tables: shown in order; built by the page when the tab is first opened.
        charts: figures that were saved, shown as images above the tables.
        words: sentences at the top.
    """

    key: str
    heading: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    words: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The tables' names."""
        return [t.name for t in self.tables]

    @property
    def images(self) -> list[tuple[str, str, str]]:
        """The figures' names, titles and captions."""
        return [(c.name, c.title, c.caption) for c in self.charts]


def render(*, chooser: Chooser, tabs: Sequence[Tab], problems: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        chooser: the cells.
        tabs: what stands below the chooser, in order.
        problems: what is wrong with the run folders.
        runs: per run its folder, id and a list of (fact, value).
    """
    import jinja2
    from markupsafe import Markup, escape

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attnbench.report", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else inert.plain(value),
    )
    blocks = [(number, Markup(script_json(block))) for number, block in enumerate(chooser.blocks)]
    blocks.sort(key=lambda b: b[0] != chooser.first)  # what the page opens with stands before the script
    late = [(f"table-{t.name}", script_json(table_data(t))) for tab in tabs for t in tab.tables]
    late += [(f"figure-{c.name}", script_json({"source": image(c)})) for tab in tabs for c in tab.charts]
    return environment.get_template("page.html.j2").render(
        style=Markup(asset("page.css")),
        vega=Markup(asset("vega.js")),
        script=Markup("".join(asset(name) for name in SCRIPTS)),
        licences=escape(asset("LICENSES.txt")),
        charts=Markup(script_json(json.loads(asset("charts.json")))),
        index=Markup(script_json(chooser.index)),
        first=chooser.first,
        blocks=blocks,
        late=[(id_, Markup(data)) for id_, data in late],
        axes=list(CONTROLS.items()),
        tabs=tabs,
        problems=problems,
        runs=runs,
    )


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return (files("attnbench.report") / "assets" / name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or begin a comment.

    What is not printable becomes a visible escape, whose backslash JSON writes twice.
    """
    text = inert.plain(json.dumps(value, ensure_ascii=False, separators=(",", ":")), backslash="\\\\")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def table_data(table: Table) -> dict[str, Any]:
    """A table as the page's script reads it: a cell is a text, or a text and the number that it is sorted by."""
    columns = [
        {"title": c.title, "numeric": table.numeric(place), "group": c.group, **({"warn": c.warn} if c.warn else {})}
        for place, c in enumerate(table.columns)
    ]
    rows = [[_cell(v, c) for v, c in zip(row, table.columns, strict=True)] for row in table.rows]
    notes = list(table.notes) if table.rows else ["No rows.", *table.notes]
    return {
        "name": table.name, "title": table.title, "caption": table.caption, "columns": columns, "rows": rows,
        "notes": notes,
    }  # fmt: skip


def _cell(value: Value, column: Column) -> str | list[Any]:
    shown = inert.plain(cell_text(value, column))
    if not isinstance(value, Estimate) or not math.isfinite(value.value):
        return shown
    return [shown, float(f"{value.value / column.scale:.{DATA_DIGITS}g}")]


def image(chart: Chart) -> str:
    """A saved figure as the address of an image."""
    return f"data:image/svg+xml;base64,{base64.b64encode(chart.svg.encode()).decode()}"
