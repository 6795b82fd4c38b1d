"""Work of a report done aside: its result, its errors, its being killed, and no process where none can be forked."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from attnbench.errors import AttnbenchError
from attnbench.report import aside
from attnbench.report.aside import Aside, Here, begin

forks = pytest.mark.skipif(sys.platform != "linux", reason="a report forks processes on Linux alone")


def refuse() -> None:
    raise AttnbenchError("a line is damaged")


def full() -> None:
    raise OSError(28, "No space left on device")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@forks
def test_the_result_is_what_another_process_found() -> None:
    with Aside(os.getpid, "counts") as work:
        assert work.result() not in (0, os.getpid())


@forks
def test_what_the_work_raises_is_raised_where_its_result_is_asked_for() -> None:
    with Aside(refuse, "counts") as work, pytest.raises(AttnbenchError, match=r"^a line is damaged$"):
        work.result()
    with Aside(full, "counts") as work, pytest.raises(OSError, match="No space left"):
        work.result()


@forks
def test_a_killed_process_is_an_error_that_says_what_it_did() -> None:
    with Aside(be_killed, "resamples rounds") as work, pytest.raises(AttnbenchError, match="resamples rounds was kill"):
        work.result()


@forks
def test_work_that_nobody_waits_for_is_ended() -> None:
    with Aside(threading.Event().wait, "waits") as work:
        assert work._process.is_alive()
    assert not work._process.is_alive()


def test_one_core_does_the_work_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "affinity", lambda: [0])
    with begin(os.getpid, "counts") as work:
        assert isinstance(work, Here)
        assert work.result() == os.getpid()


def test_a_process_of_several_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "affinity", lambda: [0, 1])
    wait = threading.Event()
    other = threading.Thread(target=wait.wait)
    other.start()
    try:
        assert aside.cores() == 1
    finally:
        wait.set()
        other.join()
