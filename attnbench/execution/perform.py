"""What a child process does for one job: count a layer, try an arm, time the arms of a group, measure ceilings.

A trial is one arm alone: built, its output checked, its memory measured. A timing job builds every arm of a comparison
anew, in random order, and gives rounds: in each, every arm has one turn, in random order, and the reference several.
What is seen is reported as events; the runner makes records of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from time import perf_counter  # bound before a plugin can replace it
from typing import Any

import torch

from attnbench import registry
from attnbench.analysis.machines import APART
from attnbench.execution import jobs
from attnbench.execution.guard import Guard
from attnbench.execution.jobs import CeilingsJob, CountJob, ProbeJob, TimingJob, TrialJob
from attnbench.execution.setup import failure_of, open_limited
from attnbench.execution.status_file import StatusFile
from attnbench.execution.timing import Timing
from attnbench.measure import breakdown, energy, error, memory
from attnbench.measure.arm import Arm, make_inputs
from attnbench.measure.ceilings import measure_ceilings, product_rate
from attnbench.measure.kernels import kernel_that_ran
from attnbench.registry.variant import parse_variant
from attnbench.results.events import Ceilings, Count, Event, Probe, Progress, Trial

Say = Callable[[Event], None]


def do(line: Mapping[str, Any], status: int, say: Say) -> None:
    """Do the job on this line; `status` is the descriptor of the status file.

    Raises:
        ValueError: an unknown kind of job.
    """
    job, shared = jobs.from_line(line), StatusFile(status)
    if not isinstance(job, CeilingsJob) and job.imports is not None:
        registry.restrict(job.imports)
    if isinstance(job, CountJob):
        say(_count(job))
    elif isinstance(job, TrialJob):
        _trial(job, say)
    elif isinstance(job, ProbeJob):
        say(_probe(job))
    elif isinstance(job, TimingJob):
        Timing(job, shared, say).run()
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
    by_formula, formula_notes = None, ""
    try:
        by_formula = known.macs(cell.mechanism, cell.size)
    except ValueError as error:
        formula_notes = str(error)
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
    cell, started = job.cell, perf_counter()
    device = open_limited(cell, job.memory_limit)
    guard: Guard | None = None
    try:
        known = registry.load(job.plugins)
        say(Progress(stage="imported"))
        of_plugin = cell.id if known.origins_of(parse_variant(cell.variant), cell.size) else ""
        device.set_precision(cell.precision)
        guard = Guard()
        arm = Arm(cell, device, known, inference=job.inference, weights=job.weights)
        inputs = make_inputs(cell, device, arm.dtype, job.seed, sets=1)
        arm.feed(inputs)
        guard.check()
        say(Progress(stage="built", cell=of_plugin))
        first = perf_counter()
        arm()
        device.synchronize()
        first_s = perf_counter() - first
        arm.check()
        guard.check(arm, thorough=True)
        guard.settle()
        start = perf_counter()
        turn = device.time_calls(arm, 1 if first_s > 1 else 2)
        call_s = min(turn.device_s)
        guard.check(arm, thorough=True)
        kernel_ran = kernel_that_ran(arm)
        values = memory.measure(device, arm)
        guard.settle()  # the profiler has threads of its own
        forward_s = first_s + (perf_counter() - start)
        arm()
        arm.check()
        guard.check(arm, thorough=True)
        say(Progress(stage="tried", cell=of_plugin))
    except (Exception, SystemExit) as error:
        failure = failure_of(error, device)
        say(guard.failure(failure, error) if guard else failure)
        return
    values["params"] = sum(p.numel() for p in arm.module.parameters() if p.requires_grad)
    if cell.compiles:
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
            job_s=perf_counter() - started,
        )
    )


def _probe(job: ProbeJob) -> Probe:
    """One pass beside time; a layer that fails in it, or changes the process, leaves its reason in the words."""
    device = open_limited(job.cell, job.memory_limit)
    guard: Guard | None = None
    try:
        known = registry.load(job.plugins)
        device.set_precision(job.cell.precision)
        guard = Guard()
        if job.what == "error":
            values, words = error.measure(job.cell, device, known, weights=job.weights, seed=job.seed)
            guard.check()
        else:
            arm = Arm(job.cell, device, known, inference=job.inference, weights=job.weights)
            inputs = make_inputs(job.cell, device, arm.dtype, job.seed)
            arm.feed(inputs)
            values, words = {"breakdown": breakdown.measure, "energy": energy.measure}[job.what](device, arm)
            arm.check_values()
            guard.check(arm, thorough=True)
    except (Exception, SystemExit) as problem:
        failure = failure_of(problem, device)
        failure = guard.failure(failure, problem) if guard else failure
        return Probe(
            cell=job.cell.id, what=job.what, words={f"{job.what}_notes": f"{failure.outcome}: {failure.reason}"}
        )
    return Probe(cell=job.cell.id, what=job.what, values=values, words=words)


def _ceilings(job: CeilingsJob) -> Ceilings:
    """The four ceilings; those of an earlier run since the machine's start, if its matrix product runs as fast now."""
    cell = job.cell
    device = open_limited(cell, 0)
    dtype = device.set_precision(cell.precision)
    if job.known and job.known.macs_per_s:
        with torch.inference_mode():
            now = product_rate(device, dtype, 0.05)
        if abs(math.log(now / job.known.macs_per_s)) < math.log1p(APART):
            return job.known
    best = measure_ceilings(device, dtype)
    key = (cell.device, cell.precision, cell.threads, cell.allocator)
    return Ceilings(key=key, **{**asdict(best), "libraries": dict(best.libraries)})
