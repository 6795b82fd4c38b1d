"""The processes behind a fork server: one that has imported torch, and the children that it forks for each job.

`python -m attnbench.execution.worker EVENTS [all] [NAMESPACE:NAME...]` reads one JSON job a line on stdin, forks a
child for it, and says on stdout which process it is and how it ended. The server starts no thread of torch, so a fork
is safe; its environment chooses the allocator; with `all` it imports torch's compiler too, and with names of models
the libraries that build them. A child has a session of its own, its prints go to a log file, it reports on the
descriptor EVENTS in signed lines, and it dies with the server. A server that is asked to end, or whose runner has
ended, ends all that was started. What a job does is in attnbench.execution.perform.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from attnbench.execution import wire
from attnbench.execution.descendants import adopt_orphans, end_children
from attnbench.results.events import Done, Event, Failure, to_line

# Ctrl-C, and what a batch system sends to all processes of a job to warn it: the runner decides what they mean
_IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGTERM, signal.SIGHUP)  # end a server in order
LOG_LIMIT = 1 << 30  # bytes that a child may write into any file; its log is emptied at every round


def main() -> None:
    """Serve jobs until stdin ends; whatever ends the server, but SIGKILL, ends what it has started."""
    server = os.getpid()

    def end(code: int) -> None:
        if os.getpid() == server:  # and not a child that was forked just now
            end_children()
        os._exit(code)  # not by an exception, which would be reported wherever the signal came

    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in _ENDING:
        signal.signal(number, lambda *_: end(1))
    _on_parents_death(signal.SIGCONT)  # a server that is stopped would not see that stdin ends
    adopt_orphans()
    try:
        _serve(int(sys.argv[1]))
    except BrokenPipeError:  # the parent is gone
        end(1)
    end(0)


def _serve(events: int) -> None:
    control, child, buffer = os.dup(1), 0, b""
    os.dup2(2, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    import attnbench.execution.perform  # with torch: children find it imported, which is the point of the server

    _preload(sys.argv[2:])
    _say(control, {"pid": 0})
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            if child:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    _end_group(child)  # what it left running
                    end_children()  # and what left its group
                    _say(control, {"pid": 0, "exit": os.waitstatus_to_exitcode(status)})
                    child = 0
        if 0 in ready:
            chunk = os.read(0, 1 << 16)
            if not chunk:  # the parent is gone
                if child:
                    _end_group(child)
                return
            buffer += chunk
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                job = json.loads(line)
                child = os.fork()
                if not child:
                    signal.set_wakeup_fd(-1)
                    for descriptor in (control, wake, woken):
                        os.close(descriptor)
                    _child(job, events, attnbench.execution.perform)
                _say(control, {"pid": child})


def _preload(words: Sequence[str]) -> None:
    """Import what the children share; a library that fails is met again by the job that needs it."""
    import torch

    import attnbench.registry.adapters  # noqa: F401  imported when a layer is built
    from attnbench import registry
    from attnbench.registry.plugin_import import entry_points_of

    entry_points_of(registry.ENTRY_POINT_GROUP)
    known, threads = registry.load(entry_points=False), torch.get_num_threads()
    if "all" in words:
        from attnbench.measure import flops

        flops.preload()
    torch.set_num_threads(1)  # a library may compute while it is asked; a pool of threads does not survive a fork
    for name in words:
        if ":" in name:
            with contextlib.suppress(Exception):
                known[name]
    torch.set_num_threads(threads)
    gc.collect()
    gc.freeze()  # children neither look through it nor copy its pages when they collect


def _say(control: int, message: dict[str, int]) -> None:
    os.write(control, (json.dumps(message) + "\n").encode())


def _child(words: dict[str, Any], events: int, perform: ModuleType) -> None:
    key: str = words["key"]

    def say(event: Event) -> None:
        wire.send(events, to_line(event), key)

    try:
        os.setsid()
        for number in (signal.SIGCHLD, *_ENDING):
            signal.signal(number, signal.SIG_DFL)
        _on_parents_death(signal.SIGKILL)
        adopt_orphans()
        os.dup2(words["log"], 1)
        os.dup2(words["log"], 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _limit(resource.RLIMIT_FSIZE, LOG_LIMIT)
        _limit(resource.RLIMIT_CORE, 0)
        perform.do(words["job"], words["status"], say)
        say(Done())
    except SystemExit as error:
        say(Failure(outcome="crashed", reason=f"it called sys.exit({error.code!r})"))
    except BaseException as error:
        say(Failure(outcome="failed", reason=f"{type(error).__name__}: {error}"))
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)  # a thread that was left behind must not keep the process


def _limit(what: int, most: int) -> None:
    """Lower a limit of this process; the hard limit that it was started with stays above it."""
    hard = resource.getrlimit(what)[1]
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, least))


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _on_parents_death(number: signal.Signals) -> None:
    """Receive this signal when the parent ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
