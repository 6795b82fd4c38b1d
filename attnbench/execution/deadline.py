"""The end of a run's budget of wall time (`--within`), which counts what earlier sessions have spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from attnbench.execution.progress import duration
from attnbench.results.events import Event, Round, SessionEnd, Trial


def spent_s(events: Iterable[Event]) -> float:
    """Seconds of wall time that the sessions of a journal took.

    A session that was killed has not written its end; of it counts what its trials and rounds took.
    """
    total = stretch = 0.0
    for event in events:
        if isinstance(event, SessionEnd):
            total, stretch = total + max(stretch, event.seconds), 0.0
        elif isinstance(event, Round):
            stretch += event.seconds
        elif isinstance(event, Trial):
            stretch += event.job_s
    return total + stretch


class Deadline:
    """When the budget ends; it begins with the making of this object.

    Attributes:
        within_s: the budget of the whole run; infinite: none.
    """

    def __init__(
        self, within_s: float = math.inf, events: Iterable[Event] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.within_s, self._clock = within_s, clock
        self._end = clock() + within_s - spent_s(events) if math.isfinite(within_s) else math.inf

    @property
    def limits(self) -> bool:
        """Whether there is a budget."""
        return math.isfinite(self.within_s)

    @property
    def left_s(self) -> float:
        """Seconds left, negative after the end."""
        return self._end - self._clock()

    @property
    def passed(self) -> bool:
        """Whether the budget is spent."""
        return self.left_s <= 0

    @property
    def why(self) -> str:
        """The end of the budget, in words."""
        return f"the budget of {duration(self.within_s)} (--within) was spent"
