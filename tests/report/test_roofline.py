"""The roofline: every mechanism of a run that has an intensity and ceilings, and none above it in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made

from attnbench.planning.sweep import Plan, Sweep
from attnbench.report import roofline, style, write
from attnbench.report.evidence import gather
from attnbench.report.names import display
from attnbench.results.events import Ceilings
from attnbench.results.store import create_or_resume

KEY = ("cpu", "fp32", 2, "pinned")
NAMES = {"msa": 100.0, "hilo": 30.0, "van": 5.0, "window": 60.0}


def run(
    folder: Path, *, peak: float | None = 1e12, copy: float | None = 2e10, key: tuple[str | int, ...] = KEY,
    intensity: bool = True, pass_: str = "forward", **more: float,
) -> Path:  # fmt: skip
    """Layers of these intensities; the greatest rate is about 5e11 MACs per second."""
    records = [
        made.measured(
            made.cell(name, pass_=pass_),
            made.LAYERS[name][2],
            **({"intensity_macs_per_byte": x} if intensity else {}),
            **more,
        )
        for name, x in NAMES.items()
    ]
    plan = Plan(Sweep(), tuple(r.cell for r in records), {})
    with create_or_resume(folder, plan, made.FACTS) as writer:
        writer.log(Ceilings(key=key, macs_per_s=peak, bytes_per_s=copy))
        for record in records:
            writer.add(replace(record, run_id=writer.id))
    return folder


def test_the_roof_is_the_lower_of_the_two_ceilings():
    roof = roofline.Roof(macs_per_s=100.0, bytes_per_s=10.0)
    assert roof.ridge == 10.0
    assert [roof.at(x) for x in (1.0, 10.0, 50.0)] == [10.0, 100.0, 100.0]


def test_every_mechanism_of_the_run_is_drawn_under_the_ceilings(tmp_path: Path) -> None:
    (chart,) = roofline.charts(gather([run(tmp_path / "run")]))
    (axes,) = chart.axes
    chart.place()
    assert {note.get_text() for note in axes.texts} == set(map(display, NAMES))
    roof = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(roof.get_ydata()) == pytest.approx([2.5 * 2e10 / 1e9, 1000.0, 1000.0])
    assert list(roof.get_xdata()) == pytest.approx([2.5, 50.0, 200.0])


def test_a_rate_is_macs_times_images(tmp_path: Path) -> None:
    evidence = gather([run(tmp_path / "run")])
    rows = {row[1]: row for row in roofline.table(evidence).rows}
    point = next(p for p in evidence.points if p.cell.variant == "msa")
    rate = made.LAYERS["msa"][0] * point.get("throughput_img_per_s").value
    assert rows["msa"][3].value == pytest.approx(rate)
    assert rows["msa"][4].value == pytest.approx(rate / 1e12)
    assert rows["msa"][5].value == pytest.approx(rate / 2e12)
    assert (rows["msa"][6], rows["van"][6]) == ("arithmetic", "memory")


def test_a_point_above_the_roof_is_hollow_and_named(tmp_path: Path) -> None:
    (chart,) = roofline.charts(gather([run(tmp_path / "run", peak=2.6e11, copy=1e12)]))
    assert "above the arithmetic" in chart.caption
    named = chart.caption.partition("is wrong: ")[2]
    assert "msa" in named
    assert "van" not in named
    hollow = [line for line in chart.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == len(named.split(", "))
    (plain,) = roofline.charts(gather([run(tmp_path / "plain")]))
    assert "above the arithmetic" not in plain.caption


def test_a_point_above_the_copy_alone_is_named_as_cached(tmp_path: Path) -> None:
    (chart,) = roofline.charts(gather([run(tmp_path / "run")]))
    assert "Faster than a copy brings the bytes, so they stayed in the caches: van." in chart.caption
    assert not [line for line in chart.axes[0].lines if line.get_markerfacecolor() == "none"]


@pytest.mark.parametrize(
    "lack",
    [{"intensity": False}, {"peak": None}, {"copy": None}, {"key": ("cuda", "fp32", 2, "pinned")}, {"pass_": "train"}],
)
def test_without_an_intensity_or_a_ceiling_there_is_no_roofline(tmp_path: Path, lack: dict) -> None:
    assert roofline.charts(gather([run(tmp_path / "run", **lack)])) == []


def test_a_report_has_the_figure_and_its_table_where_a_run_holds_what_they_need(tmp_path: Path) -> None:
    files = {p.name for p in write([run(tmp_path / "run")], tmp_path / "out")}
    assert {"roofline.svg", "roofline.png", "roofline.pdf", "roofline.csv", "roofline.md"} <= files
    assert "The roofline" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_the_figure_has_the_same_bytes_twice(tmp_path: Path) -> None:
    evidence = gather([run(tmp_path / "run")])
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        with style.charts():
            (chart,) = roofline.charts(evidence)
            chart.save(folder)
    for kind in ("svg", "png", "pdf"):
        one, two = ((folder / f"roofline.{kind}").read_bytes() for folder in folders)
        assert one == two
