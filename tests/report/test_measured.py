"""The measured tables: ties, what a run resolved, and disturbed machines, from invented runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import synthetic as made

from attnbench.report import write
from attnbench.report.evidence import Evidence, gather
from attnbench.report.measured import resolutions, table
from attnbench.report.tables import Table, comma_separated, markdown


def layers_of(evidence: Evidence) -> Table:
    return table(evidence, "layer", resolutions(evidence))


def column(found: Table, key: str) -> dict[str, object]:
    place = [c.key for c in found.columns].index(key)
    return {str(row[0]): row[place] for row in found.rows}


def test_rows_that_tie_share_a_letter_in_every_form(tmp_path: Path) -> None:
    speeds = {"msa": 1.0, "hilo": 2.0, "sra": 2.005, "window": 1.5}
    evidence = gather([made.run(tmp_path / "run", [made.measured(made.cell(n), s) for n, s in speeds.items()])])
    found = layers_of(evidence)
    ties = column(found, "ties")
    assert ties["msa"] == "c"
    assert ties["window"] == "b"
    assert set(str(ties["hilo"])) & set(str(ties["sra"]))
    assert "are not distinguishable in this run." in found.caption
    assert ",ties," in comma_separated(found)
    assert "| ties |" in markdown(found)
    write([tmp_path / "run"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert '"ties":["' in page
    assert re.search(r'"limit":"[\d.]+ %"', page)


def test_letters_start_anew_in_each_condition_and_the_caption_gives_each_resolution(tmp_path: Path) -> None:
    found = layers_of(gather([made.layers(tmp_path / "run", sizes=(224, 384), names=("msa", "hilo"))]))
    assert "resolution 224x224" in found.caption
    assert "resolution 384x384" in found.caption
    place = [c.key for c in found.columns].index("ties")
    assert [row[place] for row in found.rows] == ["a", "b", "a", "b"]


def test_a_table_without_intervals_has_no_column_of_ties(tmp_path: Path) -> None:
    counted = replace(made.measured(made.cell("msa")), values={"macs": 1, "params": 1})
    found = layers_of(gather([made.run(tmp_path / "run", [counted])]))
    assert "ties" not in {c.key for c in found.columns}
    assert "distinguishable" not in found.caption


def test_disturbed_cells_are_counted_in_a_note(tmp_path: Path) -> None:
    records = [made.measured(made.cell("msa")), replace(made.measured(made.cell("hilo")), flags=("stolen",))]
    found = layers_of(gather([made.run(tmp_path / "run", records)]))
    assert len(found.notes) == 1
    assert "1 of 2 timed cells were disturbed (stolen 1)" in found.notes[0]


def test_the_machine_is_named_by_the_caption_or_by_a_column(tmp_path: Path) -> None:
    one = made.run(tmp_path / "one", [made.measured(made.cell("msa"))])
    other = made.run(tmp_path / "other", [made.measured(made.cell("hilo"), device_name="Another CPU")])
    assert "machine Invented CPU" in layers_of(gather([one])).caption
    assert "machine" in {c.key for c in layers_of(gather([one, other])).columns}
