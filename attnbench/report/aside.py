"""Work of a report done aside, by a forked process, while this one goes on. What it gives is that of one process.

Only a process of one thread on Linux is forked. The forked process ends with its work, also when the one that started
it was killed.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from attnbench.errors import AttnbenchError
from attnbench.machine.linux import affinity

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def cores() -> int:
    """How many processes may work at a time: one a core; 1 where this process cannot be forked."""
    can_fork = sys.platform == "linux" and threading.active_count() == 1
    return len(affinity()) if can_fork else 1


class Aside(Generic[T]):
    """Work that has begun in a process of its own; leave the context only when `result` is no longer wanted.

    Args:
        work: its result, and the errors that it raises, must be picklable.
        doing: what it does, as words of the sentence that tells of its being killed.
    """

    def __init__(self, work: Callable[[], T], doing: str) -> None:
        self._doing = doing
        context = get_context("fork")
        self._answer, say = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(work, say), daemon=True)
        with warnings.catch_warnings():  # numpy's idle threads, which the child does not use
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            self._process.start()
        say.close()

    def result(self) -> T:
        """What the work gave; waits for it, and can be asked once.

        Raises:
            AttnbenchError: the process was killed, or failed for a reason which it has printed.
            Exception: the work raised an OSError or an AttnbenchError.
        """
        try:
            done, value = self._answer.recv()
        except EOFError:
            raise AttnbenchError(
                f"a report is made whole; a process that {self._doing} was killed before its end; free memory, then "
                "run the same command again"
            ) from None
        self._process.join()
        if done:
            given: T = value
            return given
        raise value

    def end(self) -> None:
        """End the process, if it has not ended."""
        self._process.terminate()
        self._process.join()
        self._answer.close()

    def __enter__(self) -> Aside[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


class Later(Protocol[T_co]):
    """Something whose result is asked for once, later."""

    def result(self) -> T_co:
        """It, when it is there."""


class Here(Generic[T]):
    """The same, done by this process when its result is asked for."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work

    def result(self) -> T:
        """What the work gives."""
        return self._work()

    def __enter__(self) -> Here[T]:
        return self

    def __exit__(self, *_: object) -> None: ...


def begin(work: Callable[[], T], doing: str) -> Aside[T] | Here[T]:
    """Begin work aside where a second process can run; its result is asked for later."""
    return Aside(work, doing) if cores() > 1 else Here(work)


def _work(work: Callable[[], Any], say: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    gc.freeze()  # a search for garbage would copy the memory that is shared with it
    gc.enable()
    try:
        answer = True, work()
    except (OSError, AttnbenchError) as error:
        answer = False, error
    say.send(answer)
