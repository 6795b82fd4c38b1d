"""A cell -> what a worker process gives for it: counts, a trial, rounds, ceilings. Any end of a process is handled."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from attnbench.errors import UnfinishedError
from attnbench.execution.fork_server import End, ForkServer, Noise, ServerEndedError
from attnbench.execution.jobs import (
    AgreementJob,
    CeilingsJob,
    CountJob,
    ExportJob,
    Job,
    ProbeJob,
    TimingJob,
    TrialJob,
)
from attnbench.execution.schedule import beside, joined
from attnbench.execution.servers import Servers
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol
from attnbench.planning.sweep import Sweep
from attnbench.results.events import (
    Agreement,
    Ceilings,
    Count,
    Done,
    Dropped,
    Event,
    Exported,
    Failure,
    Probe,
    Progress,
    Round,
    Trial,
)

_Answer = TypeVar("_Answer", Probe, Agreement)

CEILINGS_S = 120.0
COMPILING = 5.0  # times the usual patience, for a cell whose first call compiles
_OWN_END_S = 0.5  # between the ends of two processes that one killer ends
RESTARTS = 5  # of fork servers in one run


class Workers:
    """The worker processes of a run, forked by servers that are started when first needed."""

    def __init__(
        self, sweep: Sweep, protocol: Protocol, servers: Mapping[str, ForkServer] | None = None,
        origins: Mapping[str, Sequence[str]] | None = None, *, counts: bool = False,
    ) -> None:  # fmt: skip
        """`origins`: the plugins that a process with these cells may import, by cell id; None: all of them.

        `counts`: as of `start_server`.
        """
        self._sweep, self._protocol, self._origins = sweep, protocol, origins
        most, looks = min(protocol.servers, protocol.processes), protocol.processes_at_looks
        self._servers = Servers(sweep, most, servers, looks, counts=counts)
        self._closing = False
        self._timing = ("", 0)  # allocator and place of the server whose timing job runs
        self._restarts = 0
        self._suspects: Counter[str] = Counter()  # fork servers killed while a cell's code ran
        self._culprit = ""  # whose code ran when a fork server was killed
        self.interrupted = False
        self.last_failure = "none said why"
        self.artifacts: dict[str, str] = {}  # file names of exported layers, by cell id

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def end(self) -> None:
        """Kill the fork servers, from any thread; a job that runs raises UnfinishedError where it is waited for."""
        self._closing = True
        for server in self._servers:
            server.end()

    def start(self, allocator: str) -> ForkServer:
        """The fork server for this allocator; a new one imports torch while the caller goes on."""
        return self._servers.get(allocator)

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Start the fork servers that the timing processes of these cells come from, while nothing is timed."""
        for allocator in dict.fromkeys(cell.allocator for cell in cells):
            self._servers.start_all(allocator)

    def request_stop(self) -> None:
        """End the timing job that is running, if one is, before its next turn."""
        self.interrupted = True
        self.stop_after_turn()

    def count(self, cell: Cell) -> Count:
        """Parameters and MACs; without values, and with the reason in `notes`, where nothing could be counted."""
        why = "it gave no count"
        for event in self._events(cell, CountJob(cell=cell, **self._plugins([cell])), self._protocol.timeout_s):
            if isinstance(event, Count):
                return event
            if isinstance(event, Failure):
                why = event.reason
        return Count(key=cell.count_key, notes=f"could not be counted: {why}")

    def export(self, cell: Cell) -> Exported | Failure:
        """The layer as a file for the cell's runtime, made in a fresh process or found in the cache."""
        job = ExportJob(
            cell=cell, weights=self._sweep.weights, seed=self._sweep.seed, memory_limit=self._protocol.memory_limit,
            **self._plugins([cell]),
        )  # fmt: skip
        answers = [e for e in self._events(cell, job, self._patience_s(cell)) if isinstance(e, Exported | Failure)]
        return answers[0] if answers else Failure(outcome="crashed", reason="its process gave no result")

    def trial(self, cell: Cell) -> Trial | Failure:
        """One arm alone in a fresh process."""
        self._servers.settle()
        job = TrialJob(
            cell=cell, weights=self._sweep.weights, seed=self._sweep.seed, inference=self._protocol.inference,
            memory_limit=self._protocol.memory_limit, artifact=self.artifacts.get(cell.id, ""), **self._plugins([cell]),
        )  # fmt: skip
        events = list(self._events(cell, job, self._patience_s(cell)))
        answers = [e for e in events if isinstance(e, Trial | Failure)]
        return answers[0] if answers else Failure(outcome="crashed", reason="its process gave no result")

    def probe(self, cell: Cell, what: str) -> Probe:
        """One pass beside time in a fresh process; without values, and with the reason in a word, where it failed."""
        job = ProbeJob(
            cell=cell, what=what, weights=self._sweep.weights, seed=self._sweep.seed,
            inference=self._protocol.inference, memory_limit=self._protocol.memory_limit,
            artifact=self.artifacts.get(cell.id, ""), **self._plugins([cell]),
        )  # fmt: skip
        found, why = self._answer(Probe, cell, job)
        return found or Probe(cell=cell.id, what=what, words={f"{what}_notes": why})

    def agreement(self, cell: Cell, base: Cell) -> Agreement:
        """The output of `cell` beside that of `base`, in a fresh process; with the reason where there is none."""
        job = AgreementJob(
            cell=cell, base=base, seed=self._sweep.seed, memory_limit=self._protocol.memory_limit,
            **self._plugins([cell, base]),
        )  # fmt: skip
        found, why = self._answer(Agreement, cell, job)
        return found or Agreement(cell=cell.id, why=why)

    def ceilings(self, cell: Cell, known: Ceilings | None = None) -> Ceilings:
        """What the cell's device reaches; without values where it could not be measured."""
        for event in self._events(cell, CeilingsJob(cell=cell, known=known), CEILINGS_S):
            if isinstance(event, Ceilings):
                return event
        return Ceilings(key=(cell.device, cell.precision, cell.threads, cell.allocator))

    def rounds(
        self, cells: Sequence[Cell], *, group: str, process: int, first_round: int, rounds: int,
        calls: Mapping[str, int], reference: str, reference_turns: int, patience_s: float,
    ) -> Iterator[Round | Dropped]:  # fmt: skip
        """Rounds of these arms in one fresh process, and the arms that it lost.

        A process that ends early costs the arm whose turn it was.
        """
        p = self._protocol
        job = TimingJob(
            cells=tuple(cells), group=group, process=process, calls=calls, first_round=first_round, rounds=rounds,
            reference=reference, reference_turns=reference_turns, **self._plugins(cells),
            weights=self._sweep.weights, seed=self._sweep.seed, order_seed=self._sweep.seed + 7919 * process,
            inference=p.inference, memory_limit=p.memory_limit, prime_s=p.prime_s, prime_calls=p.prime_calls,
            cold=p.cold, strict=p.strict, sequential=p.schedule != "interleaved", fixed_order=p.order == "fixed",
            artifacts={c.id: self.artifacts[c.id] for c in cells if c.id in self.artifacts},
        )  # fmt: skip
        allocator = cells[0].allocator
        place = self._servers.place_for(allocator, group, process)
        lost: set[str] = set()
        failure: Failure | None = None
        self._timing = (allocator, place)
        try:
            for event in self._events(cells[0], job, patience_s, place):
                if isinstance(event, Round | Dropped):
                    if isinstance(event, Dropped):
                        lost.add(event.cell)
                    else:
                        self._servers.get(allocator, place).empty_log()
                        event = replace(event, turns=tuple(t for t in event.turns if t.cell not in lost))
                    yield event
                elif isinstance(event, Failure):
                    failure = event
        finally:
            self._timing = ("", 0)
        self.last_failure = failure.reason if failure else self.last_failure
        culprit = self._culprit or self._servers.get(allocator, place).status.cell()
        if failure and not self.interrupted and culprit not in lost and culprit in {c.id for c in cells}:
            yield Dropped(cell=culprit, outcome=failure.outcome, reason=failure.reason)

    def separate_rounds(self, cells: Sequence[Cell], **given: Any) -> Iterator[Round | Dropped]:
        """As `rounds`, but each arm has a process of its own, one after another; turns are joined by round number."""
        parts: dict[int, list[Round]] = {}
        for cell in cells:
            for event in self.rounds([cell], **given):
                if isinstance(event, Round):
                    parts.setdefault(event.round, []).append(event)
                else:
                    yield event
            if self.interrupted:
                return
        for number in sorted(parts):
            yield joined(parts[number])

    def rounds_beside(
        self, cells: Sequence[Cell], alone: Sequence[Cell], *, turns_alone: int, process: int, **given: Any
    ) -> Iterator[Round | Dropped]:
        """As `rounds` of the `cells` in one process, and of each arm of `alone` in one of its own, in random order.

        Only rounds that lack no arm are given, when all processes have ended; an interruption costs them all. An arm
        that is in `alone` only and whose process gives nothing is lost.
        """
        parts = [(list(cells), False), *(([cell], True) for cell in alone)]
        random.Random(self._sweep.seed + 7919 * process).shuffle(parts)
        shared: dict[int, Round] = {}
        own: dict[int, dict[str, Round]] = {}
        lost: set[str] = set()
        for arms, apart in parts:
            arms = [cell for cell in arms if cell.id not in lost]
            words = {**given, "reference": arms[0].id, "reference_turns": turns_alone} if apart and arms else given
            useful = False
            for event in self.rounds(arms, process=process, **words) if arms else ():
                useful = True
                if isinstance(event, Dropped):
                    lost.add(event.cell)
                    yield event
                elif apart:
                    own.setdefault(event.round, {})[arms[0].id] = event
                else:
                    shared[event.round] = event
            if self.interrupted:
                return
            if apart and arms and not useful and arms[0] not in cells:
                lost.add(arms[0].id)
                yield Dropped(
                    cell=arms[0].id, outcome="crashed", reason=f"its process gave no round; {self.last_failure}"
                )
        together, apart_ids = {c.id for c in cells} - lost, {c.id for c in alone} - lost
        for number in sorted(shared.keys() | own.keys()):
            part, beside_it = shared.get(number), own.get(number, {})
            if together <= {t.cell for t in (part.turns if part else ())} and apart_ids <= beside_it.keys():
                yield beside(part, [beside_it[name] for name in sorted(apart_ids)])

    def _patience_s(self, cell: Cell) -> float:
        """How long a process of this cell alone may report nothing."""
        return self._protocol.timeout_s * (COMPILING if cell.compiles else 1)

    def _plugins(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """What a job with these cells imports."""
        if self._origins is None:
            return {"plugins": self._sweep.plugins}
        needed = {origin for cell in cells for origin in self._origins.get(cell.id, ())}
        return {"plugins": self._sweep.plugins, "imports": tuple(sorted(needed))}

    def stop_after_turn(self) -> None:
        """End the running timing job, if there is one, before its next turn (the budget is spent)."""
        if self._timing in self._servers:
            self._servers.get(*self._timing).status.request_stop()

    def _answer(self, kind: type[_Answer], cell: Cell, job: Job) -> tuple[_Answer | None, str]:
        """The first event of this kind that a fresh process reports; None, and why, where there is none."""
        why = "its process gave no result"
        for event in self._events(cell, job, self._patience_s(cell)):
            if isinstance(event, kind):
                return event, ""
            if isinstance(event, Failure):
                why = f"{event.outcome}: {event.reason}"
        return None, why

    def _events(self, cell: Cell, job: Job, patience_s: float, place: int = 0) -> Iterator[Event]:
        """What the worker reports, without stages; an end that came too early is a `Failure`.

        An arm whose code made noise on the worker's channel is dropped from a timing job, which ends then; another job
        fails. A fork server that was killed is replaced: a job that had not reported is done again; what a timing job
        had reported stands. A cell whose code ran at two such kills is blamed: the job ends with a `Failure`.

        Raises:
            UnfinishedError: fork servers of this run were killed too often.
        """
        self._culprit = ""
        while True:
            done = failed = reported = False
            noise, blamed = 0, set[str]()
            try:
                for event in self._servers.get(cell.allocator, place).do(job, patience_s=patience_s):
                    if isinstance(event, End):
                        if not done and not failed:
                            _await_own_end(event)
                            yield _ended(event, patience_s)
                    elif isinstance(event, Noise):
                        noise = event.count
                        continue
                    elif isinstance(event, Done):
                        done = True
                    elif isinstance(event, Progress):
                        if noise and event.cell and event.cell not in blamed:
                            blamed.add(event.cell)
                            reported, failed = True, not isinstance(job, TimingJob)
                            yield self._noisy(event.cell, noise, job)
                    else:
                        reported, failed = True, failed or isinstance(event, Failure)
                        yield event
                    noise = 0
                return
            except ServerEndedError as error:
                announced = self._replace(cell.allocator, place, error)
                ran = announced if isinstance(job, TimingJob) else cell.id
                self._suspects[ran] += 1
                if ran and self._suspects[ran] > 1 and not failed:
                    self._culprit = ran
                    yield Failure(outcome="crashed", reason="the server of its process was killed twice while it ran")
                if reported or self._culprit:
                    return

    def _noisy(self, cell: str, noise: int, job: Job) -> Dropped | Failure:
        reason = (
            "a layer must not write to descriptors that it did not open; it wrote noise on the worker's channel while "
            f"it ran ({noise} bytes)"
        )
        if not isinstance(job, TimingJob):
            return Failure(outcome="failed", reason=reason)
        self.stop_after_turn()  # what writes may go on, so the other arms are measured in a new process
        return Dropped(cell=cell, outcome="failed", reason=reason)

    def _replace(self, allocator: str, place: int, error: ServerEndedError) -> str:
        """Let a fork server that ended go; the id of the cell whose code ran last. The next job starts another."""
        if self._closing:
            raise error
        ended = self._servers.let_go(allocator, place)
        culprit = ended.status.cell()
        ended.close()
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise UnfinishedError(
                f"a run replaces a fork server {RESTARTS} times at most; the last was killed again; find what kills "
                "it (memory? a limit of the system?), then run the same command again"
            ) from error
        return culprit


def _await_own_end(end: End) -> None:
    """Where somebody else killed a worker, give the same killer time to end this process too.

    What ends a whole job or machine ends its processes one after another, and is no fault of the layer.
    """
    if not end.timed_out and not end.oom_killed and -end.code in (signal.SIGTERM, signal.SIGKILL):
        time.sleep(_OWN_END_S)


def _ended(end: End, patience_s: float) -> Failure:
    if end.timed_out:
        return Failure(outcome="timeout", reason=f"it gave nothing for {patience_s:.4g} s and was killed")
    if end.code == -signal.SIGKILL and end.oom_killed:
        return Failure(outcome="oom", reason="the system killed its process for want of memory")
    return Failure(outcome="crashed", reason=end.describe())
