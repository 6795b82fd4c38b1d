"""A run folder with what it has acknowledged, one start of its command, and the processes of that start."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attnbench.analysis.table import load
from attnbench.errors import AttnbenchError
from attnbench.results import store
from attnbench.results.events import Round
from injection import preludes
from injection.campaign import Campaign

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--dim", "24", "--heads", "3", "--batch", "1", "--threads", "1", "--rounds", "4", "--processes", "2"]
PATIENCE = ["--timeout", "20"]
RESOLUTIONS = ["--res", "16,32,48,64,80,96"]
# Two requests that runs take in turn: one gives its records group by group and has a fork server for each timing
# process, the other gives them one by one.
SHARED = (
    ("-m", "msa,sra", *RESOLUTIONS, *SIZE, *PATIENCE, "--protocol", "rigorous"),
    ("-m", "msa,sra", *RESOLUTIONS, *SIZE, *PATIENCE, "--protocol", "quick", "--measure", "params,memory"),
)
SMALL = ("-m", "msa,sra", "--res", "32", *SIZE, *PATIENCE, "--protocol", "quick")
SESSIONS = 12  # of a run with faults; the next one has none
STARTS = 3  # of the command without a fault, within which it must finish
REFUSALS = 8  # of a damaged line, each of which is deleted
LONGEST_S = 240.0  # of a session that should end by itself
GRACE_S = 20.0  # until the processes of a run that was killed have ended
DOCUMENTED = frozenset({0, 2, 3, 4, 130})

MARK = "ATTNBENCH_FAULTS"  # an environment variable by which the processes of one run are recognised


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
        self.journal_deleted = False  # what its records came from is gone then
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
            elif record.outcome == "ok" and used > timed.get(record.cell.group, 0) and not self.journal_deleted:
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
            (patch / "sitecustomize.py").write_text(preludes.PRELUDE.format(sign=str(self.sign)) + prelude)
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


Inject = Callable[[Run, random.Random], int]  # a fault in one session of a run; how many came about


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
