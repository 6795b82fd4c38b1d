"""Faults of the standard streams: closed, full, or left by their reader or terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import select
import signal
import termios
import threading
from collections.abc import Callable

from injection.session import Inject, Run


def redirected(redirect: str, *words: str) -> Inject:
    """A standard stream is closed or full from the start."""

    def inject(run: Run, rng: random.Random) -> int:
        with run.start(words=words, redirect=f":|{redirect}") as session:
            session.end(*((4,) if ">/dev/full" in redirect.replace("2>", "") else ()))
            hit = run.hit()
        if not run.complete:
            run.problem("wrong", "it measured nothing, or not all")
        return hit

    return inject


def reader_leaves(stream: str, *words: str) -> Inject:
    """Who reads its output goes away in mid-run: the run goes on."""

    def inject(run: Run, rng: random.Random) -> int:
        read, write = os.pipe()
        with run.start(words=words, **{stream: write}) as session:
            os.close(write)
            hits = run.hit(int(session.wait_for_instant(rng, 4)))
            os.close(read)
            session.end()
        if not run.complete:
            run.problem("wrong", "it did not go on")
        return hits

    return inject


def terminal_leaves(keeps_running: bool) -> Inject:
    """The terminal is closed in mid-run; with `nohup` the run goes on."""

    def inject(run: Run, rng: random.Random) -> int:
        user, terminal = pty.openpty()
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
        with run.start(
            words=(),
            redirect="trap '' HUP|" if keeps_running else ":|",
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **streams,
        ) as session:
            os.close(terminal)
            gone = threading.Event()
            reader = threading.Thread(target=read_until, args=(user, gone))
            reader.start()
            hits = run.hit(int(session.wait_for_instant(rng, 8)))
            gone.set()
            reader.join()
            os.close(user)
            session.sent = signal.SIGHUP
            session.end(4)  # the table at the end has no reader
        if keeps_running and not run.complete:
            run.problem("wrong", "it did not go on")
        return hits

    return inject


def read_until(descriptor: int, gone: threading.Event) -> None:
    """Read and forget what comes, until the event."""
    while not gone.is_set():
        if select.select([descriptor], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):
                os.read(descriptor, 1 << 16)


Damage = Callable[[bytes, random.Random], bytes | None]
