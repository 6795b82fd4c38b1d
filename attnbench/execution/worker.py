"""The child processes: a nursery that has imported torch, and the jobs that its forked children do.

`python -m attnbench.execution.worker` reads one JSON job a line on stdin, forks a child for it, and passes on what the
child says as JSON lines on stdout, then how it ended. The nursery itself runs no operator, so that a fork is
safe; the allocator is chosen by its environment. A child has a session of its own, its prints go to a log
file, and it dies with the nursery. What a job measures stands in attnbench.execution.perform.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any

LOG_LIMIT = 1 << 30  # bytes that a child may write into any file; its log is emptied at every round


def main() -> None:
    """Serve jobs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    out = os.dup(1)
    os.dup2(2, 1)
    _die_with_parent()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    import attnbench.execution.perform  # with torch: the point of the nursery is that children find it imported
    from attnbench import registry
    from attnbench.measure import flops

    registry.load(entry_points=False)
    flops.preload()

    say(out, {"event": "ready"})
    buffer = b""
    child = 0
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            if child:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    _end_group(child)  # what it left running
                    say(out, {"event": "exit", "status": os.waitstatus_to_exitcode(status)})
                    child = 0
        if 0 in ready:
            chunk = os.read(0, 1 << 16)
            if not chunk:  # the parent is gone
                if child:
                    _end_group(child)
                os._exit(0)
            buffer += chunk
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                job = json.loads(line)
                child = os.fork()
                if not child:
                    _child(job, out, attnbench.execution.perform)


def say(fd: int, message: dict[str, Any]) -> None:
    """Write one JSON line."""
    data = (json.dumps(message, separators=(",", ":"), default=str) + "\n").encode()
    while data:
        data = data[os.write(fd, data) :]


def _child(job: dict[str, Any], out: int, jobs: Any) -> None:
    try:
        os.setsid()
        say(out, {"event": "started", "pid": os.getpid()})
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(job["log"], 1)
        os.dup2(job["log"], 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_LIMIT, LOG_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        jobs.do(job, lambda message: say(out, message))
    except SystemExit as error:
        say(out, {"event": "error", "outcome": "crashed", "reason": f"it called sys.exit({error.code!r})"})
    except BaseException as error:
        say(out, {"event": "error", "outcome": "failed", "reason": f"{type(error).__name__}: {error}"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a thread that was left behind must not keep the process


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
