"""Plan -> records in a run folder: counts, trials, rounds, outcomes, progress, resume. The only module that knows all.

Every planned cell ends with exactly one record. A group's arms are tried one by one in processes of their own;
the survivors share timing processes. What was found is journalled at once, so that the same command goes on
where a killed run was.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnbench import __version__, registry
from attnbench.analysis import summarize
from attnbench.analysis.summarize import Found
from attnbench.errors import AttnbenchError
from attnbench.execution.fork_server import End, Nursery, allocator_environment
from attnbench.execution.progress import Silent, Watcher
from attnbench.machine import environment
from attnbench.planning import protocol
from attnbench.planning.sweep import Cell, Plan, Sweep, plan
from attnbench.results.record import Record
from attnbench.results.store import Writer, create_or_resume

LEAST_ROUNDS = 6  # below, no signed-rank interval reaches 95 %


class Interrupted(Exception):  # noqa: N818  no error: everything is saved
    """Ctrl-C: the turn was finished and everything is saved."""


def make_plan(sweep: Sweep) -> tuple[Plan, registry.Registry]:
    """Gather the mechanisms and decide every cell.

    Raises:
        AttnbenchError: whatever of the request cannot be served.
    """
    from attnbench.machine.devices import open_device

    numbers = protocol.get(sweep.protocol, sweep.overrides)
    for allocator in sweep.allocator:
        allocator_environment(allocator)
    for device in sweep.device:
        open_device(device)
    known = registry.load(sweep.plugins)
    if numbers.batch and not sweep.batch:
        sweep = Sweep(**{**sweep.as_dict(), "batch": (numbers.batch,)})
    return plan(sweep, known, threads=environment.default_threads()), known


def default_folder(planned: Plan) -> Path:
    """Where a run goes that was given no --out: the same command finds it again."""
    return Path("runs") / f"{planned.sweep.protocol}-{planned.hash}"


def run(sweep: Sweep, out: Path | str | None = None, *, watcher: Watcher | None = None, command: str = "") -> Path:
    """Measure a sweep; go on where it was if the folder holds the same plan.

    Args:
        sweep: what to measure.
        out: the run folder; by default one under runs/ named by the plan.
        watcher: is told of the progress.
        command: what resumes the run, for the record.

    Returns:
        The run folder.

    Raises:
        AttnbenchError: a request that cannot be served, or a folder that cannot be used.
        Interrupted: Ctrl-C; the same call goes on.
    """
    planned, _ = make_plan(sweep)
    return execute(planned, Path(out) if out else default_folder(planned), watcher=watcher, command=command)


def execute(
    planned: Plan, folder: Path, *, watcher: Watcher | None = None, command: str = "", nursery: Nursery | None = None
) -> Path:
    """Measure a plan into `folder`; see `run`. A `nursery` for its first allocator, started before, saves its start."""
    sweep = planned.sweep
    numbers = protocol.get(sweep.protocol, sweep.overrides)
    facts = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command or shlex.join(["attnbench", "run"]),
        "attnbench": __version__,
        "protocol": asdict(numbers),
        "environment": environment.describe(sweep.device),
    }
    with create_or_resume(folder, planned, facts) as writer:
        nurseries = {sweep.allocator[0]: nursery} if nursery else {}
        _Runner(planned, writer, numbers, watcher or Silent(), nurseries).go()
    return folder


class _Runner:
    def __init__(
        self,
        planned: Plan,
        writer: Writer,
        numbers: protocol.Protocol,
        watcher: Watcher,
        nurseries: Mapping[str, Nursery],
    ) -> None:
        self.plan, self.writer, self.protocol, self.watcher = planned, writer, numbers, watcher
        self.sweep = planned.sweep
        self.found: dict[str, Found] = {group: Found() for group in planned.groups()}
        self.counts: dict[str, Mapping[str, Any]] = {}
        self.ceilings: dict[tuple[Any, ...], Mapping[str, float]] = {}
        self.nurseries = dict(nurseries)
        self.interrupts = 0
        self.stop_file = -1
        self.forward_s = 0.0
        self._replay()

    def go(self) -> None:
        started = time.monotonic()
        with self._interruptible():
            try:
                self.watcher.begin(self.plan, self.writer.records)
                groups = self.plan.groups()
                if groups and len(self.writer.done) < len(self.plan.cells):
                    first = next(iter(groups.values()))[0]
                    self._nursery(first.allocator)  # torch is imported there while we go on here
                for cell in self.plan.cells:
                    if cell.id in self.plan.declined and cell.id not in self.writer.done:
                        self._add(
                            summarize.untimed(
                                Found(), cell, self.protocol, self.writer.id, "declined", self.plan.declined[cell.id]
                            )
                        )
                for group, cells in groups.items():
                    left = [c for c in cells if c.id not in self.writer.done]
                    if left:
                        self._group(group, cells)
            finally:
                for nursery in self.nurseries.values():
                    nursery.close()
                spent = time.monotonic() - started
                self.writer.samples.append({"kind": "session", "seconds": spent, "forward_s": self.forward_s})
                self.watcher.end()

    # --- one comparison group -----------------------------------------------------------------------------

    def _group(self, group: str, cells: Sequence[Cell]) -> None:
        found = self.found[group]
        tried = [c for c in cells if c.id not in self.plan.declined]
        for cell in tried:
            self._count(cell, found)
        if {"memory", "latency"} & set(self.sweep.measure):
            for cell in tried:
                if cell.id not in self.writer.done:
                    self._trial(cell, found)
        alive = [c for c in tried if c.id not in found.dropped]
        if "latency" not in self.sweep.measure:
            for cell in alive:
                if cell.id not in self.writer.done:
                    ending = self._uncounted(cell, found)
                    self._add(self._measured(summarize.untimed(found, cell, self.protocol, self.writer.id, *ending)))
            return
        if not [c for c in alive if c.id not in self.writer.done]:
            return
        if "macs" in self.sweep.measure:
            found.ceilings = self._ceilings(alive[0])
        reference = summarize.reference_of(alive, self.sweep.reference)
        stopped = self._rounds(group, alive, found, reference)
        left = [c for c in alive if c.id not in self.writer.done]
        for record in summarize.conclude(
            found, left, self.protocol, reference=reference, stopped=stopped, run_id=self.writer.id
        ):
            self._add(self._measured(record))

    def _count(self, cell: Cell, found: Found) -> None:
        if not {"params", "macs"} & set(self.sweep.measure):
            return
        key = cell.count_key
        if key not in self.counts:
            self.watcher.stage(f"counting {cell.variant}")
            line: dict[str, Any] = {"kind": "count", "key": key}
            job = {"kind": "count", "cell": cell.as_dict(), "plugins": self.sweep.plugins}
            for message in self._nursery(cell.allocator).do(job, patience_s=self.protocol.timeout_s):
                if isinstance(message, End):
                    if "values" not in line and "notes" not in line:
                        line["notes"] = f"could not be counted: {message.told()}"
                elif message["event"] == "count":
                    line |= {k: message[k] for k in ("values", "lower_bound", "notes")}
                elif message["event"] == "error":
                    line["notes"] = f"could not be counted: {message['reason']}"
            self.counts[key] = line
            self.writer.samples.append(line, sync=False)
            self._heed_interrupt()
        found.counts[key] = self.counts[key]

    def _uncounted(self, cell: Cell, found: Found) -> tuple[str, str]:
        """How an untimed cell ends: failed where only counts were wanted and there are none."""
        line = found.counts.get(cell.count_key, {})
        return ("ok", "") if cell.id in found.trials or "values" in line else ("failed", line["notes"])

    def _trial(self, cell: Cell, found: Found) -> None:
        if cell.id in found.trials or cell.id in found.dropped:
            return
        self.watcher.stage(f"trying {cell.variant}", cell)
        ending: tuple[str, str] | None = None
        line: dict[str, Any] = {}
        for message in self._nursery(cell.allocator).do(
            self._job("trial", cell=cell.as_dict()), patience_s=self.protocol.timeout_s
        ):
            if isinstance(message, End):
                ending = ending or (None if line else self._ended(message))
            elif message["event"] == "trial":
                line = {"kind": "trial", "cell": cell.id, **{k: v for k, v in message.items() if k != "event"}}
                self.forward_s += message["forward_s"]
            elif message["event"] == "error":
                ending = (message["outcome"], message["reason"])
        if ending:
            self._drop(cell, found, *ending)
            self._add(self._measured(summarize.untimed(found, cell, self.protocol, self.writer.id, *ending)))
        else:
            found.trials[cell.id] = line
            self.writer.samples.append(line, sync=False)
        self.watcher.tried(cell, line.get("call_s"))
        self._heed_interrupt()

    def _rounds(self, group: str, alive: Sequence[Cell], found: Found, reference: Cell | None) -> str:
        rule = summarize.rule_of(self.protocol, len(alive))
        while True:
            arms = [c for c in alive if c.id not in found.dropped]
            done, elapsed = len(found.rounds), sum(line.get("seconds", 0.0) for line in found.rounds)
            if not arms:
                return "no arm was left"
            if done:
                widths = summarize.half_widths(found, arms, reference, rule.level_at_a_look) if done > 1 else {}
                decision = rule.decide(done, widths, elapsed)
                if decision.stop and (done >= LEAST_ROUNDS or done >= rule.looks[0]):
                    return decision.why
            look = rule.next_look(done) or done + 1
            rounds = min(self.protocol.rounds_each - done % self.protocol.rounds_each, look - done)
            self._process(group, arms, found, rounds, rule.budget_s - elapsed)
            self._heed_interrupt()

    def _process(self, group: str, arms: Sequence[Cell], found: Found, rounds: int, budget_s: float) -> None:
        """Give up to `rounds` rounds of all arms in one fresh process."""
        process = 1 + max((line["process"] for line in found.rounds), default=-1)
        calls = {c.id: self.protocol.calls_in_turn(found.trials[c.id]["call_s"]) for c in arms}
        once = sum(
            max(self.protocol.prime_s, self.protocol.prime_calls * found.trials[c.id]["call_s"])
            + calls[c.id] * found.trials[c.id]["call_s"]
            for c in arms
        )
        compiling = sum(found.trials[c.id]["values"].get("compile_s", 0.0) for c in arms)
        nursery = self._nursery(arms[0].allocator)
        self.stop_file = nursery.status
        job = self._job(
            "time",
            cells=[c.as_dict() for c in arms],
            seed=self.sweep.seed + 7919 * process,
            calls=calls,
            first_round=len(found.rounds),
            rounds=rounds,
            prime_s=self.protocol.prime_s,
            prime_calls=self.protocol.prime_calls,
            cold=self.protocol.cold,
        )
        since, spent, dropped = time.monotonic(), 0.0, False
        patience = self.protocol.timeout_s + 10 * once + 3 * compiling
        for message in nursery.do(job, patience_s=patience):
            if isinstance(message, End):
                if (message.code != 0 or message.timed_out) and not self.interrupts > 1:
                    culprit = os.pread(nursery.status, 12, 1).decode(errors="replace")
                    cell = next((c for c in arms if c.id == culprit), arms[0])
                    self._drop(cell, found, *self._ended(message))
                elif not spent and not dropped and not self.interrupts:
                    raise AttnbenchError(f"a timing process gave no round; {message.told()}")
            elif message["event"] == "round":
                seconds = time.monotonic() - since
                since, spent = time.monotonic(), spent + seconds
                self.forward_s += message["forward_s"]
                line = {"kind": "round", "group": group, "process": process, "seconds": seconds}
                line |= {k: message[k] for k in ("round", "samples", "host", "queue", "conditions")}
                found.rounds.append(line)
                self.writer.samples.append(line, sync=False)
                self.watcher.round(arms, len(found.rounds), seconds)
                nursery.empty_log()
                if spent > budget_s and len(found.rounds) >= LEAST_ROUNDS:
                    os.pwrite(nursery.status, b"S", 0)
            elif message["event"] == "dropped":
                dropped = True
                cell = next(c for c in arms if c.id == message["cell"])
                self._drop(cell, found, message["outcome"], message["reason"])
        self.stop_file = -1

    def _ceilings(self, cell: Cell) -> Mapping[str, float]:
        key = (cell.device, cell.precision, cell.threads, cell.allocator)
        if key not in self.ceilings:
            self.watcher.stage("measuring the ceilings of this machine")
            for message in self._nursery(cell.allocator).do(self._job("ceilings", cell=cell.as_dict()), patience_s=120):
                if not isinstance(message, End) and message["event"] == "ceilings":
                    self.ceilings[key] = {k: v for k, v in message.items() if k != "event"}
            line = {"kind": "ceilings", "key": list(key), **self.ceilings.setdefault(key, {})}
            self.writer.samples.append(line, sync=False)
        return self.ceilings[key]

    # --- what they share ----------------------------------------------------------------------------------

    def _job(self, kind: str, **words: Any) -> dict[str, Any]:
        shared = {"plugins": self.sweep.plugins, "weights": self.sweep.weights, "seed": self.sweep.seed}
        numbers = {"inference": self.protocol.inference, "memory_limit": self.protocol.memory_limit}
        return {"kind": kind, **shared, **numbers, **words}

    def _nursery(self, allocator: str) -> Nursery:
        if allocator not in self.nurseries:
            self.nurseries[allocator] = Nursery(allocator)
        return self.nurseries[allocator]

    def _ended(self, end: End) -> tuple[str, str]:
        if end.timed_out:
            return "timeout", f"it gave nothing for {self.protocol.timeout_s:g} s and was killed"
        if end.code == -signal.SIGKILL and end.oom_killed:
            return "oom", "the system killed its process for want of memory"
        return "crashed", end.told()

    def _drop(self, cell: Cell, found: Found, outcome: str, reason: str) -> None:
        found.dropped[cell.id] = (outcome, reason)
        line = {"kind": "dropped", "cell": cell.id, "outcome": outcome, "reason": reason}
        self.writer.samples.append(line, sync=False)

    def _measured(self, record: Record) -> Record:
        """The record without the quantities that were not asked for."""
        measure = set(self.sweep.measure)
        hidden = set() if "memory" in measure else {
            "weights_bytes", "input_bytes", "peak_growth_bytes", "allocator_peak_bytes", "peak_reserved_bytes",
            "peak_memory_bytes",
        }  # fmt: skip
        hidden |= set() if "macs" in measure else {"macs", "macs_fvcore", "macs_formula", "macs_mmdet"}
        hidden |= set() if "params" in measure else {"params"}
        values = {k: v for k, v in record.values.items() if k not in hidden}
        return Record(**{**record.__dict__, "values": values})

    def _add(self, record: Record) -> None:
        if record.cell.id in self.writer.done:
            return
        self.writer.add(record)
        self.watcher.recorded(record)

    def _replay(self) -> None:
        """Take in the journal of an earlier session."""
        home = {c.id: c.group for c in self.plan.cells}
        for line in self.writer.samples.lines:
            kind = line.get("kind")
            if kind == "count":
                self.counts[line["key"]] = line
            elif kind == "trial" and line["cell"] in home:
                self.found[home[line["cell"]]].trials[line["cell"]] = line
            elif kind == "dropped" and line["cell"] in home:
                self.found[home[line["cell"]]].dropped[line["cell"]] = (line["outcome"], line["reason"])
            elif kind == "round" and line["group"] in self.found:
                self.found[line["group"]].rounds.append(line)
                self.found[line["group"]].resumed = True
            elif kind == "ceilings":
                words = ("macs_per_s", "bytes_per_s")
                self.ceilings[tuple(line["key"])] = {k: line[k] for k in words if k in line}
        for cell in self.plan.cells:  # a drop whose record was not written before the end
            found = self.found[cell.group]
            if cell.id in found.dropped and cell.id not in self.writer.done:
                found.counts = self.counts
                self._add(
                    self._measured(
                        summarize.untimed(found, cell, self.protocol, self.writer.id, *found.dropped[cell.id])
                    )
                )

    def _heed_interrupt(self) -> None:
        if self.interrupts:
            raise Interrupted

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heed(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                raise KeyboardInterrupt
            if self.stop_file >= 0:
                os.pwrite(self.stop_file, b"S", 0)
            self.watcher.say("finishing this turn; Ctrl-C again stops at once")

        old = signal.signal(signal.SIGINT, heed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old)


def forward_share(folder: Path) -> tuple[float, float]:
    """Seconds of wall time and seconds inside forward calls, over all sessions of a run (`make overhead`)."""
    from attnbench.results.store import SAMPLES, read_lines

    sessions = [line for line in read_lines(folder / SAMPLES)[0] if line.get("kind") == "session"]
    return math.fsum(s["seconds"] for s in sessions), math.fsum(s["forward_s"] for s in sessions)
