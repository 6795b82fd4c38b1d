"""The programs that a layer's code starts: seen beside a turn, and ended with the process that started them.

A layer may start a program in a session of its own and forget it. On Linux a worker and its fork server adopt what
their descendants leave behind, so that it is found among their children; what a fork server that was killed leaves is
found by a variable of its environment. Elsewhere only the process group is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

MARK = "ATTNBENCH_FORK_SERVER"  # set for a fork server and all that it starts
_GENERATIONS = 100  # of processes that a process left behind


def adopt_orphans() -> None:
    """Become the parent of what the descendants of this process leave behind, also in a session of its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def living_children() -> list[str]:
    """The names of this process's children that have not ended; one call of the system where there are none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    return [name for name, state in map(_name_and_state, _children()) if state not in "ZX"]


def end_children() -> None:
    """Kill the children of this process, generation by generation: those of a killed process come to this one."""
    for _ in range(_GENERATIONS):
        left = _children()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def end_marked(mark: str) -> None:
    """Kill the processes whose environment has this mark, which their fork server, killed itself, could not end."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(_GENERATIONS):
        try:
            left = [int(name) for name in os.listdir("/proc") if name.isdigit() and wanted in _environment(name)]
        except OSError:  # there is no such folder, or no memory to read it
            return
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    found: list[int] = []
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, file.read_text().split())
    return found


def _name_and_state(pid: int) -> tuple[str, str]:
    """The name of a process and the letter of its state; X for one that is gone."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "", "X"
    return name, rest.split()[0]


def _environment(pid: str) -> list[bytes]:
    """The environment of a process of ours; none for another's, and for one that has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
