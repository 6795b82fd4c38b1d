"""One comparison group while it is timed: which arms are left, and whether its rounds are enough. No process here."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from statistics import median

from attnbench.analysis import summarize
from attnbench.analysis.screening import LEADERS, standing
from attnbench.analysis.summarize import GroupData
from attnbench.execution.deadline import Deadline
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import LEAST_PROCESSES, TURNS_ALONE, Protocol

FRUITLESS = 3  # timing processes in a row that gave nothing and lost nobody, until the group is given up
_COMPILE = 3.0  # times the trial's compilation that building may take
_SLOW = 10.0  # times the expected round that a round may take


class Comparison:
    """The arms of one group and the rounds that they have; `isolated`: ids of the arms that share no process.

    Attributes:
        resting: under a budget for the run, why an arm gets no more rounds, by cell id.
        deadline: of the run.
        start_s: seconds until the latest process had given its first round; less is too short for another one.
    """

    def __init__(
        self, group: str, cells: Sequence[Cell], data: GroupData, protocol: Protocol, reference: str,
        isolated: Collection[str] = (), deadline: Deadline | None = None,
    ) -> None:  # fmt: skip
        self.resting: dict[str, str] = {}
        self.deadline = deadline or Deadline()
        self.start_s = 0.0
        self._separated, self._looked = "", 0
        self.group, self.data = group, data
        self.cells = tuple(cells)
        self.isolated = frozenset(isolated)
        self.protocol = protocol.for_arms(len(self.shared))
        self.reference = summarize.reference_of(self.arms, reference)
        self.rule = summarize.rule_of(self.protocol, len(self.arms))
        self.fruitless = 0

    @property
    def arms(self) -> list[Cell]:
        """The arms that have not been dropped and get more rounds."""
        return [c for c in self.cells if c.id not in self.data.dropped and c.id not in self.resting]

    @property
    def shared(self) -> list[Cell]:
        """The arms that share a process."""
        return [c for c in self.arms if c.id not in self.isolated]

    @property
    def alone(self) -> list[Cell]:
        """What has a process of its own: the isolated arms, and the reference, which they are compared with."""
        apart = [c for c in self.arms if c.id in self.isolated]
        base = self.reference
        return [base, *apart] if apart and base in self.arms and base not in apart else apart

    @property
    def turns_alone(self) -> int:
        """Turns a round of what has a process of its own."""
        return TURNS_ALONE if self.protocol.schedule == "interleaved" and self.protocol.looks[-1] > 1 else 1

    @property
    def reference_turns(self) -> int:
        """Turns of the reference in a round."""
        return self.protocol.reference_turns(len(self.shared))

    @property
    def spent_s(self) -> float:
        """Seconds of timing so far."""
        return math.fsum(r.seconds for r in self.data.rounds)

    @property
    def processes(self) -> int:
        """Processes that have given rounds."""
        return len({r.process for r in self.data.rounds})

    @property
    def process(self) -> int:
        """The number of the next timing process."""
        return 1 + max((r.process for r in self.data.rounds), default=-1)

    def stopped(self) -> str:
        """Why the group has rounds enough, in words; empty while it has not."""
        done = len(self.data.rounds)
        if self.protocol.screens:
            self._screen(done)
        arms = self.arms
        if not arms:
            return "no arm was left"
        if self._separated:
            return self._separated
        if self.deadline.left_s <= self.start_s:
            return f"{self.deadline.why} after {done} rounds"
        if not done or not self.rule.may_stop(done, self.spent_s):
            return ""
        level = self.rule.level_at_a_look
        widths = summarize.half_widths(self.data, arms, self.reference, level) if done > 1 else {}
        decision = self.rule.decide(done, widths, self.spent_s)
        enough = self.processes >= LEAST_PROCESSES or done >= self.rule.looks[0]
        return decision.why if decision.stop and enough else ""

    def _screen(self, done: int) -> None:
        """Judge who is behind and whether the leaders are separated, at every look that the rounds have reached."""
        for look in self.rule.looks:
            if not self._looked < look <= done:
                continue
            self._looked = look
            timed = [c.id for c in self.cells if c.id not in self.data.dropped]
            if len(timed) < 2:
                continue
            now = standing(self.data.rounds[:look], timed, self.rule.level_at_a_look)
            for arm in now.behind - {self.reference.id if self.reference else ""}:
                why = f"{LEADERS} arms or more were clearly faster after {look} rounds; left out of further rounds"
                self.resting.setdefault(arm, why)
            self._separated = f"the {LEADERS} fastest are separated after {look} rounds" if now.separated else ""

    def next_rounds(self) -> int:
        """Rounds that the next process should give."""
        done, each = len(self.data.rounds), self.protocol.rounds_each
        look = self.rule.next_look(done) or done + 1
        return min(each - done % each, look - done)

    def out_of_time(self) -> bool:
        """The budget is spent and the rounds carry an interval."""
        return self.spent_s > self.rule.budget_s and self.processes >= LEAST_PROCESSES

    def calls(self) -> dict[str, int]:
        """Timed calls of a turn, by cell id: of the first process by the trial's time, then by the last round's."""
        seconds = {c.id: self.data.trials[c.id].call_s for c in self.arms}
        if self.data.rounds:
            seconds |= {turn.cell: median(turn.calls_s) for turn in self.data.rounds[-1].turns}
        return {c.id: self.protocol.calls_in_turn(seconds[c.id]) for c in self.arms}

    def patience_s(self) -> float:
        """Seconds of silence after which a timing process counts as hung: building an arm, or a round, at its slowest.

        A process breaks its silence when an arm is built or has compiled; the sum covers what all share.
        """
        p, calls = self.protocol, self.calls()
        each = {c.id: self.data.trials[c.id].call_s for c in self.arms}
        once = math.fsum(max(p.prime_s, p.prime_calls * s) + calls[i] * s for i, s in each.items())
        if self.reference and self.reference.id in each:  # it may have been dropped
            once += (self.reference_turns - 1) * (p.prime_s + calls[self.reference.id] * each[self.reference.id])
        compiling = math.fsum(float(self.data.trials[c.id].values.get("compile_s", 0.0)) for c in self.arms)
        return p.timeout_s + _SLOW * once + _COMPILE * compiling
