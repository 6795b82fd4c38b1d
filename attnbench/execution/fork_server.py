"""Run jobs in fresh processes of this machine, with a chosen allocator, a deadline and an account of the end."""

from __future__ import annotations

import contextlib
import ctypes.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from attnbench.errors import AttnbenchError

# glibc adapts its thresholds to what was freed before; pinned, a layer's page faults are the same in every process.
PINNED = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
_START_S = 120.0


@dataclass(frozen=True)
class End:
    """How a job ended: its exit code (negative: a signal), whether we killed it at the deadline, its last words."""

    code: int
    timed_out: bool
    log: str
    oom_killed: bool = False

    def told(self) -> str:
        """A sentence for a record."""
        if self.code < 0:
            name = signal.Signals(-self.code).name
            words = f"its process was killed by {name}"
        else:
            words = f"its process ended with exit code {self.code}"
        tail = " ".join(self.log.split())[-300:]
        return f"{words}; it last printed: {tail}" if tail else words


def allocator_environment(allocator: str) -> dict[str, str]:
    """What to add to a worker's environment.

    Raises:
        AttnbenchError: the allocator's library is not on this machine.
    """
    if allocator == "system":
        return {}
    if allocator == "pinned":
        return dict(PINNED)
    found = next((path for name in _LIBRARIES[allocator] if (path := ctypes.util.find_library(name))), None)
    if found is None:
        raise AttnbenchError(
            f"allocator {allocator} needs its library; none of {', '.join(_LIBRARIES[allocator])} is installed; "
            f"install it (Debian: {_PACKAGES[allocator]}), or use --allocator pinned"
        )
    return {"LD_PRELOAD": found}


_LIBRARIES = {"tcmalloc": ("tcmalloc_minimal", "tcmalloc"), "jemalloc": ("jemalloc",)}
_PACKAGES = {"tcmalloc": "libtcmalloc-minimal4", "jemalloc": "libjemalloc2"}


class Nursery:
    """A process that has imported torch and forks a fresh child for every job; one job at a time."""

    def __init__(self, allocator: str = "pinned") -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment |= allocator_environment(allocator)
        environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no compile workers beside a timed call
        # without names, so that nothing is left behind however we end; the children inherit them
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        self._status = tempfile.TemporaryFile()  # noqa: SIM115  the same
        self.status = self._status.fileno()
        inherited = (self._log.fileno(), self.status)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attnbench.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            pass_fds=inherited,
        )
        self._ready = False
        self._buffer = b""
        self.child = 0

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the nursery and what runs in it."""
        self.kill()
        if not self._ready:  # still importing: it would not notice that stdin ends
            self._process.kill()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()
        self._status.close()

    def kill(self) -> None:
        """Kill the running child with all that it started."""
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child, signal.SIGKILL)

    def empty_log(self) -> None:
        """Forget what the child has printed so far."""
        os.lseek(self._log.fileno(), 0, os.SEEK_SET)  # the child's place in the file too: they share it
        os.ftruncate(self._log.fileno(), 0)

    def do(self, job: Mapping[str, Any], *, patience_s: float) -> Iterator[dict[str, Any] | End]:
        """Run one job; yield what it says, then its `End`. Killed when it is silent for `patience_s` seconds."""
        if not self._ready:
            if self._line(time.monotonic() + _START_S) != {"event": "ready"}:
                raise AttnbenchError("the worker process did not start; run `attnbench doctor`")
            self._ready = True
        assert self._process.stdin is not None
        log = self._log.fileno()
        self.empty_log()
        os.pwrite(self.status, b"-" * 13, 0)
        kills = _oom_kills()
        text = json.dumps({**job, "log": log, "status": self.status}, default=str) + "\n"
        self._process.stdin.write(text.encode())
        timed_out = False
        while True:
            message = self._line(time.monotonic() + patience_s)
            if message is None:
                timed_out = True
                self.kill()
                message = self._line(time.monotonic() + 30)
                if message is None:
                    raise AttnbenchError("a worker process could not be killed; see `attnbench doctor`")
            if message["event"] == "started":
                self.child = message["pid"]
            elif message["event"] == "exit":
                self.child = 0
                yield End(message["status"], timed_out, self._tail(), _oom_kills() > kills)
                return
            elif not timed_out:
                yield message

    def _line(self, until: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([file], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(file, 1 << 20)
            if not chunk:
                raise AttnbenchError("the worker process is gone; the same command goes on where it was")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def _tail(self) -> str:
        log = self._log.fileno()
        return os.pread(log, 2000, max(0, os.fstat(log).st_size - 2000)).decode(errors="replace")


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
