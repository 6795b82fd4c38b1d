"""A collection: one folder that holds several whole runs, each in a folder of its own and each of one machine.

    R/collection.json     says that R is a collection
    R/parts/NAME/         a run folder: its plan, its records and its raw rounds, unchanged

`attnbench merge` and sweeps on a cluster make one; wherever a command takes run folders, a collection stands for its
parts. Nothing is summarized in it, so every table is computed from the rounds of the runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.results.journal import disk_errors, read_json
from attnbench.results.store import RUN

COLLECTION, PARTS = "collection.json", "parts"
FORMAT = 1  # of collection.json


def is_collection(folder: Path) -> bool:
    """Whether the folder says that it is a collection."""
    return os.path.lexists(folder / COLLECTION)


def run_folders(folders: Iterable[Path | str]) -> list[Path]:
    """The run folders that are meant: a collection's parts in its place, anything else as it is; each once.

    Raises:
        AttnbenchError: a collection that cannot be read, or that a newer attnbench wrote.
    """
    found = (part for folder in map(Path, folders) for part in (parts(folder) if is_collection(folder) else [folder]))
    return list(dict.fromkeys(found))


def parts(folder: Path) -> list[Path]:
    """The run folders of a collection, by name; a part whose run has not begun is left out.

    Raises:
        AttnbenchError: it cannot be read, or a newer attnbench wrote it.
    """
    read(folder)
    with disk_errors(folder, "find out why, or name another folder"):
        return sorted(part for part in (folder / PARTS).glob("*") if os.path.lexists(part / RUN))


def find(folders: Iterable[Path]) -> list[Path]:
    """Every run folder below these folders, themselves included, by path; links are not followed.

    Raises:
        AttnbenchError: one is no folder, or none of them holds a run.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise AttnbenchError(f"an atlas is made of folders; {folder} is none; name a folder that holds runs")
        found += [Path(place) for place in _with_runs(folder)]
    if not found:
        raise AttnbenchError(
            f"an atlas needs at least one run folder; none is below {', '.join(map(str, folders))}; "
            "`attnbench run` makes one"
        )
    return sorted(dict.fromkeys(found))


def _with_runs(folder: Path) -> Iterator[str]:
    for place, below, files in os.walk(folder):
        below.sort()
        if RUN in files:
            below.clear()  # a run folder holds no other
            yield place


def read(folder: Path) -> dict[str, Any]:
    """What collection.json says.

    Raises:
        AttnbenchError: it cannot be read, is damaged, or a newer attnbench wrote it.
    """
    path = folder / COLLECTION
    try:
        said = read_json(path)
    except ValueError as error:
        raise AttnbenchError(f"{path} is damaged ({error}); run the command that made it again") from error
    form = said.get("format") if isinstance(said, dict) else None
    if isinstance(form, bool) or not isinstance(form, int) or not 1 <= form <= FORMAT:
        raise AttnbenchError(f"a collection's format must be 1 to {FORMAT}; {path} has {str(form)[:40]}")
    return dict(said)


def begin(folder: Path, **said: Any) -> None:
    """Make the folder a collection, or leave the one that is there as it is.

    Args:
        folder: made when it is not there.
        **said: what else collection.json says.

    Raises:
        AttnbenchError: it holds something else, or cannot be written.
    """
    with disk_errors(folder):
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    if is_collection(folder):
        read(folder)
        return
    if os.path.lexists(folder / RUN):
        raise AttnbenchError(f"a collection holds runs in {PARTS}/; {folder} is a run itself; choose another --out")
    write_whole(folder / COLLECTION, json.dumps({"format": FORMAT, **said}, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises:
        AttnbenchError: the disk refused it; nothing of it stays.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
