"""The counts of a campaign, by kind of fault."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field, fields

IN_PROCESS = "journal alone"


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
