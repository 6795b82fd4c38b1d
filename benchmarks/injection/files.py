"""Damage to the files of a run between two sessions."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attnbench.results import store
from injection.session import REFUSALS, Inject, Run, size_of, whole_lines

Damage = Callable[[bytes, random.Random], bytes | None]  # the new content of a file; None: it is deleted


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
            run.journal_deleted = run.journal_deleted or name == store.SAMPLES
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
