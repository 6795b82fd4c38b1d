"""Runs -> one collection. Merging adds whole runs and changes none: in any order, and again, it gives the same.

A run that comes twice (one run_id: a copy, or an earlier state of it) is kept once: the copy with most records, then
with the longest journal, then with the smaller digest of its files. A journal only grows, so that the longer copy
holds what the shorter has. Runs that measured the same cell are two runs, and both are kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.planning.cell import digest
from attnbench.results import collection
from attnbench.results.folder_lock import FolderLock
from attnbench.results.garbage import search_put_off
from attnbench.results.journal import disk_errors, open_plain
from attnbench.results.store import RECORDS, RUN, SAMPLES, Run, open_run

_NAME = re.compile(r"[0-9a-z]{1,64}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Merged:
    """What a merge did: how many runs came new, replaced a shorter copy, or were there already."""

    added: int
    replaced: int
    kept: int
    records: int


@dataclass(frozen=True)
class Copy:
    """One copy of a run: what says which of several is kept, without its records, of which there may be millions."""

    folder: Path
    run_id: str
    plan: str
    created: str
    records: int

    @classmethod
    def of(cls, run: Run) -> Copy:
        """The copy that was read as this run."""
        return cls(run.folder, run.id, run.facts.planned.hash, run.facts.created, len(run.records))


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Add every run of `sources`, run folders or collections, to the collection `out`.

    Raises:
        AttnbenchError: a source that is no run or is damaged, two runs of one identifier, or `out` cannot be used.
    """
    collection.begin(out)
    with disk_errors(out):
        lock = FolderLock(out)
    with lock:
        present = {part.name for part in collection.parts(out)}
        added = replaced = kept = records = 0
        for copies in _copies(collection.run_folders([out, *sources])):
            best = best_copy(copies)
            records += best.records
            name = _name(best.run_id)
            if best.folder == out / collection.PARTS / name:
                kept += 1
                continue
            _copy(best.folder, out / collection.PARTS / name)
            replaced, added = replaced + (name in present), added + (name not in present)
    return Merged(added, replaced, kept, records)


def best_copy(copies: Sequence[Copy]) -> Copy:
    """The copy of one run that is kept, whatever the order of the copies.

    Raises:
        AttnbenchError: they are different runs that have the same identifier.
    """
    first = copies[0]
    for other in copies[1:]:
        if (other.plan, other.created) != (first.plan, first.created):
            raise AttnbenchError(
                f"a run_id belongs to one run; {first.folder} and {other.folder} are different runs with run_id "
                f"{first.run_id}; merge one of them"
            )
    return max(copies, key=_merit) if len(copies) > 1 else first


@search_put_off()
def _copies(folders: Iterable[Path]) -> list[list[Copy]]:
    """The runs of these folders, those of one identifier together; one at a time is in memory."""
    found: dict[str, list[Copy]] = {}
    for folder in folders:
        copy = Copy.of(open_run(folder))
        found.setdefault(copy.run_id, []).append(copy)
    return list(found.values())


def _merit(copy: Copy) -> tuple[int, int, str]:
    journal = copy.folder / SAMPLES
    inverse = "".join(f"{15 - int(digit, 16):x}" for digit in _digest(copy.folder))  # the smaller digest wins
    return copy.records, journal.stat().st_size if journal.exists() else 0, inverse


def _digest(folder: Path) -> str:
    made = hashlib.sha256()
    for name in (RUN, RECORDS, SAMPLES):
        with open_plain(folder / name) as file:
            while file and (chunk := file.read(_CHUNK)):
                made.update(chunk)
    return made.hexdigest()


def _name(run_id: str) -> str:
    """The part's name: the run's identifier, or its digest where it could be no file's name."""
    return run_id if _NAME.fullmatch(run_id) else digest(run_id)[:12]


def _copy(run: Path, place: Path) -> None:
    """Put a copy of a run in its place, whole or not at all; records first, since they rest on the journal's rounds."""
    fresh, old = (place.with_name(f".{place.name}.{os.getpid()}{end}") for end in ("", ".old"))
    with disk_errors(place):
        try:
            fresh.mkdir()
            for name in (RECORDS, SAMPLES, RUN):
                with open_plain(run / name) as file:
                    if file:
                        with (fresh / name).open("wb") as copy:
                            shutil.copyfileobj(file, copy, _CHUNK)
                            copy.flush()
                            os.fsync(copy.fileno())
            if place.exists():
                place.rename(old)
            fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
