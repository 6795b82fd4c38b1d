"""Faults of the journal alone, in this process and at every byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.results import journal
from injection.campaign import IN_PROCESS, Campaign
from injection.disks import DISK


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
