"""What a child process does for one job: count a layer, try an arm, time the arms of a group, measure ceilings.

A trial is one arm alone: built, its output checked, its memory measured. A timing job builds every arm of a comparison
anew, in random order, and gives rounds: in each, every arm has one turn, in random order, and the reference several.
What is seen is reported as events; the runner makes records of them.
"""

from __future__ import annotations

import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnbench import registry
from attnbench.errors import AttnbenchError
from attnbench.execution import jobs
from attnbench.execution.jobs import CeilingsJob, CountJob, TimingJob, TrialJob
from attnbench.execution.schedule import joined
from attnbench.execution.status_file import StatusFile
from attnbench.machine.devices import Device, open_device
from attnbench.measure import latency, memory
from attnbench.measure.arm import Arm, ContractError, make_inputs
from attnbench.measure.ceilings import measure_ceilings
from attnbench.measure.kernels import kernel_that_ran
from attnbench.planning.sweep import Cell
from attnbench.registry.variant import parse_variant
from attnbench.results.events import ArmTurn, Ceilings, Count, Dropped, Event, Failure, Progress, Round, Trial

Say = Callable[[Event], None]
_SPARE_BYTES = 256 << 20


def do(line: Mapping[str, Any], status: int, say: Say) -> None:
    """Do the job on this line; `status` is the descriptor of the status file.

    Raises:
        ValueError: an unknown kind of job.
    """
    job = jobs.from_line(line)
    if isinstance(job, CountJob):
        say(_count(job))
    elif isinstance(job, TrialJob):
        _trial(job, say)
    elif isinstance(job, TimingJob):
        _Timing(job, StatusFile(status), say).run()
    else:
        say(_ceilings(job))


def _count(job: CountJob) -> Count:
    from attnbench.measure import mmdet
    from attnbench.measure.flops import count

    cell = job.cell
    known = registry.load(job.plugins)
    module = known.build(known.check(parse_variant(cell.variant)), cell.size).eval()
    shape = (1, *cell.grid, cell.dim) if cell.scope == "layer" else (1, 3, cell.res_h, cell.res_w)
    counts = count(module, torch.empty(shape, device="meta"))
    formula, formula_notes = known[cell.mechanism].macs, ""
    by_formula: int | None = None
    try:
        by_formula = int(formula(cell.size)) if formula else None
    except Exception as error:  # a plugin's formula, or a model around a layer without one
        formula_notes = f"its formula raised {type(error).__name__}: {error}"
    by_mmdet = mmdet.total(module, torch.empty(shape, device="meta")) if cell.scope == "task" else None
    return Count(
        key=cell.count_key,
        values={
            "params": counts.params, "macs": counts.macs, "macs_fvcore": counts.macs_fvcore,
            "macs_formula": by_formula, "macs_mmdet": by_mmdet,
        },
        lower_bound=counts.lower_bound,
        notes="; ".join(filter(None, (counts.notes, formula_notes))),
    )  # fmt: skip


def _trial(job: TrialJob, say: Say) -> None:
    cell, started = job.cell, time.perf_counter()
    threads_before = set(threading.enumerate())
    device = _device(cell, job.memory_limit)
    try:
        known = registry.load(job.plugins)
        arm = Arm(cell, device, known, inference=job.inference, weights=job.weights)
        inputs = make_inputs(cell, device, arm.dtype, job.seed, sets=1)
        arm.feed(inputs)
        say(Progress(stage="built"))
        first = time.perf_counter()
        arm()
        device.synchronize()
        first_s = time.perf_counter() - first
        arm.check()
        start = time.perf_counter()
        turn = device.time_calls(arm, 1 if first_s > 1 else 2)
        call_s = min(turn.device_s)
        kernel_ran = kernel_that_ran(arm) if cell.kernel == "sdpa" else cell.kernel
        values = memory.measure(device, arm)
        forward_s = first_s + (time.perf_counter() - start)
        arm()
        arm.check()
        _no_threads_left(threads_before)
    except (Exception, SystemExit) as error:
        say(_failure(error, device))
        return
    values["params"] = sum(p.numel() for p in arm.module.parameters() if p.requires_grad)
    if cell.compiled:
        values["compile_s"] = first_s
    say(
        Trial(
            cell=cell.id,
            values=values,
            call_s=call_s,
            kernel_ran=kernel_ran,
            device_name=device.title(),
            notes=device.memory_notes(),
            forward_s=forward_s,
            job_s=time.perf_counter() - started,
        )
    )


class _Timing:
    """The arms of one comparison group in this process, and rounds of them."""

    def __init__(self, job: TimingJob, status: StatusFile, say: Say) -> None:
        self.job, self.status, self.say = job, status, say
        self.rng = random.Random(job.order_seed)
        self.device = _device(job.cells[0], job.memory_limit)
        self.arms: list[Arm] = []
        self.inputs: list[Tensor] = []
        self.forward_s = 0.0

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
        cells = self.job.cells if self.job.fixed_order else self.rng.sample(self.job.cells, len(self.job.cells))
        for cell in cells:
            self.status.announce(cell.id)
            try:
                arm = Arm(cell, self.device, known, inference=self.job.inference, weights=self.job.weights)
                self.inputs = self.inputs or make_inputs(cell, self.device, arm.dtype, self.job.seed)
                self.arms.append(arm)
            except (Exception, SystemExit) as error:
                self._drop(cell, error)
        for arm in list(self.arms):
            if self.job.prime_calls or arm.cell.compiled:
                start = time.perf_counter()
                self._guarded(arm, lambda arm: arm())
                self.forward_s += time.perf_counter() - start
        self.say(Progress(stage="built"))

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
        for of_round in filter(None, parts.values()):
            self.say(joined(of_round))

    def _round(self, number: int) -> bool:
        """One round; False when the runner asked to stop."""
        rng = None if self.job.fixed_order else self.rng
        taken = self._turns(spread(self.arms, self.job.reference, self.job.reference_turns, rng), number)
        if taken is not None and taken.turns:
            self.say(taken)
        return taken is not None

    def _turns(self, order: Sequence[Arm], number: int) -> Round | None:
        """A turn of each of these arms, in this order, as a round; None when the runner asked to stop."""
        reading, started, primer_s = self.device.start_reading(), time.perf_counter(), 0.0
        turns: list[ArmTurn] = []
        for arm in order:
            if self.status.stop_requested():
                return None
            if arm not in self.arms:
                continue  # it was dropped at an earlier turn of this round
            start = time.perf_counter()
            answer = self._guarded(arm, self._turn, check=number == self.job.first_round)
            if answer is not None:
                turn, primer = answer
                turns.append(turn)
                primer_s += primer
            self.forward_s += time.perf_counter() - start
        self.status.announce("")
        spent, self.forward_s = self.forward_s, 0.0
        return Round(
            group=self.job.group,
            process=self.job.process,
            round=number,
            turns=tuple(turns),
            seconds=time.perf_counter() - started,
            forward_s=spent,
            primer_s=primer_s,
            conditions=dict(reading.finish()),
        )

    def _turn(self, arm: Arm) -> tuple[ArmTurn, float]:
        start, primers = time.perf_counter(), 0
        if self.job.prime_calls:
            primers = latency.prime(self.device, arm, self.job.prime_s, self.job.prime_calls)
        primer_s = time.perf_counter() - start
        reading = self.device.start_reading()
        turn = latency.turn(self.device, arm, self.job.calls[arm.cell.id], cold=self.job.cold)
        conditions = dict(reading.finish())
        return ArmTurn(
            cell=arm.cell.id, calls_s=turn.device_s, host_s=turn.host_s, queue_s=turn.queue_s, primers=primers,
            conditions=conditions,
        ), primer_s  # fmt: skip

    def _guarded(self, arm: Arm, work: Callable[[Arm], Any], *, check: bool = False) -> Any:
        """Let an arm work on inputs of its own; on an error it is dropped and None returned."""
        self.status.announce(arm.cell.id)
        try:
            arm.feed(self.inputs)
            answer = work(arm)
            self.device.synchronize()
            if check:
                arm.check()
            arm.leave()
            return answer
        except (Exception, SystemExit) as error:
            self.arms.remove(arm)
            self._drop(arm.cell, error)
            return None

    def _drop(self, cell: Cell, error: BaseException) -> None:
        failure = _failure(error, self.device)
        self.say(Dropped(cell=cell.id, outcome=failure.outcome, reason=failure.reason))
        if self.device.is_sticky(error):
            raise SystemExit("the device cannot be used in this process any more")


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


def _ceilings(job: CeilingsJob) -> Ceilings:
    cell = job.cell
    device = _device(cell, 0)
    best = measure_ceilings(device, device.set_precision(cell.precision), seconds=0.1)
    key = (cell.device, cell.precision, cell.threads, cell.allocator)
    return replace(Ceilings(key=key), macs_per_s=best.macs_per_s, bytes_per_s=best.bytes_per_s)


def _device(cell: Cell, memory_limit: int) -> Device:
    """The cell's device with its threads; on the CPU, allocations end at the limit and not in the kernel's hands."""
    device = open_device(cell.device)
    if cell.device.startswith("cpu") and sys.platform == "linux":
        limit = memory_limit or max(device.free_bytes() - _SPARE_BYTES, _SPARE_BYTES)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = mapped + limit
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    device.set_threads(cell.threads)
    return device


def _failure(error: BaseException, device: Device) -> Failure:
    """The outcome and the reason that an error amounts to."""
    if isinstance(error, SystemExit):
        return Failure(outcome="crashed", reason=f"it called sys.exit({error.code!r})")
    if device.is_out_of_memory(error):
        return Failure(outcome="oom", reason=_first_line(error))
    if device.is_sticky(error):
        return Failure(outcome="crashed", reason=_first_line(error))
    if isinstance(error, ContractError | AttnbenchError):
        return Failure(outcome="failed", reason=str(error))
    return Failure(outcome="failed", reason=f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]


def _no_threads_left(before: set[threading.Thread]) -> None:
    left = [t for t in threading.enumerate() if t not in before and not _of_the_compiler(t)]
    if left:
        raise ContractError(
            f"a layer must leave no thread behind; it left {len(left)}: {', '.join(t.name for t in left)}"
        )


def _of_the_compiler(thread: threading.Thread) -> bool:
    """PyTorch's own threads, and the idle monitor of the progress bars that it shows where tqdm is installed."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or type(thread).__module__
    return module.split(".")[0] in ("torch", "tqdm")
