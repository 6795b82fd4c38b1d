"""Charts -> files, by a process a core, while the tables are made. The bytes are those of one process.

A process draws a fixed share of the charts and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from attnbench.report import aside
from attnbench.report.aside import Aside
from attnbench.report.chart import Chart

FEWEST = 4  # charts of a process: for fewer it is not worth starting


class Drawing:
    """The charts of a report being saved; leave the context only when every chart was added.

    Args:
        folder: for the files; must exist.
        processes: at most so many for each `add`; 0: one a core, or none but this one where it cannot be forked.
    """

    def __init__(self, folder: Path, processes: int = 0) -> None:
        self.folder, self.charts = folder, list[Chart]()
        self._most = processes or aside.cores()
        self._started: list[tuple[Aside[None], Sequence[Chart]]] = []

    def add(self, charts: Sequence[Chart]) -> Sequence[Chart]:
        """Begin to save these charts, with the settings of matplotlib that are in use; returns them.

        Raises:
            OSError: a file cannot be written, where no process was started for it.
        """
        self.charts += charts
        count = min(self._most, len(charts) // FEWEST)
        if self._most == 1 or count == 0:
            _save(charts, self.folder)
            return charts
        for share in (charts[first::count] for first in range(count)):
            self._started.append((Aside(partial(_save, share, self.folder), "draws figures"), share))
        return charts

    def finish(self) -> list[Path]:
        """Wait for every process; the files of every chart, in the order of the charts.

        Raises:
            OSError: a file could not be written.
            AttnbenchError: a process was killed, or failed for another reason, which it has printed.
        """
        for process, share in self._started:
            process.result()
            for chart in share:
                chart.read_back(self.folder)
        return [path for chart in self.charts for path in chart.paths(self.folder)]

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process, _ in self._started:
            process.end()


def _save(charts: Sequence[Chart], folder: Path) -> None:
    for chart in charts:
        chart.save(folder)
