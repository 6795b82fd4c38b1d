"""Run jobs in fresh processes of this machine: a chosen allocator, a deadline, and an account of how each ended.

A fork server is a process that has imported torch and forks a child for every job (`attnbench.execution.worker`).
Three channels connect it with the runner: jobs on its stdin, its own account of its children on its stdout (closed in
the children, so no layer can forge it), and a pipe of signed lines on which the children report.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from attnbench import runtimes
from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.execution import jobs, wire
from attnbench.execution.descendants import MARK, end_marked
from attnbench.execution.status_file import StatusFile
from attnbench.results.events import Event, from_line

# glibc adapts its thresholds to what was freed before; pinned, a layer's page faults are the same in every process.
PINNED = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
_LIBRARIES = {"tcmalloc": ("tcmalloc_minimal", "tcmalloc"), "jemalloc": ("jemalloc",)}
_PACKAGES = {"tcmalloc": "libtcmalloc-minimal4", "jemalloc": "libjemalloc2"}
_START_S = 120.0
_LEAVE_S = 10.0  # for a process whose answer was taken
_KILL_S = 120.0  # on a machine that is busy, or has memory to write out


class ServerEndedError(UnfinishedError):
    """The fork server itself ended; a new one can take its place."""


@dataclass(frozen=True)
class End:
    """How a job's process ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        timed_out: it said nothing for too long and was killed.
        log: the last that it printed.
        oom_killed: the kernel killed a process for want of memory meanwhile.
    """

    code: int
    timed_out: bool = False
    log: str = ""
    oom_killed: bool = False

    def describe(self) -> str:
        """A sentence for a record."""
        if self.code < 0:
            try:
                words = f"its process was killed by {signal.Signals(-self.code).name}"
            except ValueError:
                words = f"its process was killed by signal {-self.code}"
        else:
            words = f"its process ended with exit code {self.code}"
        tail = " ".join(self.log.split())[-300:]
        return f"{words}; it last printed: {tail}" if tail else words


@dataclass(frozen=True)
class Noise:
    """So many bytes on the children's channel, before the next event, that the trusted loop did not write."""

    count: int


def allocator_environment(allocator: str) -> dict[str, str]:
    """What to add to a worker's environment.

    Raises:
        AttnbenchError: the allocator's library is not on this machine.
    """
    if allocator == "system":
        return {}
    if allocator == "pinned":
        return dict(PINNED)
    library = next((path for name in _LIBRARIES[allocator] if (path := ctypes.util.find_library(name))), None)
    if library is None:
        raise AttnbenchError(
            f"allocator {allocator} needs its library; none of {', '.join(_LIBRARIES[allocator])} is installed; "
            f"install it (Debian: {_PACKAGES[allocator]}), or use --allocator pinned"
        )
    return {"LD_PRELOAD": library}


class ForkServer:
    """A process that has imported torch and forks a fresh child for every job; one job at a time.

    Args:
        allocator: of the processes.
        imports_compiler: import torch's compiler and the counters too, which counting and compiling need. It takes as
            long as torch itself.
        models: names of libraries' models, as NAMESPACE:NAME, whose libraries are imported too.
    """

    def __init__(
        self, allocator: str = "pinned", *, imports_compiler: bool = False, models: Sequence[str] = ()
    ) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment |= allocator_environment(allocator) | runtimes.environment()
        self._mark = environment[MARK] = secrets.token_hex(8)
        environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no compile workers beside a timed call
        # without a name, so that nothing is left behind however we end; the children inherit it
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self.status = StatusFile()
        events, self._children_end = os.pipe()
        words = [str(self._children_end), *["all"] * imports_compiler, *models]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attnbench.execution.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            pass_fds=(self._log.fileno(), self.status.descriptor, self._children_end),
        )
        assert self._process.stdout is not None
        self._control = wire.Lines(self._process.stdout.fileno())
        self._events = wire.Lines(events)
        self._ready = self._closed = False
        self._running = False  # a job was sent whose process has not been seen to end
        self.child = 0

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and what runs in it; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        if not self._ready:  # still importing: it would not notice that stdin ends
            self._process.kill()
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:  # it could not end what it had started
            end_marked(self._mark)
        if self._process.stdout:
            self._process.stdout.close()
        os.close(self._children_end)
        os.close(self._events.descriptor)
        self._log.close()
        self.status.close()

    def end(self) -> None:
        """Kill the server, from any thread: whoever waits for its job meets a ServerEndedError."""
        self.kill()
        self._process.kill()

    def kill(self) -> None:
        """Kill the running child with all that it started."""
        if self.child:
            for kill in (os.killpg, os.kill):  # a child that was forked just now has no group of its own yet
                with contextlib.suppress(ProcessLookupError):
                    kill(self.child, signal.SIGKILL)

    def empty_log(self) -> None:
        """Forget what the child has printed so far."""
        os.lseek(self._log.fileno(), 0, os.SEEK_SET)  # the child's place in the file too: they share it
        os.ftruncate(self._log.fileno(), 0)

    def do(self, job: jobs.Job, *, patience_s: float) -> Iterator[Event | Noise | End]:
        """Run one job; yield what it reports, with noise, then its `End`.

        It is killed when it reports nothing for `patience_s` seconds; noise is no report.

        Raises:
            ServerEndedError: the server itself ended.
            UnfinishedError: the server did not start, or a child cannot be killed.
        """
        self.wait_until_ready()
        self._finish_last()
        self.empty_log()
        self.status.reset()
        self._events.discard()  # what an earlier child's remains may have written
        kills, key = _oom_kills(), secrets.token_hex(16)
        self._send({"job": jobs.to_line(job), "log": self._log.fileno(), "status": self.status.descriptor, "key": key})
        self._running = True
        timed_out, code, noise, deadline = False, None, 0, time.monotonic() + patience_s
        while code is None:
            self._select(deadline)
            for control in self._control.read():
                message = json.loads(control)
                self.child = message["pid"]
                code = message.get("exit")
                self._running = code is None  # at once: the caller may leave at the next event
                if timed_out:  # the patience ended before this process was known
                    self.kill()
            if self._control.closed:
                raise ServerEndedError("the worker process exited; rerun the command to resume")
            for line in self._events.read():
                event = _event(line, key)
                if event is None:
                    noise += len(line)
                elif not timed_out:
                    if noise:
                        yield Noise(noise)
                    noise = 0
                    deadline = time.monotonic() + patience_s
                    yield event
            if code is None and time.monotonic() >= deadline:  # noise on the pipe is no sign of life
                if timed_out:
                    raise UnfinishedError("a worker process could not be killed; see `attnbench doctor`")
                timed_out, deadline = True, time.monotonic() + _KILL_S
                self.kill()
        self.child = 0
        yield End(code, timed_out, self._tail(), _oom_kills() > kills)

    @property
    def own_bytes(self) -> int:
        """Memory that only this server has, apart from its children's; 0 where the system does not say."""
        import psutil

        try:
            return int(psutil.Process(self._process.pid).memory_full_info().uss)
        except (psutil.Error, AttributeError, OSError):
            return 0

    def wait_until_ready(self) -> None:
        """Wait until torch is imported.

        Raises:
            ServerEndedError: the server itself ended.
            UnfinishedError: the server did not start.
        """
        deadline = time.monotonic() + _START_S
        while not self._ready:
            if not self._select(deadline) and time.monotonic() >= deadline:
                raise UnfinishedError("the worker process did not start; run `attnbench doctor`")
            self._ready = bool(self._control.read())
            if self._control.closed:
                raise ServerEndedError("the worker process exited while it started; run `attnbench doctor`")

    def _finish_last(self) -> None:
        """Wait for the end of a job whose caller took its answer and left: it must not pass for the next job's end."""
        deadline, killed = time.monotonic() + _LEAVE_S, False
        while self._running:
            if not self._select(deadline) and time.monotonic() >= deadline:
                if killed:
                    raise UnfinishedError("a worker process could not be killed; see `attnbench doctor`")
                deadline, killed = time.monotonic() + _KILL_S, True
                self.kill()
            for control in self._control.read():
                message = json.loads(control)
                self.child = message["pid"]
                self._running = "exit" not in message
                if killed:
                    self.kill()
            self._events.read()
            if self._control.closed:
                raise ServerEndedError("the worker process exited; rerun the command to resume")

    def _send(self, words: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(words) + "\n").encode())
        except OSError as error:
            raise ServerEndedError("the worker process exited; rerun the command to resume") from error

    def _select(self, deadline: float) -> list[int]:
        both = [self._control.descriptor, self._events.descriptor]
        ready: list[int] = select.select(both, [], [], max(0.0, deadline - time.monotonic()))[0]
        return ready

    def _tail(self) -> str:
        log = self._log.fileno()
        return os.pread(log, 2000, max(0, os.fstat(log).st_size - 2000)).decode(errors="replace")


def _event(line: bytes, key: str) -> Event | None:
    """The event on a line that the worker's loop has signed; None for anything else."""
    message = wire.verify(line, key)
    if message is None:
        return None
    try:
        return from_line(message)
    except ValueError:
        return None


def _oom_kills() -> int:
    """The kernel's count of out-of-memory kills in this control group; 0 where it cannot be read."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            for line in Path(path).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return 0
