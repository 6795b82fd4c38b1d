"""Figures drawn by processes: the bytes of one process, and a disk that refuses or a killed process is a sentence."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from attnbench.errors import AttnbenchError
from attnbench.report import drawing, style
from attnbench.report.chart import Chart
from attnbench.report.drawing import Drawing
from attnbench.report.evidence import Estimate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="figures are drawn by processes on Linux alone")


@pytest.fixture(autouse=True)
def a_process_for_each_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "FEWEST", 1)


def charts(*names: str) -> list[Chart]:
    made = [Chart(name, name, size=(2.0, 1.5)) for name in names]
    for place, chart in enumerate(made):
        chart.point(chart.axes[0], place, Estimate(1.0, 0.9, 1.2), "msa")
        chart.labels(chart.axes[0], [("msa", chart.name, place, 1.0)])
    return made


def test_the_files_are_the_same_whatever_the_number_of_processes(tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        with style.charts(), Drawing(folder, processes) as drawn:
            drawn.add(charts("one", "two"))
            drawn.add(charts("three"))
            paths = drawn.finish()
        assert [path.name for path in paths[::3]] == ["one.pdf", "two.pdf", "three.pdf"]
        found.append([path.read_bytes() for path in paths] + [chart.svg.encode() for chart in drawn.charts])
    assert found[0] == found[1]
    assert found[1][1] == found[1][9], "a chart has the SVG that another process saved"


def test_a_folder_that_cannot_be_written_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with style.charts(), Drawing(tmp_path / "none", 2) as drawn:
        drawn.add(charts("one", "two"))
        with pytest.raises(FileNotFoundError):
            drawn.finish()


def test_a_killed_process_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chart, "save", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with style.charts(), Drawing(tmp_path, 2) as drawn:
        drawn.add(charts("one", "two"))
        with pytest.raises(AttnbenchError, match="was killed"):
            drawn.finish()
