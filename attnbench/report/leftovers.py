"""Files of an earlier report in the same folder: those that nobody has changed are removed, all others are named.

A report lists what it wrote, with digests, in `report.sha256` beside its page; `sha256sum --check report.sha256` reads
that list too. A file that is not in the list, or has changed since, is the user's: it stays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from attnbench.report.numbers import counted
from attnbench.results.journal import open_plain

LIST = "report.sha256"
FOLDERS = ("tables", "figures")
NAMED = 5  # files in a message
_LINE = re.compile(rf"([0-9a-f]{{64}})  ((?:(?:{'|'.join(FOLDERS)})/)?\w[\w.-]*)", re.ASCII)


def read_list(out: Path) -> dict[str, str]:
    """The digests of the files that the last report in a folder wrote, by name; other lines are left out.

    Raises:
        AttnbenchError: the list is no plain file, or cannot be read.
    """
    with open_plain(out / LIST) as file:
        lines = file.read().decode("utf-8", "replace").splitlines() if file else []
    found = (match.groups() for line in lines if (match := _LINE.fullmatch(line)))
    return {name: digest for digest, name in found}


def clear(out: Path, written: Sequence[Path], earlier: dict[str, str]) -> list[str]:
    """Remove what only the earlier report wrote, and list what this one wrote; returns what a user must know, in words.

    Args:
        out: the report's folder.
        written: the files of this report.
        earlier: what `read_list` gave before this report was written.

    Raises:
        OSError: a file cannot be read, removed or written.
    """
    ours = {path.relative_to(out).as_posix(): _digest(path) for path in written}
    old = [name for name, digest in earlier.items() if name not in ours and _is_unchanged(out / name, digest)]
    for name in old:
        (out / name).unlink()
    (out / LIST).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(ours.items())), encoding="utf-8")
    there = (path.relative_to(out).as_posix() for folder in FOLDERS for path in (out / folder).iterdir())
    others = [name for name in there if name not in ours]
    said = []
    if old:
        said.append(f"removed from {out} what an earlier report wrote: {_named(old)}")
    if others:
        said.append(f"not of this report, and left in {out}: {_named(others)}")
    return said


def _is_unchanged(path: Path, digest: str) -> bool:
    return path.is_file() and not path.is_symlink() and _digest(path) == digest


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _named(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'file')} ({', '.join(sorted(names)[:NAMED])}{', …' if names[NAMED:] else ''})"
