"""Ctrl-C during a run: the first finishes the turn, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupted(Exception):  # noqa: N818  not an error: everything is saved
    """Ctrl-C: the turn was finished and everything is saved."""


class Interrupts:
    """Counts SIGINT while it is entered, in the main thread; elsewhere it does nothing.

    Args:
        on_first: called at the first signal, inside the handler.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.count = 0
        self._on_first = on_first
        self._old: signal._HANDLER = None

    def raise_if_requested(self) -> None:
        """Leave the run if Ctrl-C was pressed.

        Raises:
            Interrupted: it was.
        """
        if self.count:
            raise Interrupted

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._on_sigint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._old)

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        self._on_first()
