"""Compile the page's charts: Altair describes them, vl-convert makes Vega of them and bundles the scripts that draw it.

    python tools/charts.py           write attnbench/report/assets/
    python tools/charts.py --check   write nothing; end with 1 and name what differs

Needs the two packages at the versions in pyproject.toml's extra `charts`; the same versions give the same bytes. The
page has no data in these files: it hands rows to the data sets `rows` and `front` and sets the parameters.

A colour in a row is what the page draws (`var(--c0)`), so that the theme and not the chart decides it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

ASSETS = Path(__file__).resolve().parent.parent / "attnbench" / "report" / "assets"
INK, SOFT, GRID = "var(--ink)", "var(--soft)", "var(--grid)"
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
STEP = 16  # pixels of a row
ROOM = {"left": 170, "right": 130, "top": 22, "bottom": 4}  # for names and numbers beside the rows

# A declared kind (and for attention its reach) -> the shape of its marks.
SHAPES = {
    "attention, global": "circle",
    "attention, sparse": "diamond",
    "attention, local": "square",
    "attention": "circle",
    "gate": "triangle-up",
    "convolution": "triangle-down",
    "pooling": "triangle-right",
    "fourier": "cross",
    "state-space": "triangle-left",
}

# Where a label may stand beside its point, the nearest first; the page sets how many of these `places` are tried.
ANCHORS = ("right", "left", "top", "bottom", "top-right", "bottom-right", "top-left", "bottom-left")
OFFSETS = (3, 9, 16, 24, 34, 46)

CONFIG = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT, "titleColor": SOFT, "gridColor": GRID, "domainColor": SOFT, "tickColor": SOFT,
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
    },
}  # fmt: skip


def signal(expression: str) -> Any:
    """A value that Vega computes."""
    return alt.value({"expr": expression})


def log_axis(title: str | None, name: str, **more: Any) -> dict[str, Any]:
    """A logarithmic position whose ends and ticks the page sets: `{name}_low`, `{name}_high`, `{name}_ticks`."""
    return {
        "scale": alt.Scale(
            type="log", domainMin=alt.ExprRef(f"{name}_low"), domainMax=alt.ExprRef(f"{name}_high"), nice=False
        ),
        "axis": alt.Axis(title=title, values=alt.ExprRef(f"{name}_ticks"), format="~r", **more),
    }


def parameters(**values: Any) -> list[alt.Parameter]:
    """Named values that the page sets."""
    return [alt.param(name=name, value=value) for name, value in values.items()]


def shape() -> alt.Shape:
    """The shape of a row's kind."""
    return alt.Shape("shape:N", scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())), legend=None)


def color(field: str = "color") -> alt.Color:
    """The colour that the row names."""
    return alt.Color(f"{field}:N", scale=None, legend=None)


def hovered(on: float, off: float) -> Any:
    """A value for the row under the pointer and another for the rest."""
    return alt.condition("datum.key == hover", alt.value(on), alt.value(off))


def ranked() -> alt.LayerChart:
    """One row an arm: rank and name, its value with the interval on a logarithmic axis, and the same in words.

    rows: i, key, rank, label, words, value, low, high (clamped to the axis), out (an arrow), color, shape, tip.
    """
    base = alt.Chart(alt.NamedData("rows"))
    y = alt.Y("i:O", axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0.2))
    x = alt.X("value:Q", **log_axis(None, "x", orient="top", tickCount=6))
    band = base.mark_rect(cursor="pointer").encode(
        y=y, x=signal("-left"), x2=signal("width + right"), color=alt.value(INK), tooltip="tip:N",
        opacity=signal("datum.key == hover ? 0.14 : indexof(ties, datum.key) >= 0 ? 0.06 : 0"),
    )  # fmt: skip
    one = alt.Chart(alt.NamedData("one")).mark_rule(color=SOFT, strokeDash=[3, 3]).encode(x=alt.X("x:Q"))
    still = base.transform_filter("isValid(datum.value)")
    interval = still.mark_rule(strokeWidth=2).encode(y=y, x="low:Q", x2="high:Q", color=color())
    inside = still.transform_filter("!datum.out")
    point = inside.mark_point(filled=True, opacity=1, size=60).encode(y=y, x=x, color=color(), shape=shape())
    arrow = still.transform_filter("datum.out").mark_text(fontSize=11, dy=1)
    words = {"fontSize": 12, "baseline": "middle"}
    rank = base.mark_text(**words, align="right", color=SOFT).encode(y=y, x=signal("26 - left"), text="rank:N")
    label = base.mark_text(**words, align="left", limit=alt.ExprRef("left - 38")).encode(
        y=y, x=signal("34 - left"), text="label:N", color=color("ink")
    )
    value = base.mark_text(**words, align="left", limit=alt.ExprRef("right - 8")).encode(
        y=y, x=signal("width + 8"), text="words:N", color=color("ink")
    )
    layers = [band, one, interval, point, arrow.encode(y=y, x=x, text="out:N", color=color()), rank, label, value]
    return (
        alt.layer(*layers)
        .add_params(*parameters(hover="", ties=[], left=170, right=130, x_low=0.1, x_high=10.0, x_ticks=[0.1, 1, 10]))
        .properties(
            width=300,
            height=alt.Step(STEP),
            autosize="none",
            padding={"left": 170, "right": 130, "top": 4, "bottom": 22},
        )
    )


def front(title_x: str, title_y: str, y_is_log: bool) -> alt.LayerChart:
    """Points under two measures and the stairs of those that nothing beats in both.

    rows: key, x, y (clamped to the axes), label, first (labels are placed in this order), on (on the front), color,
    ink, shape, tip. front: x, y in order.
    """
    base = alt.Chart(alt.NamedData("rows"))
    x = alt.X("x:Q", **log_axis(title_x, "x"))
    linear = {
        "scale": alt.Scale(domainMin=alt.ExprRef("y_low"), domainMax=alt.ExprRef("y_high"), nice=False, zero=False)
    }
    y = alt.Y(
        "y:Q", **(log_axis(title_y, "y") if y_is_log else {**linear, "axis": alt.Axis(title=title_y, tickCount=6)})
    )
    stairs = (
        alt.Chart(alt.NamedData("front"))
        .mark_line(interpolate="step-after", color=SOFT, strokeWidth=1)
        .encode(x=x, y=y)
    )
    point = base.mark_point(strokeWidth=1.6, cursor="pointer", size=64).encode(
        x=x, y=y, stroke=color(), shape=shape(), tooltip="tip:N", opacity=alt.value(1),
        fill=alt.condition("datum.on", alt.Fill("color:N", scale=None, legend=None), alt.value("var(--paper)")),
    )  # fmt: skip
    ring = base.transform_filter("datum.key == hover").mark_point(
        size=260, strokeWidth=2, color=INK, shape="circle", opacity=1
    )
    return (
        alt.layer(stairs, ring.encode(x=x, y=y), point)
        .add_params(
            *parameters(
                hover="",
                x_low=1,
                x_high=100,
                x_ticks=[1, 10, 100],
                y_low=1,
                y_high=100,
                y_ticks=[1, 10, 100],
                places=len(ANCHORS) * len(OFFSETS),
            )
        )
        .properties(width=400, height=400, autosize=alt.AutoSizeParams(type="fit", contains="padding"))
    )


def over_resolution() -> alt.LayerChart:
    """A line an arm over the image's side, a cross where a cell has no number, names at the ends.

    rows: key, side, value, bad, color, width, order, tip. front: label, value, at (pixels from the top), color.
    """
    base = alt.Chart(alt.NamedData("rows"))
    x = alt.X("side:Q", **log_axis("pixels, side of a square of equal area", "x"))
    y = alt.Y("value:Q", **log_axis(None, "y"))
    still = base.transform_filter("isValid(datum.value)")
    one = alt.Chart(alt.NamedData("one")).mark_rule(color=SOFT, strokeDash=[3, 3]).encode(y=alt.Y("y:Q"))
    line = still.mark_line().encode(
        x=x, y=y, detail="key:N", color=color(), strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None)
    )
    interval = still.mark_rule().encode(x=x, y="low:Q", y2="high:Q", color=color())
    point = still.mark_point(filled=True, opacity=1, cursor="pointer", size=50).encode(
        x=x, y=y, color=color(), shape=shape(), tooltip="tip:N"
    )
    ring = still.transform_filter("datum.key == hover").mark_point(size=220, strokeWidth=2, color=INK, opacity=1)
    bad = base.transform_filter("datum.bad").mark_text(text="×", fontSize=16, cursor="pointer").encode(
        x=x, y=signal("8 + 10 * datum.bad"), color=color(), tooltip="tip:N"
    )  # fmt: skip
    names = (
        alt.Chart(alt.NamedData("front"))
        .mark_text(align="left", fontSize=12, baseline="middle")
        .encode(x=signal("width + 8"), y=signal("datum.at"), text="label:N", color=color())
    )
    layers = [one, line, interval, ring.encode(x=x, y=y), point, bad, names]
    return (
        alt.layer(*layers)
        .add_params(*parameters(hover="", x_low=100, x_high=1000, x_ticks=[100], y_low=0.1, y_high=10, y_ticks=[1]))
        .properties(width=600, height=380, autosize="none", padding={"left": 56, "right": 150, "top": 12, "bottom": 40})
    )


def compiled(chart: alt.LayerChart, labels: bool = False) -> dict[str, Any]:
    """The chart as Vega, without data, and with labels that avoid each other where asked: Vega-Lite has none."""
    described = chart.properties(config=CONFIG).to_dict()
    vega: dict[str, Any] = vl_convert.vegalite_to_vega(described)
    vega.pop("$schema")
    for mark in vega["marks"]:  # only what says something on hover may be under the pointer
        mark["interactive"] = "tooltip" in mark.get("encode", {}).get("update", {})
    if labels:
        points = next(m for m in vega["marks"] if m["type"] == "symbol" and "tooltip" in m["encode"]["update"])
        vega["marks"].append(_labels(points["name"]))
    return vega


def _labels(points: str) -> dict[str, Any]:
    anchors = [anchor for _ in OFFSETS for anchor in ANCHORS]
    offsets = [offset for offset in OFFSETS for _ in ANCHORS]
    update = {
        "text": {"field": "datum.label"}, "fill": {"field": "datum.ink"}, "fontSize": {"field": "datum.size"},
        "fontWeight": {"field": "datum.weight"},
    }  # fmt: skip
    return {
        "type": "text",
        "name": "labels",
        "from": {"data": points},
        "interactive": False,
        "encode": {"enter": {}, "update": update},
        "transform": [
            {
                "type": "label", "size": {"signal": "[width, height]"}, "padding": 0, "avoidBaseMark": True,
                "avoidMarks": ["layer_0_marks"],
                "anchor": anchors, "offset": {"signal": f"slice({offsets}, 0, places)"},
                "sort": {"field": "datum.first", "order": "ascending"},
            }
        ],
    }  # fmt: skip


def wanted() -> dict[str, str]:
    """What every generated file should hold, by name."""
    charts = {
        "ranked": compiled(ranked()),
        "memory": compiled(front("peak memory (MiB)", "latency of a batch (ms)", True), labels=True),
        "accuracy": compiled(front("latency of a batch (ms)", "published top-1 (%)", False), labels=True),
        "resolution": compiled(over_resolution()),
    }
    versions = {
        "altair": alt.__version__, "vl-convert": vl_convert.__version__, "vega": vl_convert.get_vega_version(),
        "vega-lite": max(vl_convert.get_vegalite_versions(), key=lambda v: tuple(map(int, v.split(".")))),
        "vega-embed": vl_convert.get_vega_embed_version(),
    }  # fmt: skip
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return {
        "charts.json": json.dumps(charts, indent=1, sort_keys=True) + "\n",
        "versions.json": json.dumps(versions, indent=1) + "\n",
        "vega.js": "{" + bundle + "}\n",
    }


def main() -> int:
    """Write or check; 1 where a file differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a file differs")
    check, differ = parser.parse_args().check, 0
    for name, text in wanted().items():
        file = ASSETS / name
        if file.exists() and file.read_bytes() == text.encode():
            continue
        differ += 1
        if check:
            print(f"{file.name} differs from what tools/charts.py makes; run `make charts`", file=sys.stderr)
        else:
            file.write_bytes(text.encode())
            print(f"wrote {file.name}")
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
