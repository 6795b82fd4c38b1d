"""Plan -> records in a run folder. The runner decides what comes next; workers do it, the store keeps it.

Every planned cell ends with exactly one record. Each arm is first tried alone in a process of its own; the survivors of
a comparison group share timing processes. Groups take turns by process, so that what changes over minutes meets all of
them alike. Every event is stored as it comes, so that the same command resumes a run that was killed.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from attnbench import __version__, registry, runtimes
from attnbench.analysis import summarize
from attnbench.analysis.summarize import GroupData
from attnbench.errors import AttnbenchError
from attnbench.execution.comparison import FRUITLESS, Comparison
from attnbench.execution.counting import Counting
from attnbench.execution.deadline import Deadline
from attnbench.execution.fork_server import allocator_environment
from attnbench.execution.interrupts import Interrupted, Interrupts
from attnbench.execution.machine_facts import MachineFacts
from attnbench.execution.progress import Silent, Watcher
from attnbench.execution.resume import replay
from attnbench.execution.servers import EarlyServers
from attnbench.execution.workers import Workers
from attnbench.machine import environment
from attnbench.planning import protocol
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import PROBES, Plan, Sweep, plan
from attnbench.results.events import Dropped, Event, Exported, Failure, Round, SessionEnd, Trial
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import Writer, create_or_resume

__all__ = ["Interrupted", "default_folder", "execute", "make_plan", "run"]

INTERLEAVED = 8  # groups that take turns by process; more would leave a long run without a record for hours


def make_plan(sweep: Sweep, *, all_may_decline: bool = False) -> tuple[Plan, registry.Registry]:
    """Gather the mechanisms and decide every cell; `all_may_decline`: as of `plan`.

    Raises:
        AttnbenchError: whatever of the request cannot be served.
    """
    from attnbench.machine.devices import open_device

    numbers = protocol.get(sweep.protocol, sweep.overrides)
    for allocator in sweep.allocator:
        allocator_environment(allocator)
    devices = {name: open_device(name) for name in sweep.device}
    for runtime in sweep.runtime:
        runtimes.get(runtime).require()
    tf32 = [
        name for name, device in devices.items() if numbers.tf32 and not sweep.precision and not device.refuses("tf32")
    ]
    known = registry.load(sweep.plugins, rehearse=True)
    sweep = with_protocols_batch(sweep)
    refused = {(n, p): why for n, device in devices.items() for p in sweep.precision if (why := device.refuses(p))}
    threads = environment.default_threads()
    made = plan(
        sweep, known, threads=threads, refused=refused, precisions=dict.fromkeys(tf32, "tf32"),
        all_may_decline=all_may_decline,
    )  # fmt: skip
    if tf32:
        note = f"{sweep.protocol} runs tf32 on {', '.join(tf32)}: PyTorch's default when the authors timed"
        made = replace(made, notes=(*made.notes, f"{note}; for IEEE fp32 use --precision fp32"))
    return made, known


def with_protocols_batch(sweep: Sweep) -> Sweep:
    """The sweep with the batch size that its protocol prescribes, where it names none."""
    batch = protocol.get(sweep.protocol, sweep.overrides).batch
    return replace(sweep, batch=(batch,)) if batch and not sweep.batch else sweep


def default_folder(planned: Plan) -> Path:
    """The folder of a run that was given no --out: the same command finds it again."""
    return Path("runs") / f"{planned.sweep.protocol}-{planned.hash}"


def run(sweep: Sweep, out: Path | str | None = None, *, watcher: Watcher | None = None, command: str = "") -> Path:
    """Measure a sweep; resume it if the folder holds the same plan.

    Args:
        sweep: what to measure.
        out: the run folder; by default one under runs/ named by the plan.
        watcher: receives the progress.
        command: what resumes the run, for the record.

    Returns:
        The run folder.

    Raises:
        AttnbenchError: a request that cannot be served, or a folder that cannot be used.
        Interrupted: Ctrl-C; the same call resumes.
    """
    planned, _ = make_plan(sweep)
    return execute(planned, Path(out) if out else default_folder(planned), watcher=watcher, command=command)


def execute(
    planned: Plan, folder: Path, *, watcher: Watcher | None = None, command: str = "",
    servers: EarlyServers | None = None,
) -> Path:  # fmt: skip
    """Measure a plan into `folder`; see `run`. Fork servers that were started before it was planned save time."""
    sweep = planned.sweep
    numbers = protocol.get(sweep.protocol, sweep.overrides)
    facts = RunFacts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or shlex.join(["attnbench", "run"]),
        attnbench=__version__,
        protocol=asdict(numbers),
        environment=environment.describe(sweep.device),
    )
    with create_or_resume(folder, planned, facts) as writer:
        origins = planned.origins if planned.isolated else None
        workers = Workers(sweep, numbers, {sweep.allocator[0]: servers.timing} if servers else None, origins)
        counting = Counting(sweep, numbers, origins, servers.counting if servers else None)
        _Runner(planned, writer, numbers, watcher or Silent(), workers, counting).go()
    return folder


class _Runner:
    def __init__(
        self, planned: Plan, writer: Writer, numbers: protocol.Protocol, watcher: Watcher, workers: Workers,
        counting: Counting,
    ) -> None:  # fmt: skip
        self.plan, self.writer, self.protocol, self.watcher, self.workers = planned, writer, numbers, watcher, workers
        self.measure = set(planned.sweep.measure)
        self.interrupts = Interrupts(self._on_interrupt)
        self.known = replay(planned, writer.events)
        self.exports: dict[tuple[object, ...], Exported | Failure] = {}
        self.export_values: dict[str, Mapping[str, float | int]] = {}
        self.machine = MachineFacts(workers, self.known, watcher, self._log)
        self.counting = counting
        self.forward_s = 0.0
        self.deadline = Deadline()

    def go(self) -> None:
        """Measure what is left of the plan."""
        started = time.monotonic()
        self.deadline = Deadline(self.protocol.within_s, self.writer.events)
        with self.interrupts:
            try:
                with self.workers, self.counting:
                    self.watcher.begin(self.plan, self.writer.records)
                    if self.deadline.limits:
                        self.watcher.limit(self.deadline.left_s)
                    self._record_what_is_decided()
                    for groups in self._batches():
                        self._measure(groups)
            finally:
                with contextlib.suppress(AttnbenchError):  # a disk that is full has been reported before
                    self._log(SessionEnd(seconds=time.monotonic() - started, forward_s=self.forward_s))
                self.watcher.end()
            self.writer.require_every_record()

    def _record_what_is_decided(self) -> None:
        """Declined cells, and cells dropped in an earlier session whose record was not written before its end."""
        for cell in self.plan.cells:
            data = self.known.groups[cell.group]
            if cell.id in self.plan.declined:
                self._add_untimed(GroupData(), cell, "declined", self.plan.declined[cell.id])
            elif cell.id in data.dropped:
                self._add_untimed(data, cell, data.dropped[cell.id].outcome, data.dropped[cell.id].reason)

    def _batches(self) -> Iterator[list[tuple[str, list[Cell]]]]:
        """The groups that still lack records, a few at a time; all at once where they share a budget."""
        open_groups = [
            (group, cells)
            for group, cells in self.plan.groups().items()
            if any(cell.id not in self.writer.done for cell in cells)
        ]
        together = max(1, len(open_groups)) if self.deadline.limits else INTERLEAVED
        for start in range(0, len(open_groups), together):
            yield open_groups[start : start + together]

    def _measure(self, groups: Sequence[tuple[str, list[Cell]]]) -> None:
        """Count and try every cell of these groups, then time the survivors, group by group in turn."""
        comparisons = []
        for group, cells in groups:
            tried = [c for c in cells if c.id not in self.plan.declined]
            if self.deadline.passed:
                self._decline_untried(tried, self.known.groups[group])
                tried = [c for c in tried if c.id in self.known.groups[group].trials]
            self._begin_to_count(tried)
            self.workers.prepare(tried if "latency" in self.measure else ())
            if self.measure - {"params", "macs"}:
                self._export(tried, self.known.groups[group])
                if any(cell.device == "cpu" for cell in tried):  # a trial's threads wait for one that shares its core
                    self._count(tried)
                self._try(tried, self.known.groups[group])
                self._probe(tried, self.known.groups[group])
            self._count(tried)
            if "latency" in self.measure:
                comparison = self._comparison(group, tried)
                comparisons += [comparison] if comparison else []
            else:
                self._record_untimed(tried, self.known.groups[group])
        while comparisons:
            for comparison in list(comparisons):
                why = comparison.stopped()
                if why:
                    comparisons.remove(comparison)
                    self._record_timed(comparison, why)
                else:
                    self._time(comparison)

    def _uncounted(self, cells: Sequence[Cell]) -> list[Cell]:
        wanted = {"params", "macs"} & self.measure
        return [c for c in cells if wanted and c.count_key not in self.known.counts]

    def _begin_to_count(self, cells: Sequence[Cell]) -> None:
        """Count in the background, until `_count` asks for the results; nothing is timed meanwhile."""
        self.counting.ask(self._uncounted(cells))

    def _count(self, cells: Sequence[Cell]) -> None:
        for cell in self._uncounted(cells):
            if cell.count_key not in self.known.counts:  # two cells that count alike
                self.watcher.stage(f"counting {cell.variant}")
                count = self.counting.count(cell, self.interrupts.raise_if_requested)
                self.known.counts[cell.count_key] = count
                self._log(count)

    def _export(self, cells: Sequence[Cell], data: GroupData) -> None:
        """The layers of runtimes that take a file; in every session anew, for the cache may have lost one."""
        for cell in cells:
            runtime = runtimes.get(cell.runtime)
            if not runtime.artifact or cell.id in data.dropped or cell.id in self.writer.done or self.deadline.passed:
                continue
            shared = replace(cell, runtime=runtimes.EAGER, threads=1, allocator="")  # runtimes share a file
            key = (runtime.artifact, runtime.export, shared)
            if key not in self.exports:
                self.watcher.stage(f"exporting {cell.variant}", cell)
                self.exports[key] = self.counting.export(cell, self.interrupts.raise_if_requested)
            made = self.exports[key]
            if isinstance(made, Exported):
                self.workers.artifacts[cell.id], self.export_values[cell.id] = made.artifact, made.values
            else:
                self._lose(cell, made, data)
            self.interrupts.raise_if_requested()

    def _decline_untried(self, cells: Sequence[Cell], data: GroupData) -> None:
        """Cells that the budget of the run leaves no time to try."""
        for cell in cells:
            if cell.id not in data.trials and cell.id not in data.dropped:
                self._add_untimed(data, cell, "declined", f"{self.deadline.why} before its trial; allow more time")

    def _lose(self, cell: Cell, failure: Failure, data: GroupData) -> None:
        """A cell that did not survive its export or trial."""
        self.watcher.tried(cell, None)
        self._drop(Dropped(cell=cell.id, outcome=failure.outcome, reason=failure.reason), data)
        self._count([cell])
        self._add_untimed(data, cell, failure.outcome, failure.reason)

    def _try(self, cells: Sequence[Cell], data: GroupData) -> None:
        for cell in cells:
            if cell.id in data.trials or cell.id in data.dropped or cell.id in self.writer.done:
                continue
            if self.deadline.passed:
                self._decline_untried([cell], data)
                continue
            self.watcher.stage(f"trying {cell.variant}", cell)
            result = self.workers.trial(cell)
            if isinstance(result, Trial):
                result = replace(result, values={**result.values, **self.export_values.get(cell.id, {})})
                data.trials[cell.id] = result
                self._log(result)
                self.forward_s += result.forward_s
                self.watcher.tried(cell, result.call_s)
            else:
                self._lose(cell, result, data)
            self.interrupts.raise_if_requested()

    def _probe(self, cells: Sequence[Cell], data: GroupData) -> None:
        """The passes beside time over every cell that survived its trial; one that fails costs the cell nothing."""
        for cell in cells:
            if cell.id not in data.trials or cell.id in data.dropped or cell.id in self.writer.done:
                continue
            if self.deadline.passed:
                return
            for what in PROBES:
                if what in self.measure and (cell.id, what) not in data.probes:
                    self.watcher.stage(f"{what} of {cell.variant}", cell)
                    data.probes[cell.id, what] = self.workers.probe(cell, what)
                    self._log(data.probes[cell.id, what])
                    self.interrupts.raise_if_requested()

    def _comparison(self, group: str, cells: Sequence[Cell]) -> Comparison | None:
        """The group's survivors, ready to be timed; None when nothing is left to do."""
        data = self.known.groups[group]
        alive = [c for c in cells if c.id not in data.dropped and c.id in data.trials]
        if all(c.id in self.writer.done for c in alive):
            return None
        if "macs" in self.measure:
            data.ceilings = self.machine.ceilings(alive[0])
        data.between_runs = self.machine.between_runs(alive[0], self.protocol)
        apart = self.plan.isolated if self.protocol.schedule != "separate" else ()
        return Comparison(group, alive, data, self.protocol, self.plan.sweep.reference, apart, self.deadline)

    def _time(self, comparison: Comparison) -> None:
        """Some rounds of a group in one fresh process."""
        arms, data, since, useful = comparison.arms, comparison.data, time.monotonic(), False
        started = since
        self.watcher.stage(f"building {len(arms)} arms at {arms[0].conditions()}", arms[0])
        rounds: Callable[..., Iterator[Round | Dropped]] = self.workers.rounds
        if self.protocol.schedule == "separate":
            rounds = self.workers.separate_rounds
        elif comparison.alone:
            rounds = partial(self.workers.rounds_beside, alone=comparison.alone, turns_alone=comparison.turns_alone)
        for event in rounds(
            comparison.shared,
            group=comparison.group,
            process=comparison.process,
            first_round=len(data.rounds),
            rounds=comparison.next_rounds(),
            calls=comparison.calls(),
            reference=comparison.reference.id if comparison.reference else "",
            reference_turns=comparison.reference_turns,
            patience_s=comparison.patience_s(),
        ):
            if isinstance(event, Round):
                comparison.start_s = comparison.start_s if useful else time.monotonic() - started
                data.rounds.append(event)
                self._log(event)
                self.forward_s += event.forward_s
                self.watcher.round(arms, len(data.rounds), time.monotonic() - since)
                since = time.monotonic()
                if comparison.out_of_time() or self.deadline.passed:
                    self.workers.stop_after_turn()
            else:
                self._drop(event, data)
            useful = True
        comparison.fruitless = 0 if useful else comparison.fruitless + 1
        self.interrupts.raise_if_requested()
        if comparison.fruitless >= FRUITLESS:
            for cell in comparison.arms:
                why = f"{FRUITLESS} timing processes in a row gave no round; {self.workers.last_failure}"
                self._drop(Dropped(cell=cell.id, outcome="crashed", reason=why), data)

    def _record_untimed(self, cells: Sequence[Cell], data: GroupData) -> None:
        """Cells of which only counts or memory were wanted; without a trial and without counts they failed."""
        for cell in cells:
            count = data.counts.get(cell.count_key)
            if cell.id in data.dropped:
                continue
            if cell.id in data.trials or (count and count.values):
                self._add_untimed(data, cell)
            else:
                self._add_untimed(data, cell, "failed", count.notes if count else "nothing was measured")

    def _record_timed(self, comparison: Comparison, why: str) -> None:
        data = comparison.data
        if self.deadline.passed and not data.rounds:
            late = f"{self.deadline.why} before its first round; allow more time"
            for cell in comparison.arms:
                self._add_untimed(data, cell, "declined", late)
        left = [c for c in comparison.cells if c.id not in self.writer.done]
        for record in summarize.summarize(
            data, left, self.protocol, reference=comparison.reference, stopped=why, run_id=self.writer.id,
            resting=comparison.resting,
        ):  # fmt: skip
            self._add(record)

    def _add_untimed(self, data: GroupData, cell: Cell, outcome: str = "ok", reason: str = "") -> None:
        self._add(summarize.untimed(data, cell, self.protocol, self.writer.id, outcome, reason))

    def _add(self, record: Record) -> None:
        if record.cell.id not in self.writer.done:
            shown = record.asked_for(self.measure)
            self.writer.add(shown)
            self.watcher.recorded(shown)

    def _drop(self, dropped: Dropped, data: GroupData) -> None:
        data.dropped[dropped.cell] = dropped
        self._log(dropped)

    def _log(self, event: Event) -> None:
        self.writer.log(event)

    def _on_interrupt(self) -> None:
        self.workers.request_stop()
        self.watcher.say("finishing this turn; Ctrl-C again stops at once")
