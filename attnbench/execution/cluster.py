"""A sweep on a Slurm cluster: its parts become jobs, the jobs run folders, and the folders one collection.

The coordinator measures nothing and holds no result. A part is done when one of its run folders has every record; what
Slurm says of a job only decides whether to wait or to submit the part again. So it may be killed at any time, and the
same command goes on: with the jobs that are left, and with what they have measured.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnbench import registry
from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.execution.interrupts import Interrupted
from attnbench.execution.runner import with_protocols_batch
from attnbench.execution.slurm_job import Part
from attnbench.execution.slurm_queue import LOGS, Queue, Request
from attnbench.planning import cut
from attnbench.planning.cell import digest
from attnbench.planning.sweep import Plan, Sweep, plan
from attnbench.results import collection
from attnbench.results.folder_lock import FolderLock
from attnbench.results.journal import Journal, disk_errors
from attnbench.results.store import RECORDS, RUN, SAMPLES, open_run

JOBS = "jobs.jsonl"
FRUITLESS = 3  # jobs of a part in a row that stored nothing, until it is given up


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands: parts by state, and records so far."""

    done: int
    running: int
    waiting: int
    parts: int
    records: int

    def __str__(self) -> str:
        return (
            f"parts: {self.done} of {self.parts} done, {self.running} running, {self.waiting} waiting; "
            f"{self.records} records"
        )


def plan_of(sweep: Sweep) -> Plan:
    """The plan of a sweep as far as it can be made without its devices, which a login node may lack.

    Raises:
        AttnbenchError: whatever of the request cannot be served anywhere.
    """
    return plan(with_protocols_batch(sweep), registry.load(sweep.plugins, rehearse=True))


def default_folder(planned: Plan) -> Path:
    """The folder of a sweep that was given no --out: the same command finds it again."""
    return Path("runs") / f"slurm-{planned.sweep.protocol}-{planned.hash}"


def run(
    planned: Plan, folder: Path, request: Request, *, command: str,
    watch: Callable[[Progress], None], say: Callable[[str], None], ask: Callable[[str], bool],
) -> Path:  # fmt: skip
    """Measure a sweep by Slurm jobs into the collection `folder`; resume it if it holds the same sweep.

    Args:
        planned: as `plan_of` gives it.
        folder: on a file system that the nodes share.
        request: what is asked of Slurm.
        command: what resumes the sweep, for the record.
        watch: receives the progress, when it changes.
        say: receives messages for the user.
        ask: puts a yes-or-no question, at Ctrl-C.

    Raises:
        AttnbenchError: a folder that cannot be used, or Slurm refuses the jobs.
        UnfinishedError: a part was given up.
        Interrupted: Ctrl-C; the same call resumes.
    """
    collection.begin(folder, plan=planned.hash)
    holds = collection.read(folder)
    if holds.get("plan") != planned.hash:
        raise AttnbenchError(
            f"a folder of --executor slurm holds one sweep; {folder} holds {holds.get('plan', 'merged runs')}, this is "
            f"{planned.hash}; choose another --out"
        )
    with disk_errors(folder):
        lock = FolderLock(folder)
    with lock:
        absolute = folder.resolve()
        queue = Queue(f"attnbench-{digest([str(absolute), planned.hash])[:12]}", absolute / LOGS, request)
        _Coordinator(queue, request, _parts(planned.sweep, request, absolute, command), absolute, watch, say, ask).go()
    return folder


def _parts(sweep: Sweep, request: Request, folder: Path, command: str) -> list[Part]:
    """The parts of the sweep for every kind of node, plugins by their absolute paths."""
    sweep = replace(sweep, plugins=tuple(str(Path(plugin).resolve()) for plugin in sweep.plugins))
    return [
        Part("-".join([*[kind] * bool(kind), cut.name(part)]), part, folder / collection.PARTS, kind, command)
        for kind in request.kinds
        for part in cut.cut(sweep)
    ]


class _Coordinator:
    def __init__(
        self, queue: Queue, request: Request, parts: Sequence[Part], folder: Path,
        watch: Callable[[Progress], None], say: Callable[[str], None], ask: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.queue, self.request, self.parts = queue, request, parts
        self.watch, self.say, self.ask = watch, say, ask
        self.jobs = Journal(folder / JOBS)
        self.last: dict[str, str] = {}  # the last job of a part, by the part's name
        self.stored: dict[str, int] = {}  # bytes that a part had when its last job was submitted
        self.fruitless: Counter[str] = Counter()
        self.finished: set[str] = set()  # names of the parts that lack no record
        self.records: dict[str, int] = {}  # that a part has
        self.told: Progress | None = None
        self.said: set[str] = set()

    def go(self) -> None:
        """Submit what is left, wait, and submit again what was lost, until every part is done."""
        self.jobs.open().drop_torn()
        self.last = {str(line["part"]): str(line["job"]) for line in self.jobs.lines}
        try:
            while True:
                left = self.queue.left()  # before the folders are read: what ended before has stored everything
                open_parts = self._open()
                if not open_parts:
                    break
                if left is None:
                    self._say_once("Slurm does not answer; waiting for it")
                else:
                    self._tell(left)
                    self._submit_lost(open_parts, left)
                time.sleep(self.request.poll_s)
            self._tell({})
        except KeyboardInterrupt:
            self._on_interrupt()
            raise Interrupted from None
        finally:
            self.jobs.close()

    def _open(self) -> list[Part]:
        """The parts that lack records; what the others hold is not read again."""
        found = []
        for part in self.parts:
            if part.name not in self.finished:
                runs = [open_run(folder) for folder in folders(part)]
                self.records[part.name] = max((len(run.records) for run in runs), default=0)
                if any(not run.missing for run in runs):
                    self.finished.add(part.name)
                else:
                    found.append(part)
        return found

    def _submit_lost(self, open_parts: Sequence[Part], left: Mapping[str, str]) -> None:
        """Submit the parts that no job serves; first come the jobs of a coordinator that was killed as it submitted."""
        lost = [part for part in open_parts if self.last.get(part.name) not in left]
        if not lost or left.keys() - set(self.last.values()):
            return
        for part in lost:
            if part.name in self.stored:
                fruitless = _stored(part) == self.stored[part.name]
                self.fruitless[part.name] = self.fruitless[part.name] + 1 if fruitless else 0
        given_up = [part for part in lost if self.fruitless[part.name] >= FRUITLESS]
        if given_up and len(given_up) == len(open_parts):
            first = given_up[0]
            why = self.queue.log_of(self.last[first.name]) or "its log says nothing"
            raise UnfinishedError(
                f"a part is given up after {FRUITLESS} jobs in a row that stored nothing; {len(given_up)} of "
                f"{len(self.parts)} are, the first {first.name}, job {self.last[first.name]}: {why}; see "
                f"{self.jobs.path.parent / LOGS}, then run the same command again"
            )
        for kind in self.request.kinds:
            self._submit([part for part in lost if part.kind == kind and part not in given_up], kind)

    def _submit(self, parts: Sequence[Part], kind: str) -> None:
        if not parts:
            return
        again = sum(part.name in self.last for part in parts)
        self.stored |= {part.name: _stored(part) for part in parts}
        ids = self.queue.submit(parts, kind)
        for part, job in zip(parts, ids, strict=True):
            self.jobs.append({"part": part.name, "job": job})
            self.last[part.name] = job
        of_kind = f" for {kind}" if kind else ""
        self.say(f"submitted {len(parts)} jobs{of_kind} as {ids[0].partition('_')[0]}; {again} of them again")

    def _tell(self, left: Mapping[str, str]) -> None:
        mine = [left[job] for name, job in self.last.items() if name not in self.finished and job in left]
        now = Progress(
            done=len(self.finished),
            running=sum(state == "RUNNING" for state in mine),
            waiting=sum(state != "RUNNING" for state in mine),
            parts=len(self.parts),
            records=sum(self.records.values()),
        )
        if now != self.told:
            self.told = now
            self.watch(now)

    def _say_once(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.say(text)

    def _on_interrupt(self) -> None:
        left = self.queue.left() or {}
        if not left:
            return
        if self.ask(f"cancel the {len(left)} jobs that are left? Otherwise they go on; the same command follows them"):
            self.queue.cancel()
        else:
            self.say(f"{len(left)} jobs go on; cancel them with: scancel --name={self.queue.name}")


def folders(part: Part) -> list[Path]:
    """The run folders of a part: one for each machine that began it."""
    return [folder for folder in part.folder.glob(f"{part.name}.*") if (folder / RUN).exists()]


def _stored(part: Part) -> int:
    files = (folder / name for folder in folders(part) for name in (RECORDS, SAMPLES))
    return sum(file.stat().st_size for file in files if file.exists())
