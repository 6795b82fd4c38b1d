"""Charts -> files, by a forked process a core, while the tables are made. The bytes are those of one process.

Only a process of one thread on Linux is forked; any other saves its charts itself. A process draws a fixed share of the
charts and ends, also when the one that started it was killed.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import TracebackType

from attnbench.errors import AttnbenchError
from attnbench.machine.linux import affinity
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
        can_fork = sys.platform == "linux" and threading.active_count() == 1
        self._most = processes or (len(affinity()) if can_fork else 1)
        self._started: list[tuple[ForkProcess, Connection, Sequence[Chart]]] = []

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
        context = get_context("fork")
        for share in (charts[first::count] for first in range(count)):
            answer, say = context.Pipe(duplex=False)
            process = context.Process(target=_draw, args=(share, self.folder, say), daemon=True)
            with warnings.catch_warnings():  # numpy's idle threads, which the child does not use
                warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
                process.start()
            say.close()
            self._started.append((process, answer, share))
        return charts

    def finish(self) -> list[Path]:
        """Wait for every process; the files of every chart, in the order of the charts.

        Raises:
            OSError: a file could not be written.
            AttnbenchError: a process was killed, or failed for another reason, which it has printed.
        """
        for process, answer, share in self._started:
            try:
                failure = answer.recv()
            except EOFError:
                failure = AttnbenchError(
                    "every figure of a report is drawn; a process that draws them was killed before its last; "
                    "free memory, then run the same command again"
                )
            process.join()
            if failure is not None:
                raise failure
            for chart in share:
                chart.read_back(self.folder)
        return [path for chart in self.charts for path in chart.paths(self.folder)]

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process, answer, _ in self._started:
            process.terminate()
            process.join()
            answer.close()


def _save(charts: Sequence[Chart], folder: Path) -> None:
    for chart in charts:
        chart.save(folder)


def _draw(charts: Sequence[Chart], folder: Path, say: Connection) -> None:
    """In a process of its own: save its share, and answer None or what the disk refused."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    gc.freeze()  # a search for garbage would copy the memory that is shared with it
    gc.enable()
    try:
        _save(charts, folder)
    except OSError as error:
        say.send(error)
    else:
        say.send(None)
