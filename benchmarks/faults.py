"""Inject faults into real runs at random instants, resume each run, and count what was lost, doubled or changed.

python benchmarks/faults.py [--count 300] [--seed 0] [--kinds 'SIGKILL*,disk*'] [--jobs 2] [--out docs/reliability.md]

A campaign starts `attnbench run` on small layers, injects a fault, lets the command end, and starts the same command
again with the next fault, until the run is complete or has had its share; then the command runs without a fault and
must finish. After every session the folder is compared with what it held before: a record or an event that was
acknowledged must be there once and unchanged; the exit code must be a documented one; no traceback may be printed; no
process may be left. At the end the records must be those of the plan. Faults of the journal alone, in this process and
at every byte, are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import fnmatch
import itertools
import json
import math
import os
import pty
import random
import re
import resource
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attnbench.analysis.table import load
from attnbench.errors import AttnbenchError
from attnbench.machine import environment
from attnbench.results import journal, store
from attnbench.results.events import Round

ROOT = Path(__file__).resolve().parents[1]
SIZE = ["--dim", "24", "--heads", "3", "--batch", "1", "--threads", "1"]
SIZE += ["--protocol", "quick", "--rounds", "4", "--processes", "2"]
PATIENCE = ["--timeout", "20"]
RESOLUTIONS = ["--res", "16,32,48,64,80,96"]
# Two requests that runs take in turn: one gives its records group by group, the other one by one.
SHARED = (
    ("-m", "msa,sra", *RESOLUTIONS, *SIZE, *PATIENCE),
    ("-m", "msa,sra", *RESOLUTIONS, *SIZE, *PATIENCE, "--measure", "params,memory"),
)
SMALL = ("-m", "msa,sra", "--res", "32", *SIZE, *PATIENCE)
SESSIONS = 12  # of a run with faults; the next one has none
STARTS = 3  # of the command without a fault, within which it must finish
REFUSALS = 8  # of a damaged line, each of which is deleted
LONGEST_S = 240.0  # of a session that should end by itself
GRACE_S = 20.0  # until the processes of a run that was killed have ended
DOCUMENTED = frozenset({0, 2, 3, 4, 130})
DISK = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EIO": errno.EIO, "EROFS": errno.EROFS}
MARK = "ATTNBENCH_FAULTS"  # an environment variable by which the processes of one run are recognised


@dataclass
class Tally:
    """What became of the faults of one kind."""

    injected: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    wrong: int = 0
    running: int = 0
    unfinished: int = 0

    @property
    def bad(self) -> int:
        """Everything that should not be."""
        return sum(getattr(self, f.name) for f in fields(self)) - self.injected


@dataclass
class Campaign:
    """The counts of a campaign, shared by its jobs."""

    seed: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: int = 0
    sessions: int = 0

    def add(self, kind: str, what: str, number: int = 1, detail: str = "") -> None:
        """Count something of this kind."""
        with self.lock:
            tally = self.tallies.setdefault(kind, Tally())
            setattr(tally, what, getattr(tally, what) + number)
            if what == "injected" and number and kind != IN_PROCESS:
                print(f"{time.strftime('%H:%M:%S')} {number} x {kind}", file=sys.stderr, flush=True)
            elif what != "injected":
                self.details.append(f"{kind}: {what}: {detail}")
                print(self.details[-1], file=sys.stderr, flush=True)

    @property
    def injected(self) -> int:
        """Faults so far."""
        with self.lock:
            return sum(tally.injected for tally in self.tallies.values())


class Run:
    """A run folder with what it has acknowledged, and the command that makes and resumes it."""

    def __init__(self, campaign: Campaign, base: Path, request: Sequence[str], outcomes: str = "ok") -> None:
        self.campaign, self.base, self.request = campaign, base, list(request)
        base.mkdir(parents=True)
        with campaign.lock:
            campaign.runs += 1
        self.folder = base / "r"
        self.outcomes = set(outcomes.split())  # that its records may have
        self.kind = ""
        self.history: list[str] = []
        self.problems = 0
        self.code: int | None = None  # of the last session
        self.lines: dict[str, Counter[bytes]] = {}
        self.accept()

    def problem(self, what: str, detail: str) -> None:
        """Count a problem of the last fault."""
        self.problems += 1
        self.campaign.add(self.kind, what, 1, f"{detail} [{self.base.name}: {', '.join(self.history)}]")

    def hit(self, number: int = 1) -> int:
        """Count faults of the kind that is being injected."""
        if number:
            self.campaign.add(self.kind, "injected", number)
        return number

    def read(self) -> dict[str, Counter[bytes]]:
        """The whole lines of records and journal, by file."""
        return {name: Counter(whole_lines(self.folder / name)) for name in (store.RECORDS, store.SAMPLES)}

    def accept(self) -> None:
        """From now on what the folder holds counts as acknowledged."""
        self.lines = self.read()

    def compare(self) -> None:
        """Compare the folder with what it had acknowledged."""
        now = self.read()
        for name, before in self.lines.items():
            ids = Counter(cell_of(line) for line in now[name].elements())
            for line, number in before.items():
                if now[name][line] < number:
                    what = "changed" if name == store.RECORDS and ids[cell_of(line)] else "lost"
                    self.problem(what, f"{name}: {line[:80]!r}")
            known = Counter(cell_of(line) for line in before.elements())
            for cell, number in ids.items():
                if name == store.RECORDS and number > max(1, known[cell]):
                    self.problem("doubled", f"the record of {cell}")
        self.lines = now

    @property
    def complete(self) -> bool:
        """Whether every planned cell has its record."""
        try:
            run = store.open_run(self.folder)
        except AttnbenchError:
            return False
        return {r.cell.id for r in run.records} >= {c.id for c in run.cells}

    def start(self, **given: Any) -> Session:
        """Start the command."""
        return Session(self, **given)

    def finish(self) -> None:
        """Without a fault the same command must finish, and every planned cell must have its record."""
        for _ in range(STARTS):
            with self.start() as session:
                code = session.end()
            if code in (0, 3):
                break
        else:
            self.problem("unfinished", f"exit code {code}: {session.said()[-300:]}")
            return
        self.judge()

    def clean(self) -> None:
        """Delete the folder of a run in which nothing was wrong."""
        if not self.problems:
            shutil.rmtree(self.base, ignore_errors=True)

    def judge(self) -> None:
        """Compare a finished run with its plan."""
        try:
            run, table = store.open_run(self.folder), load(self.folder)
            rounds = [(e.group, (e.process, e.round)) for e in store.read_events(self.folder) if isinstance(e, Round)]
        except AttnbenchError as error:
            self.problem("wrong", f"the finished run cannot be read: {error}")
            return
        planned, kept = sorted(c.id for c in run.cells), sorted(r.cell.id for r in run.records)
        if planned != kept or len(table) != len(planned):
            self.problem("lost" if set(planned) - set(kept) else "doubled", f"{len(kept)} records of {len(planned)}")
        timed = {group: len({r for g, r in rounds if g == group}) for group, _ in rounds}
        for record in run.records:
            used = record.values.get("rounds") or 0
            if record.outcome not in self.outcomes:
                self.problem("wrong", f"{record.cell.variant} is {record.outcome}: {record.reason}")
            elif record.outcome == "ok" and used > timed.get(record.cell.group, 0):
                self.problem("doubled", f"{used} rounds of {timed.get(record.cell.group, 0)}")


class Session:
    """One start of the command; as a context manager it leaves nothing running and compares the folder at its end."""

    def __init__(
        self, run: Run, words: Sequence[str] = ("-q",), prelude: str = "", redirect: str = "", **streams: Any
    ) -> None:
        self.run, self.mark = run, f"{os.getpid()}-{time.monotonic_ns()}"
        self.errors = run.base / f"stderr-{self.mark}"
        self.sign = run.base / f"fault-{self.mark}"  # written by a prelude when its fault comes
        environ = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if prelude:
            patch = run.base / f"patch-{self.mark}"
            patch.mkdir()
            (patch / "sitecustomize.py").write_text(PRELUDE.format(sign=str(self.sign)) + prelude)
            environ["PYTHONPATH"] = f"{patch}{os.pathsep}{ROOT}"
        command = [sys.executable, "-m", "attnbench", "run", *run.request, "--out", str(run.folder), *words]
        if redirect:
            command = [
                "bash",
                "-c",
                f'{redirect.partition("|")[0]}; exec "$@" {redirect.partition("|")[2]}',
                "-",
                *command,
            ]
        with self.errors.open("wb") as errors:
            given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors, **streams}
            self.process = subprocess.Popen(command, cwd=run.base, env=environ, start_new_session=True, **given)
        self.code: int | None = None
        self.sent = 0
        with run.campaign.lock:
            run.campaign.sessions += 1

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        until = time.monotonic() + GRACE_S
        if self.process.poll() is None:
            self.send("group", signal.SIGKILL)
            self.process.wait()
        while (left := marked(self.mark)) and time.monotonic() < until:
            time.sleep(0.05)
        for pid, name in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.run.problem("running", name)
        self.run.code = self.process.returncode
        self.run.compare()

    def said(self) -> str:
        """What it wrote to stderr."""
        return self.errors.read_text(errors="replace")

    def pids(self, target: str) -> list[int]:
        """The processes of a name: `runner`, `server`, `worker`; `group` is the runner with its server."""
        if target in ("runner", "group"):
            return [self.process.pid]
        servers = [p for p in children(self.process.pid) if "attnbench.execution.worker" in command_line(p)]
        return servers if target == "server" else [child for server in servers for child in children(server)]

    def send(self, target: str, number: int) -> bool:
        """Send a signal; False if there was nobody to send it to."""
        if self.process.poll() is not None:
            return False
        until = time.monotonic() + 15
        while not (pids := self.pids(target)) and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            for pid in pids:
                (os.killpg if target == "group" else os.kill)(pid, number)
            if target in ("runner", "group"):
                self.sent = number
            return bool(pids)
        return False

    def wait_for_instant(self, rng: random.Random, longest_s: float = 10.0) -> bool:
        """Until a random instant: by the clock, or by the growth of the journal. False if the command ended before."""
        file, start = self.run.folder / store.SAMPLES, time.monotonic()
        grow = rng.choice((0, 1)) and rng.randrange(1, 3000)
        seconds, before = rng.uniform(0, longest_s), size_of(file)
        while self.process.poll() is None:
            if grow and size_of(file) >= before + grow:
                time.sleep(rng.uniform(0, 0.1))
                break
            if (not grow and time.monotonic() - start >= seconds) or time.monotonic() - start > 60:
                break
            time.sleep(0.005)
        return self.process.poll() is None

    def wait_for_growth(self, size: int) -> bool:
        """Until the journal is larger than that; False if the command ended before."""
        while self.process.poll() is None and size_of(self.run.folder / store.SAMPLES) <= size:
            time.sleep(0.02)
        return self.process.poll() is None

    def end(self, *allowed: int, seconds: float = LONGEST_S) -> int:
        """Let it end by itself; its exit code, which must be 0, 3 or one that is allowed or of a signal sent."""
        try:
            self.code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.run.problem("unfinished", f"it did not end within {seconds:g} s")
            return 1
        if self.code not in {0, 3, *allowed, *([-self.sent] if self.sent else [])}:
            self.run.problem("wrong", f"exit code {self.code}: {self.said()[-300:]}")
        elif "Traceback" in self.said():
            self.run.problem("wrong", f"a traceback: {self.said()[-300:]}")
        return self.code


# --- the kinds: each injects its faults in one session of a run, and returns how many came about

Inject = Callable[[Run, random.Random], int]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        share: how often it is drawn; a small one takes long.
        request: of a run of its own, on which nothing else is injected; empty: it shares runs with other kinds.
        costs: outcomes, beside `ok`, that cells may have by this fault.
    """

    inject: Inject
    share: float = 1.0
    request: tuple[str, ...] = ()
    costs: str = ""


def signals(target: str, number: signal.Signals, *, resumed: bool = False) -> Inject:
    """Send a signal to a process of the run; `resumed`: SIGCONT follows."""

    def inject(run: Run, rng: random.Random) -> int:
        hits, survives = 0, resumed or target == "worker" or (target == "server" and number != signal.SIGSTOP)
        with run.start() as session:
            for again in range(rng.randint(3, 8) if survives else 1):
                if not session.wait_for_instant(rng, 1.5 if again else 10) or not session.send(target, number):
                    break
                hits += run.hit()
                if resumed:
                    time.sleep(rng.uniform(0.01, 0.5))
                    session.send(target, signal.SIGCONT)
            if number == signal.SIGSTOP and not resumed and target in ("runner", "group"):
                time.sleep(rng.uniform(0.1, 1.0))  # nothing can end by itself now; its user ends it
                session.send("group", signal.SIGKILL)
            elif survives and rng.random() < 0.5:
                session.send("group", signal.SIGKILL)  # so that one run takes many faults
            session.end(4, 130)
        return hits

    return inject


# What every process of a session runs first when a fault needs it.
PRELUDE = """
import sys
def _fault(sign={sign!r}):
    open(sign, "a").close()
_runner = "attnbench.execution.worker" not in " ".join(sys.orig_argv)
"""
REFUSES = """
import os, errno
_left, _write, _truncate = [{room}], os.write, os.ftruncate
def _refuse(*_):
    _fault()
    raise OSError({code}, os.strerror({code}))
def _nearly_full(descriptor, data):
    if not _left[0]:
        _refuse()
    part = data[: _left[0]]
    _left[0] -= len(part)
    return _write(descriptor, part)
if _runner:
    os.write = _nearly_full
    if {also}:
        os.ftruncate = lambda *a: _refuse() if not _left[0] else _truncate(*a)
"""
CLOCK = """
import datetime, time
_left, _time, _now = [{calls}], time.time, datetime.datetime.now
def _set(seconds):
    _left[0] -= 1
    if _left[0] < 0:
        _fault()
    return seconds + ({by} if _left[0] < 0 else 0)
class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
time.time = lambda: _set(_time())
time.time_ns = lambda: int(time.time() * 1e9)
datetime.datetime = _Datetime
"""


def refused(code: int) -> Inject:
    """The system refuses to write after so many bytes of journal and records."""

    def inject(run: Run, rng: random.Random) -> int:
        prelude = REFUSES.format(room=rng.randrange(12_000), code=code, also=rng.choice((True, False)))
        with run.start(prelude=prelude) as session:
            session.end(4)
            return run.hit(int(session.sign.exists()))

    return inject


def file_size(run: Run, rng: random.Random) -> int:
    """A limit on the size of files, of the runner and its workers (`ulimit -f`, in bytes)."""
    limit = rng.randrange(64, 40_000)
    with run.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) as session:
        return run.hit(int(session.end(4) == 4))


def clock(run: Run, rng: random.Random) -> int:
    """The wall clock is set back, or forth, in all processes of the session."""
    by = rng.choice((-1, -1, 1)) * rng.choice((60, 3600, 86_400, 30 * 365 * 86_400)) * rng.random()
    with run.start(prelude=CLOCK.format(calls=rng.randrange(40), by=by)) as session:
        session.wait_for_instant(rng, 12)
        session.send("group", signal.SIGKILL)
        session.end()
        return run.hit(int(session.sign.exists()))


def folder_deleted(run: Run, rng: random.Random) -> int:
    """The folder is deleted in mid-run: what it held is gone, and the same command measures it again."""
    with run.start() as session:
        if not session.wait_for_instant(rng) or not run.folder.exists():
            session.send("group", signal.SIGKILL)
            session.end()
            return 0
        shutil.rmtree(run.folder, ignore_errors=True)
        run.accept()
        hit = run.hit()
        session.end(2, 4)
    return hit


def folder_moved(run: Run, rng: random.Random) -> int:
    """The folder is renamed in mid-run, and renamed back when the session has ended or before."""
    away = run.base / "away"
    with run.start() as session:
        if not session.wait_for_instant(rng) or not run.folder.exists():
            session.send("group", signal.SIGKILL)
            session.end()
            return 0
        run.folder.rename(away)
        hit = run.hit()
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 2))
            if not run.folder.exists():
                away.rename(run.folder)
        session.end(2, 4)
        if away.exists():
            shutil.rmtree(run.folder, ignore_errors=True)
            away.rename(run.folder)
    return hit


def two_runners(run: Run, rng: random.Random) -> int:
    """The same command is started twice: one measures, the other is refused."""
    with run.start() as first:
        first.wait_for_instant(rng)
        with run.start() as second:
            code = second.end(2)
            hit = run.hit(int(code == 2))
            if code == 2 and "in use" not in second.said() and first.process.poll() is None:
                run.problem("wrong", f"refused without the reason: {second.said()[-300:]}")
        if rng.random() < 0.7:
            first.send("group", signal.SIGKILL)
        first.end(2)
    return hit


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


def torn(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: -rng.randrange(1, min(len(content), 900))]


def garbage(content: bytes, rng: random.Random) -> bytes:
    """Random bytes at the end, perhaps with a line break."""
    return content + rng.randbytes(rng.randrange(1, 200)) + rng.choice((b"", b"\n"))


def zeros(content: bytes, rng: random.Random) -> bytes:
    """Zero bytes at the end, as some file systems leave them after a power cut."""
    return content + bytes(rng.randrange(1, 4096))


def doubled(content: bytes, rng: random.Random) -> bytes:
    """A line stands twice."""
    return content + rng.choice(content.splitlines(keepends=True))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few bytes of a line have changed."""
    lines = content.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    place = rng.randrange(len(lines[number]) - 1)
    lines[number] = lines[number][:place] + b"\xff\x00\xfe" + lines[number][place + 3 :].rstrip(b"\n") + b"\n"
    return b"".join(lines)


def alien(content: bytes, rng: random.Random) -> bytes:
    """A line of another plan, or none of ours."""
    own = rng.choice(content.splitlines(keepends=True))
    other = re.sub(rb'"(cell|group|cell_id|key)":"[0-9a-f]{12}"', rb'"\1":"0123456789ab"', own)
    other = other.replace(b'"batch":1', b'"batch":7')
    return content + rng.choice((other, b"{}\n", b"[]\n", b"null\n", b'{"kind":"visit"}\n', b"\n"))


def deleted(content: bytes, rng: random.Random) -> None:
    """The file is gone."""


def between_sessions(name: str, damage: Damage) -> Inject:
    """Damage a file, then resume; where a line is refused with its number, delete that line as the message says."""

    def inject(run: Run, rng: random.Random) -> int:
        file = run.folder / name
        if not whole_lines(file):
            return 0
        content = damage(file.read_bytes(), rng)
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        now = run.read()
        for part, before in run.lines.items():
            run.lines[part] = Counter({line: now[part][line] for line in before if now[part][line]})
        hit, size = run.hit(), size_of(run.folder / store.SAMPLES)
        for _ in range(REFUSALS):
            with run.start() as session:
                if session.wait_for_growth(size) and rng.random() < 0.7:  # it has read both files
                    session.send("group", signal.SIGKILL)
                refused = re.search(r"line (\d+) of (\S+?\.jsonl)", session.said()) if session.end(2) == 2 else None
            if not refused:
                return hit
            lines = Path(refused[2]).read_bytes().splitlines(keepends=True)
            run.lines[Path(refused[2]).name] -= Counter([lines.pop(int(refused[1]) - 1)])
            Path(refused[2]).write_bytes(b"".join(lines))
        run.problem("unfinished", f"still refused: {session.said()[-300:]}")
        return hit

    return inject


def read_only(run: Run, rng: random.Random) -> int:
    """The folder cannot be written when the command starts; then it can."""
    if not (run.folder / store.RUN).exists():
        return 0
    with mounted("--bind", str(run.folder), str(run.folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(run.folder)], check=True)
        with run.start() as session:
            session.end(2, 4)
            return run.hit(int(session.code in (2, 4)))


def small_disk(kibibytes: int) -> Inject:
    """A file system of this size; it is enlarged afterwards."""

    def inject(run: Run, rng: random.Random) -> int:
        disk = run.base / "disk"
        disk.mkdir()
        run.folder = disk / "r"
        with mounted("-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(disk)):
            with run.start() as session:
                hit = run.hit(int(session.end(4) == 4))
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            run.finish()
        return hit

    return inject


@contextlib.contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mount, and unmount at the end."""
    subprocess.run(["mount", *words], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", words[-1]], check=False)


def cannot_mount() -> str:
    """Why no file system can be mounted here; empty: it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted("-t", "tmpfs", "-o", "size=16k", "none", folder):
                return ""
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", b"") or b""
            return said.decode(errors="replace").strip() or str(error)


def memory_limit(run: Run, rng: random.Random) -> int:
    """A small --memory-limit: trials end there."""
    run.request += ["--memory-limit", f"{rng.randrange(1, 64)}KiB"]
    with run.start() as session:
        session.end()
    return run.hit(int('"oom"' in (run.folder / store.RECORDS).read_text()))


def address_space(run: Run, rng: random.Random) -> int:
    """A limit on the memory of every process (`ulimit -v`); the next session has none."""
    limit = rng.randrange(900, 3000) << 20
    with run.start(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    ) as session:
        session.end(4)
    return run.hit()


def hostile_layers(run: Run, rng: random.Random) -> int:
    """Layers that raise, exit, hang, forge, flood or change their process; msa and sra must be whole beside them."""
    sys.path.append(str(ROOT / "tests"))
    plugins = runpy.run_path(str(ROOT / "tests" / "plugins.py"))
    tests = runpy.run_path(str(ROOT / "tests" / "execution" / "test_hostile.py"))
    form = rng.choice((tests["LATE"], tests["AT_ONCE"]))
    bodies = {**plugins["HOSTILE"], "writes": tests["WRITES"] + "\n        return x * 1"}
    bodies |= {name: form.format(body) for name, (body, _) in tests["HOSTILE"].items()}
    chosen = rng.sample(sorted(bodies), 4)
    plugin = plugins["write_plugin"](run.base / "hostile.py", {name: bodies[name] for name in chosen})
    place = run.request.index("-m") + 1
    run.request[place] = ",".join(["msa", "sra", *chosen])
    run.request += ["--plugin", str(plugin), "--memory-limit", "1GiB"]
    with run.start() as session:
        session.end()
    for record in store.open_run(run.folder).records:
        whole = (record.outcome, record.values.get("rounds")) == ("ok", 4)
        if record.cell.mechanism in ("msa", "sra") and not whole:
            run.problem("wrong", f"{record.cell.variant} is {record.outcome}: {record.reason}")
    return run.hit(len(chosen))


def left_behind(run: Run, rng: random.Random) -> int:
    """A layer starts programs in sessions of their own, and a process of the run is killed meanwhile."""
    body = "import subprocess; p = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    body += "        p.returncode = 0; del p; return self.line(x)"
    plugin = runpy.run_path(str(ROOT / "tests" / "plugins.py"))["write_plugin"](
        run.base / "starts.py", {"starts": body}
    )
    run.request[run.request.index("-m") + 1] = "msa,sra,starts"
    run.request += ["--plugin", str(plugin)]
    target = rng.choice(("worker", "server", "runner", "runner"))
    number = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
    with run.start() as session:
        while session.process.poll() is None and not any("sleep" in name for _, name in marked(session.mark)):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        hit = run.hit(int(session.send(target, number)))
        session.end(4)
    return hit


def kinds() -> dict[str, Kind]:
    """Every kind of fault by its name."""
    made: dict[str, Kind] = {}
    for target, costs in (("worker", "crashed timeout"), ("server", "crashed timeout"), ("runner", ""), ("group", "")):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            made[f"{number.name} of the {target}"] = Kind(signals(target, number), costs=costs)
        slow = {"worker": 0.25, "server": 0.1}.get(target, 1.0)
        made[f"SIGSTOP of the {target}"] = Kind(signals(target, signal.SIGSTOP), share=slow, costs=costs)
        made[f"SIGSTOP then SIGCONT of the {target}"] = Kind(signals(target, signal.SIGSTOP, resumed=True))
    made |= {f"disk refuses: {name}": Kind(refused(code)) for name, code in DISK.items()}
    made["disk refuses: RLIMIT_FSIZE"] = Kind(file_size)
    made |= {f"disk of {n} KiB": Kind(small_disk(n), share=0, request=SHARED[0]) for n in range(4, 65, 4)}
    made |= {
        "folder deleted": Kind(folder_deleted),
        "folder renamed": Kind(folder_moved),
        "folder read-only": Kind(read_only),
        "two runners in one folder": Kind(two_runners),
        "wall clock set": Kind(clock),
        "memory: --memory-limit": Kind(memory_limit, share=0.5, request=SMALL, costs="oom"),
        "memory: RLIMIT_AS": Kind(address_space, share=0.5, request=SMALL, costs="oom failed crashed"),
        "hostile layers": Kind(hostile_layers, request=SMALL, costs="oom failed crashed timeout"),
        "programs left behind": Kind(left_behind, request=SMALL, costs="failed crashed timeout"),
    }
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1"):
        made[f"stream: {redirect}"] = Kind(redirected(redirect), share=0.5)
    made["stream: --json >/dev/full"] = Kind(redirected(">/dev/full", "--json"), share=0.5)
    made["stream: reader of stderr leaves"] = Kind(reader_leaves("stderr"), share=0.5)
    made["stream: reader of stdout leaves"] = Kind(reader_leaves("stdout"), share=0.5)
    made["stream: terminal closed"] = Kind(terminal_leaves(False))
    made["stream: terminal closed under nohup"] = Kind(terminal_leaves(True), share=0.5)
    for damage in (torn, garbage, zeros, doubled, damaged, alien, deleted):
        for name, short in ((store.RECORDS, "records"), (store.SAMPLES, "journal")):
            made[f"{short}: {damage.__name__}"] = Kind(between_sessions(name, damage))
    return made


# --- the journal alone, in this process

IN_PROCESS = "journal alone"


def every_byte(campaign: Campaign, folder: Path) -> None:
    """Let the system refuse at every byte of a journal, and tear it at every byte; then go on, or open it again."""
    lines = [{"n": n, "text": "x" * (7 * n % 23)} for n in range(9)]
    whole = [(json.dumps(line, separators=(",", ":")) + "\n").encode() for line in lines]
    path = folder / "journal"
    for room, code, truncates, reopens in itertools.product(
        range(sum(map(len, whole))), DISK.values(), (True, False), (True, False)
    ):
        path.unlink(missing_ok=True)
        with nearly_full(room, code, truncates):
            acknowledged = fill(made := journal.Journal(path).open(), lines)
        if reopens:
            made.close()
            made = journal.Journal(path).open()
        rest = fill(made, lines[acknowledged:])
        made.close()
        judge_journal(campaign, path, whole, acknowledged, f"byte {room}, error {code}", rest)
    for length in range(sum(map(len, whole))):
        path.write_bytes(b"".join(whole)[:length])
        kept = path.read_bytes().count(b"\n")
        made = journal.Journal(path).open()
        rest = fill(made, lines[kept:])
        made.close()
        judge_journal(campaign, path, whole, kept, f"torn at byte {length}", rest)


def fill(made: journal.Journal, lines: Sequence[dict[str, Any]]) -> int:
    """Append these lines until one is refused; how many were not."""
    for number, line in enumerate(lines):
        try:
            made.append(line, sync=False)
        except AttnbenchError:
            return number
    return len(lines)


def judge_journal(campaign: Campaign, path: Path, whole: list[bytes], kept: int, where: str, rest: int) -> None:
    """Compare a journal with the lines that it was given."""
    campaign.add(IN_PROCESS, "injected")
    now = path.read_bytes().splitlines(keepends=True)
    if kept + rest != len(whole):
        campaign.add(IN_PROCESS, "unfinished", 1, where)
    elif now != whole:
        what = "lost" if set(whole) - set(now) else "doubled" if len(now) > len(whole) else "changed"
        campaign.add(IN_PROCESS, what, 1, where)


@contextlib.contextmanager
def nearly_full(room: int, code: int, truncates: bool) -> Iterator[None]:
    """Within it the journal's calls of the system are refused after so many bytes."""
    left = [room]

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            refuse()
        part, left[0] = data[: left[0]], max(0, left[0] - len(data))
        return os.write(descriptor, part)

    ftruncate = os.ftruncate if truncates else refuse
    fake = SimpleNamespace(**{**vars(os), "write": write, "ftruncate": ftruncate, "fsync": lambda _: None})
    journal.os = fake  # type: ignore[attr-defined]
    try:
        yield
    finally:
        journal.os = os  # type: ignore[attr-defined]


# --- the campaign


def work(campaign: Campaign, folder: Path, number: int, next_kind: Callable[[], str]) -> None:
    """Runs with faults, one after another, until there is no kind left."""
    known, runs = kinds(), itertools.count()
    run: Run | None = None
    while name := next_kind():
        kind = known[name]
        rng = random.Random(f"{campaign.seed} {name} {number} {next(runs)}")
        if kind.request:
            own = Run(campaign, folder / f"{number}-{next(runs)}", kind.request, f"ok {kind.costs}")
            inject(own, name, kind, rng)
            if own.folder.parent == own.base:  # a disk of its own is gone by now
                own.finish()
            own.clean()
            continue
        run = run or Run(campaign, folder / f"{number}-{next(runs)}", SHARED[next(runs) % 2])
        run.outcomes |= set(kind.costs.split())
        if not inject(run, name, kind, rng) and not run.complete:
            with run.start() as session:  # make progress
                session.wait_for_instant(rng)
                session.send("group", signal.SIGKILL)
                session.end()
        if run.code in (0, 3) and run.complete:
            run.judge()
        elif run.complete or len(run.history) >= SESSIONS:
            run.finish()
        else:
            continue
        run.clean()
        run = None
    if run:
        run.finish()
        run.clean()


def inject(run: Run, name: str, kind: Kind, rng: random.Random) -> int:
    """Inject a fault of this kind; a mistake of this script is reported as one."""
    run.kind = name
    run.history.append(name)
    return kind.inject(run, rng)


def deck(campaign: Campaign, names: Sequence[str], count: int, until: float) -> Callable[[], str]:
    """What gives the next kind, every kind once and then by its share, until enough faults were injected."""
    rng, known, waiting, lock = (
        random.Random(campaign.seed),
        kinds(),
        rng_shuffled(campaign.seed, names),
        threading.Lock(),
    )

    def next_kind() -> str:
        with lock:
            if campaign.injected >= count or time.monotonic() > until:
                return ""
            while not waiting:
                waiting.extend(n for n in rng.sample(names, len(names)) if rng.random() < known[n].share)
            return waiting.pop()

    return next_kind


def rng_shuffled(seed: int, names: Sequence[str]) -> list[str]:
    """The names in a random order."""
    return random.Random(seed).sample(names, len(names))


def whole_lines(file: Path) -> list[bytes]:
    """The lines of a file that end and hold an object."""
    found = []
    with contextlib.suppress(OSError):
        for line in file.read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError):
                if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                    found.append(line)
    return found


def cell_of(line: bytes) -> str:
    """The id of the cell that a record is of."""
    found = re.search(rb'"cell_id":"([0-9a-f]{12})"', line)
    return found[1].decode() if found else ""


def size_of(file: Path) -> int:
    """The bytes of a file; 0 for none."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, file.read_text().split())
    return found


def command_line(pid: int) -> str:
    """The words that started a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def marked(mark: str) -> list[tuple[int, str]]:
    """The processes of a session that live, with their command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((int(folder.name), command_line(int(folder.name))))
    return found


def row_name(name: str) -> str:
    """The row of the table that a kind is counted in."""
    return "disk of 4 to 64 KiB, in steps of 4" if name.startswith("disk of") else name


def table(campaign: Campaign) -> str:
    """The counts as a table in Markdown."""
    rows: dict[str, Tally] = {}
    order = [*kinds(), IN_PROCESS]
    for name in sorted(campaign.tallies, key=order.index):
        row, tally = rows.setdefault(row_name(name), Tally()), campaign.tallies[name]
        for f in fields(Tally):
            setattr(row, f.name, getattr(row, f.name) + getattr(tally, f.name))
    real = [t for name, t in rows.items() if name != IN_PROCESS]
    total = Tally(**{f.name: sum(getattr(t, f.name) for t in real) for f in fields(Tally)})
    shown = {**{f"`{n}`" if "/" in n or "&" in n else n: t for n, t in rows.items() if n != IN_PROCESS}}
    shown["**all faults in real runs**"] = total
    if IN_PROCESS in rows:
        shown["faults of the journal alone, at every byte"] = rows[IN_PROCESS]
    head = ("fault", "injected", "lost", "doubled", "changed", "wrong end", "left running", "not finished")
    text = f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n"
    for name, tally in shown.items():
        text += f"| {name} | {' | '.join(str(getattr(tally, f.name)) for f in fields(Tally))} |\n"
    return text


def main() -> None:
    """Run a campaign; exit with code 1 if anything was lost, doubled or changed, ended wrongly or did not finish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300, help="faults in real runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="*", help="patterns of names, separated by commas; --list shows the names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no fault is injected any more")
    parser.add_argument("--out", help="write the page here")
    parser.add_argument("--list", action="store_true", help="print the names of the kinds")
    given = parser.parse_args()
    if given.list:
        print("\n".join([*kinds(), IN_PROCESS]))
        return
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the runs would inherit that it is ignored
    campaign = run_campaign(given.seed, given.count, given.kinds.split(","), given.jobs, given.minutes)
    print(table(campaign))
    if given.out:
        names = ("count", "seed", "jobs", *(("minutes",) if given.minutes < math.inf else ()))
        words = [f"--{name} {getattr(given, name)}" for name in names]
        Path(given.out).write_text(page(campaign, " ".join([*words, f"--kinds '{given.kinds}'"])))
    sys.exit(1 if any(tally.bad for tally in campaign.tallies.values()) else 0)


def run_campaign(seed: int, count: int, patterns: Sequence[str], jobs: int = 1, minutes: float = math.inf) -> Campaign:
    """Inject so many faults of these kinds, or those that come about in so many minutes."""
    campaign = Campaign(seed)
    names = [n for n in kinds() if any(fnmatch.fnmatch(n, p) for p in patterns)]
    why = cannot_mount() if any(n.startswith("disk of") or n == "folder read-only" for n in names) else ""
    if why:
        print(
            f"file systems of a small size are left out: {why}; with `unshare -rm` they may be possible",
            file=sys.stderr,
        )
        names = [n for n in names if not n.startswith("disk of") and n != "folder read-only"]
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    if any(fnmatch.fnmatch(IN_PROCESS, p) for p in patterns):
        every_byte(campaign, folder)
    if names:
        following = deck(campaign, names, count + campaign.injected, time.monotonic() + 60 * minutes)
        with ThreadPoolExecutor(jobs) as pool:
            for job in [pool.submit(work, campaign, folder, number, following) for number in range(jobs)]:
                job.result()
    if campaign.details:
        print(f"the runs in which something was wrong are kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return campaign


def page(campaign: Campaign, words: str) -> str:
    """The page in docs/."""
    made = environment.describe(("cpu",))
    return PAGE.format(
        date=time.strftime("%Y-%m-%d"), machine=made.machine_label, torch=environment.torch_version(), words=words,
        real=sum(t.injected for n, t in campaign.tallies.items() if n != IN_PROCESS),
        alone=campaign.tallies.get(IN_PROCESS, Tally()).injected, table=table(campaign),
        problems="".join(f"\n\n- {d}" for d in campaign.details) or "nothing.", runs=campaign.runs,
        sessions=campaign.sessions, grace=GRACE_S, starts=STARTS,
    )  # fmt: skip


PAGE = """# Faults

Made by `make faults` ({date}, {machine}, torch {torch}): `python benchmarks/faults.py {words}`.

{real} faults were injected at random instants into {runs} real runs (`attnbench run` on small layers, {sessions} starts
of the command), and {alone} into the journal alone, in one process: a refusal at every byte with each of four errors, and a torn
end at every byte. After each session of a run the folder is compared with what it held before, and the same command is
started again, until it has finished the run; then the records are compared with the plan.

- **injected**: faults that came about. A signal may hit a run that is starting, trying, timing or ending.
- **lost**, **doubled**, **changed**: records, or events of the journal, that were on the disk before the fault.
- **wrong end**: an exit code that is not documented (or is not the signal's), a traceback, or a record whose outcome or
  reason the fault does not explain.
- **left running**: processes of the run that lived {grace:g} s after it.
- **not finished**: the same command did not end by itself, or did not finish the run in {starts} starts without
  a fault.

{table}
What was not as it should be: {problems}

## What the rows mean

| rows | fault |
| --- | --- |
| a signal *of the worker*, *server*, *runner*, *group* | sent to the process of a job, to its fork server, to the command itself, or to the process group of command and server. A stopped runner or group is killed after a while |
| *disk refuses* | the system refuses to write after a random number of bytes of records and journal; RLIMIT_FSIZE: a limit on the size of every file |
| *disk of ... KiB* | a run in a file system of that size, enlarged afterwards |
| *folder* | deleted or renamed during the run (and renamed back), or read-only when the command starts. What a deleted folder held is measured again |
| *wall clock set* | `time.time` and `datetime` jump by up to 30 years, in every process |
| *memory* | a `--memory-limit` of some KiB; a limit on the address space of every process |
| *hostile layers* | plugins that raise, exit, hang, allocate without end, kill their process, forge messages, or change what layers share; `msa` and `sra` beside them must be whole |
| *programs left behind* | a layer starts programs in sessions of their own, and worker, server or runner is killed |
| *stream* | a standard stream that is closed or full from the start, or whose reader or terminal goes away |
| *records*, *journal* | between two sessions the end of the file is torn, or random bytes, zero bytes, a copied or an alien line are added, a line is damaged, or the file is deleted. A line that the command refuses with its number is deleted, as its message says |

## What is not covered

The kernel's out-of-memory killer is represented by SIGKILL, a power cut by torn ends and zero bytes; a disk that loses
bytes which it acknowledged is not represented. SIGKILL of the runner and its fork server at the same instant leaves
nobody to end a program that a layer had started in a session of its own. A line that was changed into another valid
one is not noticed: lines carry no checksums.
"""  # noqa: E501

if __name__ == "__main__":
    main()
