"""Record <-> run folder: run.json, records.jsonl and samples.jsonl, safe against being killed at any instant.

run.json holds the request, the plan and its hash, the environment, versions, seed and commit. records.jsonl
grows by one synced line a cell. samples.jsonl is the journal: every trial, count and timed round as it came,
so that a killed run goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.machine.fingerprint import differences
from attnbench.planning.sweep import Cell, Plan
from attnbench.results.events import Ceilings, Event, Round, from_line, to_line
from attnbench.results.journal import Journal, disk_errors, read_lines
from attnbench.results.lines import encode
from attnbench.results.record import SCHEMA, Record, from_dict
from attnbench.results.run_facts import RunFacts, read_facts

if TYPE_CHECKING:
    import pandas as pd

RUN, RECORDS, SAMPLES = "run.json", "records.jsonl", "samples.jsonl"


@dataclass
class Run:
    """A run folder, open: its facts, the records and the journal."""

    folder: Path
    facts: RunFacts
    records: list[Record]
    torn: str = ""

    @property
    def id(self) -> str:
        """The run's own identifier."""
        return self.facts.run_id

    @property
    def cells(self) -> list[Cell]:
        """Every planned cell, in order."""
        return list(self.facts.planned.cells)


class Writer:
    """A run folder open for measuring; one process at a time, held by a lock that dies with it."""

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self.folder, self.facts = folder, facts
        self._lock = _open_lock(folder / ".lock")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise AttnbenchError(
                f"a run folder serves one run at a time; {folder} is in use by another process; wait, or use --out"
            ) from error
        self._records, self._samples = Journal(folder / RECORDS), Journal(folder / SAMPLES)
        try:
            self.records = _records(self._records.open().lines, folder)
            self.events = _events(self._samples.open().lines, folder)
        except BaseException:
            self.close()
            raise
        self.done = {record.cell.id for record in self.records}

    @property
    def id(self) -> str:
        """The run's own identifier."""
        return self.facts.run_id

    def add(self, record: Record) -> None:
        """Store the record of one cell, once.

        Raises:
            ValueError: the cell has a record already.
        """
        if record.cell.id in self.done:
            raise ValueError(f"a cell has one record; got a second for {record.cell.variant}")
        self._records.append(record.as_dict())
        self.done.add(record.cell.id)
        self.records.append(record)

    def log(self, event: Event) -> None:
        """Append an event to the journal. It is not synced: what a power cut takes is measured again."""
        self._samples.append(to_line(event), sync=False)

    def require_every_record(self) -> None:
        """Compare the file of records on the disk with the plan, at the end of a run.

        Raises:
            UnfinishedError: a planned cell has no record there.
        """
        path = self.folder / RECORDS
        kept = {record.cell.id for record in _records(read_lines(path)[0], self.folder)}
        planned = {cell.id for cell in self.facts.planned.cells}
        if planned - kept:
            raise UnfinishedError(
                f"every planned cell has a record; {len(planned - kept)} of {len(planned)} are not in {path}, which "
                "was deleted or changed during the run; run the same command again"
            )

    def close(self) -> None:
        """Close the files and let go of the folder; a second call does nothing."""
        self._records.close()
        self._samples.close()
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_or_resume(folder: Path, plan: Plan, facts: RunFacts) -> Writer:
    """Open `folder` for this plan: a new run with these facts, or the same plan's run to resume.

    Raises:
        AttnbenchError: the folder holds another plan or a run of another machine, is damaged, cannot be written, or
            is in use.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if path.exists():
        old = _facts(folder)
        if old.planned.hash != plan.hash:
            raise AttnbenchError(
                f"an output folder holds one plan; {folder} holds plan {old.planned.hash}, this is {plan.hash}; "
                "choose another --out, or repeat the command that made it"
            )
        if old.schema != SCHEMA:
            raise AttnbenchError(
                f"a run is resumed in the schema that it was started in; {folder} has schema {old.schema}, we "
                f"write {SCHEMA}; choose another --out, or measure anew with --fresh"
            )
        _check_machine(folder, old, facts)
        with disk_errors(folder):
            return Writer(folder, old)
    if any(folder.glob("*.jsonl")):
        raise AttnbenchError(f"a run folder has a {RUN}; {folder} has records without it; choose another --out")
    text = json.dumps(encode(facts.of_plan(plan, secrets.token_hex(4))), indent=1, default=str)
    with disk_errors(folder):
        fresh = folder / f".{RUN}.{os.getpid()}"
        try:
            with fresh.open("w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        return Writer(folder, read_facts(json.loads(text), str(path)))


def _check_machine(folder: Path, old: RunFacts, now: RunFacts) -> None:
    """Refuse to resume a run on another machine than the one that it was started on, where both are known."""
    began, here = old.environment.fingerprint, now.environment.fingerprint
    differ = differences(began, here) if began.known and here.known else []
    if differ:
        raise AttnbenchError(
            f"a run is of one machine; {folder} was started on {old.machine}, this is {now.machine}: "
            f"{'; '.join(differ)}; choose another --out"
        )


def open_run(folder: Path | str) -> Run:
    """Read a run folder.

    Raises:
        AttnbenchError: it is no run folder, is damaged, or of an unknown schema.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AttnbenchError(
            f"a run is a folder; got {str(folder)!r}, which is {'a file' if folder.exists() else 'not there'}"
        )
    facts = _facts(folder)
    lines, whole = read_lines(folder / RECORDS)
    file = folder / RECORDS
    torn = "the last line was torn and left out" if file.exists() and file.stat().st_size > whole else ""
    return Run(folder, facts, _records(lines, folder), torn)


def set_aside(folder: Path) -> Path | None:
    """Rename a complete run to FOLDER.1, FOLDER.2, ... so that its place is free; anything else stays.

    Raises:
        AttnbenchError: it cannot be renamed.
    """
    if not (folder / RUN).exists():
        return None
    old = open_run(folder)
    if len(old.records) < len(old.cells):
        return None
    number = 1
    while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    with disk_errors(folder):
        folder.rename(kept)
    return kept


def load(*folders: Path | str) -> pd.DataFrame:
    """The records of one or more runs as a table, one row a cell, columns as `attnbench export` writes them.

    Args:
        *folders: run folders.

    Raises:
        AttnbenchError: a folder that is no run, or is damaged.
    """
    import pandas as pd

    from attnbench.results.record import COLUMNS, MORE_COLUMNS

    rows = [record.row() for folder in folders for record in open_run(folder).records]
    return pd.DataFrame(rows, columns=[*COLUMNS, *MORE_COLUMNS])


def read_events(folder: Path) -> list[Event]:
    """The journal of a run: counts, trials, probes, rounds, drops, ceilings and sessions, in order.

    Raises:
        AttnbenchError: a line is damaged.
    """
    return _events(read_lines(folder / SAMPLES)[0], folder)


def read_rounds(folder: Path) -> dict[str, list[Round]]:
    """The timed rounds of a run by comparison group.

    Raises:
        AttnbenchError: a line is damaged.
    """
    rounds: dict[str, list[Round]] = {}
    for event in read_events(folder):
        if isinstance(event, Round):
            rounds.setdefault(event.group, []).append(event)
    return rounds


def read_ceilings(folder: Path) -> list[Ceilings]:
    """What a run measured its machine to reach, in order; the rest of its journal is not decoded.

    Raises:
        AttnbenchError: a line is damaged.
    """
    lines = [line for line in read_lines(folder / SAMPLES)[0] if line.get("kind") == Ceilings.kind]
    return [event for event in _events(lines, folder) if isinstance(event, Ceilings)]


def _events(lines: Iterable[Mapping[str, Any]], folder: Path) -> list[Event]:
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(from_line(line))
        except ValueError as error:
            raise AttnbenchError(
                f"every line of {SAMPLES} is an event; line {number} of {folder / SAMPLES} is damaged: {error}; "
                "delete that line (its rounds will be measured again)"
            ) from error
    return events


def _facts(folder: Path) -> RunFacts:
    path = folder / RUN
    if not path.exists():
        raise AttnbenchError(f"a run folder has a {RUN}; {folder} has none; name a folder that `attnbench run` made")
    try:
        with disk_errors(path):
            content = path.read_text()
        return read_facts(json.loads(content), str(path))
    except ValueError as error:
        raise AttnbenchError(f"{path} is damaged ({error}); restore it, or measure anew") from error


def _records(lines: Iterable[Mapping[str, Any]], folder: Path) -> list[Record]:
    found: dict[str, Record] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = from_dict(line)
        except AttnbenchError as error:
            raise AttnbenchError(f"line {number} of {folder / RECORDS}: {error}") from error
        found.setdefault(record.cell.id, record)
    return list(found.values())


def _open_lock(path: Path) -> int:
    """A descriptor of the lock file; a link there is refused, since opening it would touch what it points to.

    Raises:
        AttnbenchError: it is a symbolic link.
        OSError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AttnbenchError(f"a lock is a plain file; {path} is a symbolic link; delete it") from error
        raise
