"""The timed rounds of a comparison group, inside a worker: build every arm, then turns in random order.

Each arm works on inputs with the original values and leaves nothing but its weights behind after a turn: an arm that
changed the state of the process, or its inputs, is dropped, and the round is taken again. What is seen is reported as
events.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter  # bound before a plugin can replace it
from typing import Any

from attnbench import registry, runtimes
from attnbench.execution.guard import Guard
from attnbench.execution.jobs import TimingJob
from attnbench.execution.schedule import joined
from attnbench.execution.setup import failure_of, open_limited
from attnbench.execution.status_file import StatusFile
from attnbench.machine.counters import load_1min
from attnbench.measure import latency
from attnbench.measure.arm import Arm, InputSets, make_inputs
from attnbench.measure.canary import Canary
from attnbench.measure.initialize import prepared_weights
from attnbench.measure.start import start_libraries
from attnbench.planning.cell import Cell
from attnbench.registry.variant import parse_variant
from attnbench.results import flags
from attnbench.results.events import ArmTurn, Dropped, Event, Progress, Round

Say = Callable[[Event], None]
RETAKES = 2  # of a disturbed turn, under --strict


class Timing:
    """The arms of one comparison group in this process, and rounds of them."""

    def __init__(self, job: TimingJob, status: StatusFile, say: Say) -> None:
        self.job, self.status, self.say = job, status, say
        self.rng = random.Random(job.order_seed)
        self.device = open_limited(job.cells[0], job.memory_limit)
        self.arms: list[Arm] = []
        self.inputs = InputSets(())
        self.forward_s = 0.0
        self.canary = Canary(self.device)
        self.last_canary_s = 0.0
        self.canaries: list[float] = []
        self.foreign: set[str] = set()  # cells that run code of plugins
        self.void = False  # an arm has changed what the turns of this round share

    def run(self) -> None:
        """Build, then give the rounds that the job asks for, unless the runner asks to stop."""
        self._build()
        if self.job.sequential:
            self._rounds_arm_by_arm()
            return
        for number in range(self.job.first_round, self.job.first_round + self.job.rounds):
            if not self.arms or not self._round(number):
                return

    def _build(self) -> None:
        """Every arm anew, in random order; then one call of each, which makes its tables and compiles."""
        known = registry.load(self.job.plugins)
        self.foreign = {c.id for c in self.job.cells if known.origins_of(parse_variant(c.variant), c.size)}
        dtype = self.device.set_precision(self.job.cells[0].precision)
        for runtime in dict.fromkeys(cell.runtime for cell in self.job.cells):
            runtimes.load(runtime)
        if not self.job.prime_calls:
            start_libraries(self.device, dtype)
        self.guard = Guard()
        cells = self.job.cells if self.job.fixed_order else self.rng.sample(self.job.cells, len(self.job.cells))
        for cell in cells:
            arm = self._attempt(cell, partial(self._build_arm, cell, known))
            if arm is not None:
                self.arms.append(arm)
            self.say(Progress(stage=f"built {cell.variant}"))
        for arm in list(self.arms):
            if self.job.prime_calls or arm.cell.prepares_first:
                self.forward_s += self._guarded(arm, self._first_call) or 0.0
                self.say(Progress(stage=f"called {arm.cell.variant}"))  # the patience is for one arm's compilation
        if self.job.prime_calls:
            self.guard.settle()
        self.say(Progress(stage="built"))

    def _build_arm(self, cell: Cell, known: registry.Registry) -> Arm:
        with prepared_weights():
            arm = Arm(
                cell, self.device, known, inference=self.job.inference, weights=self.job.weights,
                artifact=self.job.artifacts.get(cell.id, ""),
            )  # fmt: skip
        if not self.inputs.originals:
            self.inputs = make_inputs(cell, self.device, arm.dtype, self.job.seed)
        self.device.synchronize()  # an error of this arm's kernels must not be the next arm's
        self.guard.check()
        return arm

    def _rounds_arm_by_arm(self) -> None:
        """All rounds, an arm's turns one after the other; reported when every arm has had its own."""
        numbers = range(self.job.first_round, self.job.first_round + self.job.rounds)
        parts: dict[int, list[Round]] = {number: [] for number in numbers}
        for arm in list(self.arms):
            for number in numbers:
                if arm in self.arms:
                    part = self._turns([arm], number)
                    if part is None:
                        return
                    parts[number] += [part] if part.turns else []
        for taken in filter(None, parts.values()):
            self.say(joined(taken))

    def _round(self, number: int) -> bool:
        """One round; False when the runner asked to stop."""
        rng = None if self.job.fixed_order else self.rng
        self.void = True
        while self.void:
            self.void = False
            taken = self._turns(spread(self.arms, self.job.reference, self.job.reference_turns, rng), number)
        if taken is not None and taken.turns:
            self.say(taken)
        return taken is not None

    def _turns(self, order: Sequence[Arm], number: int) -> Round | None:
        """A turn of each of these arms, in this order, as a round; None when the runner asked to stop."""
        started, primer_s = perf_counter(), 0.0
        turns: list[ArmTurn] = []
        self.last_canary_s = self.canary()
        for arm in order:
            if self.status.stop_requested():
                return None
            if arm not in self.arms:
                continue  # it was dropped at an earlier turn of this round
            answer = self._guarded(arm, self._turn, check=number == self.job.first_round)
            if answer is not None:
                turn, primer = answer
                turns.append(turn)
                primer_s += primer
                self.forward_s += primer + turn.host_s * len(turn.calls_s)
        self.status.announce("")
        spent, self.forward_s = self.forward_s, 0.0
        load = load_1min()
        return Round(
            group=self.job.group,
            process=self.job.process,
            round=number,
            turns=tuple(turns),
            seconds=perf_counter() - started,
            forward_s=spent,
            primer_s=primer_s,
            conditions={} if load is None else {"load_1min": load},
        )

    def _first_call(self, arm: Arm) -> float:
        start = perf_counter()
        arm()
        self.device.synchronize()
        return perf_counter() - start

    def _turn(self, arm: Arm) -> tuple[ArmTurn, float]:
        """One turn, and the seconds of its untimed calls; under `strict` a disturbed one is taken again."""
        turn, primer_s = self._take(arm)
        for _ in range(RETAKES if self.job.strict else 0):
            if not flags.disturbed(turn.conditions, canary_s=median(self.canaries) if self.canaries else 0.0):
                break
            again, more_s = self._take(arm)
            turn, primer_s = replace(again, retaken=turn.retaken + 1), primer_s + more_s
        return turn, primer_s

    def _take(self, arm: Arm) -> tuple[ArmTurn, float]:
        arm.capture()
        reading, start, primers = self.device.start_reading(), perf_counter(), 0
        if self.job.prime_calls:
            primers = latency.prime(self.device, arm, self.job.prime_s, self.job.prime_calls)
        primer_s = perf_counter() - start
        turn = latency.turn(self.device, arm, self.job.calls[arm.cell.id], cold=self.job.cold)
        conditions = dict(reading.finish())
        after = self.canary()
        if after:
            conditions |= {"canary_before_s": self.last_canary_s, "canary_after_s": after}
            self.canaries.append(after)
            self.last_canary_s = after
        given = ArmTurn(
            cell=arm.cell.id,
            calls_s=turn.device_s,
            host_s=turn.host_s,
            queue_s=turn.queue_s,
            primers=primers,
            conditions=conditions,
        )
        return given, primer_s

    def _guarded(self, arm: Arm, work: Callable[[Arm], Any], *, check: bool = False) -> Any:
        """Let an arm work on the restored inputs; on an error it is dropped and None returned."""

        def turn() -> Any:
            arm.feed(self.inputs)
            answer = work(arm)
            self.device.synchronize()
            if check:
                arm.check()
            else:
                arm.check_values()
            self.guard.check(arm, thorough=check)
            arm.leave()
            return answer

        return self._attempt(arm.cell, turn)

    def _attempt(self, cell: Cell, work: Callable[[], Any]) -> Any:
        """What the work gives; on an error the cell's arm is dropped and None returned.

        An arm that had memory enough alone may run out of it in company. All that arms hold beside their weights is
        then released, and the work is done once more.
        """
        self._begin(cell)
        for last in (False, True):
            try:
                answer = work()
                self._ran(cell)
                return answer
            except (Exception, SystemExit) as error:
                if last or not self.device.is_out_of_memory(error):
                    self._drop(cell, error)
                    break
            self._release()  # not where the error is caught: its frames hold tensors
        self._release()
        self.arms = [arm for arm in self.arms if arm.cell.id != cell.id]
        return None

    def _release(self) -> None:
        """Keep of every arm its weights alone."""
        for arm in self.arms:
            arm.leave()
        self.inputs.release()
        self.device.release_memory()

    def _begin(self, cell: Cell) -> None:
        """From now on the code of this cell's layer runs."""
        self.status.announce(cell.id)
        if cell.id in self.foreign:
            self.say(Progress(stage="turn"))

    def _ran(self, cell: Cell) -> None:
        """The code of this cell's layer has run: noise on the channel since `_begin` is its own."""
        if cell.id in self.foreign:
            self.say(Progress(stage="turn", cell=cell.id))

    def _drop(self, cell: Cell, error: BaseException) -> None:
        failure = self.guard.failure(failure_of(error, self.device), error)
        self.void = self.void or self.guard.changed
        self.say(Dropped(cell=cell.id, outcome=failure.outcome, reason=failure.reason))
        if self.device.is_sticky(error):
            raise SystemExit("the device cannot be used in this process any more")
        if self.guard.beyond_repair:
            raise SystemExit(f"the process cannot be used any more: {self.guard.beyond_repair}")


def spread(arms: Sequence[Arm], reference: str, times: int, rng: random.Random | None) -> list[Arm]:
    """The order of a round, in which the reference has `times` turns, one in each of as many equal stretches.

    Random; without `rng` the arms stay in the order given, and the reference begins each stretch.
    """
    base = next((arm for arm in arms if arm.cell.id == reference), None)
    others = [arm for arm in arms if arm is not base]
    if rng:
        rng.shuffle(others)
    if base is None:
        return others
    order: list[Arm] = []
    for part in range(times):
        stretch = others[part * len(others) // times : (part + 1) * len(others) // times]
        place = rng.randrange(len(stretch) + 1) if rng else 0
        order += [*stretch[:place], base, *stretch[place:]]
    return order
