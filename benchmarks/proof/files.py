"""Which processes of a run have the driver's device files open: the fork server must have none, its children some."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import psutil

DRIVERS = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
WORKER = "attnbench.execution.worker"
SERVER, CHILD = "server", "child"


class Watch:
    """While it is entered, a thread looks at the workers among the processes below this one.

    Attributes:
        most: the most open files under `prefixes` of any one process, by role (`server`, `child`); without a role that
            was never seen.
    """

    def __init__(self, prefixes: tuple[str, ...] = DRIVERS, every_s: float = 0.1) -> None:
        self.prefixes, self.every_s = prefixes, every_s
        self.most: dict[str, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_until_end, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look_until_end(self) -> None:
        while not self._end.wait(self.every_s):
            self.look()

    def look(self) -> None:
        """Count once."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):  # it ended meanwhile
                if not _is_worker(process):
                    continue
                parent = process.parent()
                role = CHILD if parent is not None and _is_worker(parent) else SERVER
                self.most[role] = max(self.most.get(role, 0), open_files(process.pid, self.prefixes))


def open_files(pid: int, prefixes: tuple[str, ...]) -> int:
    """The number of open descriptors of a process whose files begin with one of `prefixes`; raises OSError."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            count += os.readlink(descriptor).startswith(prefixes)
    return count


def _is_worker(process: psutil.Process) -> bool:
    return WORKER in process.cmdline()
