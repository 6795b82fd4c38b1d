"""What a run reports while it goes on: a bar with the time left on a terminal, plain lines elsewhere, or nothing.

Everything goes to stderr. Nothing is drawn by a thread of its own: a redraw beside a timed call would disturb it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attnbench import inert
from attnbench.planning.cell import Cell
from attnbench.planning.remaining import Remaining
from attnbench.planning.sweep import Plan
from attnbench.results.record import Record

_INLINE = 110  # characters of the line in a notebook


class _BestEffort:
    """A text stream that drops what cannot be written: a full disk or a closed terminal is no reason to end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def stderr_console() -> Console:
    """A console on stderr that drops what stderr does not take."""
    return Console(file=_BestEffort(sys.stderr))  # type: ignore[arg-type]


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, whose stderr is no terminal but is looked at."""
    return "ipykernel" in sys.modules


class Watcher:
    """Receives the progress of a run; the methods do nothing unless a subclass overrides them."""

    def begin(self, plan: Plan, records: Sequence[Record]) -> None:
        """The run starts; `records` are those of earlier sessions."""

    def limit(self, seconds: float) -> None:
        """The run may go on for so many seconds, by its budget."""

    def stage(self, what: str, cell: Cell | None = None) -> None:
        """A stage begins, described for people; of one cell, or of the run."""

    def tried(self, cell: Cell, call_s: float | None) -> None:
        """A trial ended: seconds of one call, None if it failed."""

    def round(self, arms: Sequence[Cell], rounds: int, seconds: float) -> None:
        """A round of these arms ended, the group's `rounds`-th, after so many seconds."""

    def recorded(self, record: Record) -> None:
        """A cell has its record."""

    def say(self, text: str) -> None:
        """A message for the user."""

    def end(self) -> None:
        """The run ended, complete or not."""


class Silent(Watcher):
    """Shows nothing."""


class Bar(Watcher):
    """A line with a bar, the count of records, what is being done and the time left."""

    def __init__(self, remaining: Remaining, console: Console | None = None) -> None:
        self.console = console or stderr_console()
        self.remaining = remaining
        self.live: Live | None = None
        self.what, self.cells, self.trouble = "", 0, 0
        self.recorded_cells: set[str] = set()
        self.timed: set[str] = set()  # they have the rounds that they need at least; records follow with their group
        self.started = self._last = time.monotonic()
        self.limit_s = math.inf  # of this session
        self.every_s = 1.0 if in_notebook() else 15.0  # a line now and then in a log; in a notebook one that changes
        self._told = 0.0

    def begin(self, plan: Plan, records: Sequence[Record]) -> None:
        """Start the line."""
        self.cells = len(plan.cells)
        self._last = time.monotonic()
        self.recorded_cells.update(r.cell.id for r in records)
        self.remaining.finish([r.cell.id for r in records])
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(self._line(), console=self.console, auto_refresh=False, transient=True)
            self.live.start()

    def limit(self, seconds: float) -> None:
        """Show no more time left than the budget has."""
        self.limit_s = time.monotonic() - self.started + seconds

    def stage(self, what: str, cell: Cell | None = None) -> None:
        """Show what is being done."""
        self.what = what
        self._draw()

    def tried(self, cell: Cell, call_s: float | None) -> None:
        """Learn how long a call takes, and a trial."""
        self.remaining.learn(cell.id, call_s, self._since_last())

    def round(self, arms: Sequence[Cell], rounds: int, seconds: float) -> None:
        """Count the time of a round, and the cells that have had the rounds of the first look."""
        self.remaining.round(arms, rounds, seconds)
        self._last = time.monotonic()
        if rounds >= self.remaining.protocol.looks[0]:
            self.timed.update(c.id for c in arms)
        self.what = f"round {rounds} of {len(arms)} arms at {arms[0].conditions()}"
        self._draw()

    def recorded(self, record: Record) -> None:
        """Count the cell; tell at once of one that is not ok."""
        self.recorded_cells.add(record.cell.id)
        self.remaining.finish([record.cell.id])
        if record.outcome not in ("ok", "declined"):
            self.trouble += 1
            self.say(f"{record.outcome}: {record.cell.variant} ({record.cell.conditions()}): {record.reason}")
        self._draw()

    def say(self, text: str) -> None:
        """Print a message above the bar; on a terminal it is broken between words."""
        self._leave_line()
        self.console.print(Text(inert.terminal(text)), soft_wrap=not self.console.is_terminal)

    def end(self) -> None:
        """Take the line away."""
        self._leave_line()
        if self.live:
            self.live.stop()
            self.live = None

    def _since_last(self) -> float:
        """Seconds since the last trial or round was reported, or since the run began."""
        before, self._last = self._last, time.monotonic()
        return self._last - before

    def _draw(self) -> None:
        if self.live:
            self.live.update(self._line(), refresh=True)
        elif time.monotonic() - self._told > self.every_s:
            self._told = time.monotonic()
            if in_notebook():
                self.console.file.write("\r" + self._line().plain[:_INLINE].ljust(_INLINE))
                self.console.file.flush()
            else:
                self.console.print(self._line().plain, soft_wrap=True, markup=False)

    def _leave_line(self) -> None:
        if in_notebook() and self._told:
            self.console.file.write("\n")

    def _line(self) -> Text:
        left = max(0.0, min(self.remaining.left_s, self.limit_s - (time.monotonic() - self.started)))
        total = max(left + (time.monotonic() - self.started), 1e-9)
        share = min(1.0, (time.monotonic() - self.started) / total)
        width = 24
        full = round(share * width)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("━" * full, style="cyan").append("━" * (width - full), style="dim")
        text.append(f" {len(self.recorded_cells | self.timed)}/{self.cells} cells")
        if self.trouble:
            text.append(f", {self.trouble} in trouble", style="red")
        return text.append(f", {duration(left)} left").append(f"  {inert.terminal(self.what)}", style="dim")


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
