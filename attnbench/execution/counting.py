"""Cells -> their counts and exported layers, by a fork server of its own.

It counts in the background; on a GPU, while layers are tried on the main server. It alone imports torch's compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType
from typing import TypeVar

from attnbench.execution.fork_server import ForkServer
from attnbench.execution.workers import Workers
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol
from attnbench.planning.sweep import Sweep
from attnbench.results.events import Count, Exported, Failure

T = TypeVar("T")
_LOOK_S = 0.1  # between two looks at an interrupt while a count is waited for


class Counting:
    """Counts and exports what is asked for, one job after another; its processes start with the first cell."""

    def __init__(
        self, sweep: Sweep, protocol: Protocol, origins: Mapping[str, Sequence[str]] | None = None,
        server: ForkServer | None = None,
    ) -> None:  # fmt: skip
        """`origins`: as of `Workers`; `server`: for the sweep's first allocator, started before."""
        servers = {sweep.allocator[0]: server} if server else {}
        self._workers = Workers(sweep, protocol, servers, origins, counts=True)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="counting")
        self._asked: dict[str, Future[Count]] = {}

    def __enter__(self) -> Counting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.end()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._workers.__exit__(kind, error, trace)

    def ask(self, cells: Sequence[Cell]) -> None:
        """Begin to count these cells; those that count alike are counted once."""
        for cell in cells:
            if cell.count_key not in self._asked:
                self._workers.start(cell.allocator)  # in this thread: the server ends with the thread that started it
                self._asked[cell.count_key] = self._pool.submit(self._workers.count, cell)

    def count(self, cell: Cell, look: Callable[[], None]) -> Count:
        """The count of a cell that was asked for; `look` is called while it is waited for, and may raise.

        Raises:
            UnfinishedError: the fork servers were killed too often.
        """
        return _awaited(self._asked[cell.count_key], look)

    def export(self, cell: Cell, look: Callable[[], None]) -> Exported | Failure:
        """The cell's layer as a file for its runtime; `look` and errors as of `count`."""
        self._workers.start(cell.allocator)
        return _awaited(self._pool.submit(self._workers.export, cell), look)


def _awaited(asked: Future[T], look: Callable[[], None]) -> T:
    while True:
        try:
            return asked.result(_LOOK_S)
        except NotYet:
            look()
