"""Record <-> run folder: run.json, records.jsonl and samples.jsonl, safe against being killed at any instant.

run.json holds the request, the plan and its hash, the environment, versions, seed and commit. records.jsonl
grows by one synced line a cell. samples.jsonl is the journal: every trial, count and timed round as it came,
so that a killed run goes on from there.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.machine.fingerprint import differences
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan
from attnbench.results.events import Ceilings, Event, Round, from_line, to_line
from attnbench.results.folder_lock import FolderLock
from attnbench.results.journal import Journal, disk_errors, read_json, read_lines
from attnbench.results.lines import encode
from attnbench.results.record import SCHEMA, Record, from_dict, storable
from attnbench.results.run_facts import RunFacts, read_facts

RUN, RECORDS, SAMPLES = "run.json", "records.jsonl", "samples.jsonl"


@dataclass
class Run:
    """A run folder that was read: its facts and its records, one a cell; `torn`: what was left out, if anything."""

    folder: Path
    facts: RunFacts
    records: list[Record]
    torn: str = ""
    repeated: int = 0

    @property
    def id(self) -> str:
        """The run's own identifier."""
        return self.facts.run_id

    @property
    def cells(self) -> list[Cell]:
        """Every planned cell, in order."""
        return list(self.facts.planned.cells)

    @property
    def strays(self) -> list[Record]:
        """The records that do not belong here: of a cell that is not planned, or of another run."""
        planned = {cell.id for cell in self.cells}
        return [r for r in self.records if r.cell.id not in planned or r.run_id != self.id]

    @property
    def missing(self) -> int:
        """How many planned cells have no record."""
        return len({cell.id for cell in self.cells} - {r.cell.id for r in self.records})

    @property
    def problems(self) -> list[str]:
        """What is wrong with the folder although it can be read: sentences without the folder's name."""
        planned, strays = {cell.id for cell in self.cells}, self.strays
        unplanned = sum(r.cell.id not in planned for r in strays)
        found = [f"{name} is missing" for name in (RECORDS, SAMPLES) if not (self.folder / name).exists()]
        if self.torn:
            found.append(f"{self.torn}; the command that made the run measures it again")
        if unplanned:
            found.append(f"{unplanned} records of cells that its plan does not name; they are shown")
        if len(strays) > unplanned:
            found.append(f"{len(strays) - unplanned} records of another run than {self.id}; they are shown")
        if self.repeated:
            found.append(f"{self.repeated} records of a cell that has one already; the first is used")
        return found


class Writer:
    """A run folder open for measuring; one process at a time, held by a lock that dies with it."""

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self.folder, self.facts = folder, facts
        self._lock = FolderLock(folder)
        self._records, self._samples = Journal(folder / RECORDS), Journal(folder / SAMPLES)
        try:
            self.records = self._own_records()
            self.events = _events(self._samples.open().lines, folder)
            self._records.drop_torn()
            self._samples.drop_torn()
        except BaseException:
            self.close()
            raise
        self.done = {record.cell.id for record in self.records}

    @property
    def id(self) -> str:
        """The run's own identifier."""
        return self.facts.run_id

    def _own_records(self) -> list[Record]:
        """The records of the folder, each of this run and of a planned cell.

        Raises:
            AttnbenchError: a line is damaged, or its record belongs to another run or plan.
        """
        records = _records(self._records.open().lines, self.folder)
        strays = {id(r) for r in Run(self.folder, self.facts, records).strays}
        for number, record in enumerate(records, 1):
            if id(record) in strays:
                raise AttnbenchError(
                    f"a run is resumed with its own records; line {number} of {self.folder / RECORDS} is of "
                    f"{record.cell.variant} in run {record.run_id}, which run {self.id} did not plan or measure; "
                    "delete that line, or choose another --out"
                )
        return _first_of_each_cell(records)

    def add(self, record: Record) -> None:
        """Store the record of one cell, once; one that could not be read again becomes a failure that says so.

        Raises:
            ValueError: the cell has a record already.
        """
        if record.cell.id in self.done:
            raise ValueError(f"a cell has one record; got a second for {record.cell.variant}")
        record = storable(record)
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
        self._lock.close()

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
    if os.path.lexists(path):
        old = _facts(folder)
        if old.planned.hash != plan.hash:
            raise AttnbenchError(
                f"an output folder holds one plan; {folder} holds plan {old.planned.hash}, this is {plan.hash}; "
                "choose another --out, or repeat the command that made it"
            )
        if [cell.id for cell in old.planned.cells] != [cell.id for cell in plan.cells]:
            raise AttnbenchError(
                f"a plan's hash is that of its cells; {path} has the hash of this plan, {plan.hash}, and other cells; "
                "restore the file, or choose another --out"
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
    with disk_errors(folder, "find out why, or name another folder"):
        if not folder.is_dir():
            raise AttnbenchError(
                f"a run is a folder; got {str(folder)!r}, which is {'a file' if folder.exists() else 'not there'}"
            )
        facts = _facts(folder)
        lines, whole = read_lines(folder / RECORDS)
        file = folder / RECORDS
        torn = "the last line was torn and left out" if file.exists() and file.stat().st_size > whole else ""
    records = _records(lines, folder, {cell.id: cell for cell in facts.planned.cells})
    once = _first_of_each_cell(records)
    return Run(folder, facts, once, torn, repeated=len(records) - len(once))


def set_aside(folder: Path) -> Path | None:
    """Rename a complete run to FOLDER.1, FOLDER.2, ... so that its place is free; anything else stays.

    Raises:
        AttnbenchError: it cannot be renamed.
    """
    if not os.path.lexists(folder / RUN):
        return None
    old = open_run(folder)
    if old.missing:
        return None
    number = 1
    while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    with disk_errors(folder):
        folder.rename(kept)
    return kept


def read_events(folder: Path) -> list[Event]:
    """The journal of a run: counts, trials, probes, rounds, drops, ceilings and sessions, in order.

    Raises:
        AttnbenchError: a line is damaged.
    """
    return _events(read_lines(folder / SAMPLES)[0], folder)


def read_rounds(folder: Path, group: str = "") -> dict[str, list[Round]]:
    """The timed rounds of a run by comparison group; `group`: only of that one, and the rest is not decoded.

    Raises:
        AttnbenchError: a line is damaged.
    """
    rounds: dict[str, list[Round]] = {}
    for event in _events(read_lines(folder / SAMPLES, having=group)[0], folder):
        if isinstance(event, Round) and group in ("", event.group):
            rounds.setdefault(event.group, []).append(event)
    return rounds


def read_ceilings(folder: Path) -> list[Ceilings]:
    """What a run measured its machine to reach, in order; the rest of its journal is not decoded.

    Raises:
        AttnbenchError: a line is damaged.
    """
    found = read_lines(folder / SAMPLES, having=Ceilings.kind)[0]
    lines = [line for line in found if line.get("kind") == Ceilings.kind]
    return [event for event in _events(lines, folder) if isinstance(event, Ceilings)]


def _events(lines: Iterable[Mapping[str, Any]], folder: Path) -> list[Event]:
    events: list[Event] = []
    rounds: dict[tuple[str, int, int], Round] = {}
    for number, line in enumerate(lines, 1):
        try:
            event = from_line(line)
            if isinstance(event, Round):
                key = event.group, event.process, event.round
                if rounds.setdefault(key, event) is not event and rounds[key] == event:
                    continue  # its line was copied
        except ValueError as error:
            raise AttnbenchError(
                f"every line of {SAMPLES} is an event; line {number} of {folder / SAMPLES} is damaged: {error}; "
                "delete that line (its rounds will be measured again)"
            ) from error
        events.append(event)
    return events


def _facts(folder: Path) -> RunFacts:
    path = folder / RUN
    if not os.path.lexists(path):
        several = (folder / "parts").is_dir()
        remedy = f"name one of {folder}/parts" if several else "name a folder that `attnbench run` made"
        raise AttnbenchError(f"a run folder has a {RUN}; {folder} has none; {remedy}")
    try:
        return read_facts(read_json(path), str(path))
    except ValueError as error:
        raise AttnbenchError(f"{path} is damaged ({error}); restore it, or measure anew") from error


def _records(
    lines: Iterable[Mapping[str, Any]], folder: Path, planned: Mapping[str, Cell] | None = None
) -> list[Record]:
    """The record of each line, one that is there twice included.

    An equal cell of `planned`, by identifier, stands in for the record's own: it is in memory, and hashed, once.
    """
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            record = from_dict(line)
            cell = planned.get(str(line.get("cell_id"))) if planned else None
            found.append(replace(record, cell=cell) if cell == record.cell else record)
        except AttnbenchError as error:
            raise AttnbenchError(
                f"every line of {RECORDS} is a record; line {number} of {folder / RECORDS} is damaged: {error}; "
                "restore that line, or delete it (its cell will be measured again)"
            ) from error
    return found


def _first_of_each_cell(records: Iterable[Record]) -> list[Record]:
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.cell.id, record)
    return list(first.values())
