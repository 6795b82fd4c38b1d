"""What a child process does for one job: count a layer, try an arm, time the arms of a group, measure ceilings.

A trial is one arm alone: built, its output checked, its memory measured. A timing job builds every arm of a comparison
anew, in random order, and gives rounds: in each, every arm has one turn, in random order, and the reference several.
What is seen is reported as events; the runner makes records of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from time import perf_counter, sleep  # bound before a plugin can replace it
from typing import Any

import torch

from attnbench import registry, runtimes
from attnbench.analysis.machines import APART
from attnbench.execution import jobs
from attnbench.execution.guard import Guard
from attnbench.execution.jobs import AgreementJob, CeilingsJob, CountJob, ExportJob, ProbeJob, TimingJob, TrialJob
from attnbench.execution.setup import failure_of, open_limited
from attnbench.execution.status_file import StatusFile
from attnbench.execution.timing import Timing
from attnbench.measure import breakdown, energy, error, memory
from attnbench.measure.agreement import compare_versions, error_against, expected_output
from attnbench.measure.arm import Arm, InputSets, build_module, make_inputs, tensors_of
from attnbench.measure.ceilings import measure_ceilings, product_rate
from attnbench.measure.initialize import prepared_weights
from attnbench.measure.kernels import kernel_that_ran
from attnbench.registry.variant import parse_variant
from attnbench.results.events import Agreement, Ceilings, Count, Event, Exported, Probe, Progress, Trial

Say = Callable[[Event], None]
LOOKS, PAUSE_S = 5, 0.4  # at a machine that seems slower than it was, and the seconds between them
PASSES = 3  # over the ceilings, when they are measured


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
    elif isinstance(job, ExportJob):
        _export(job, say)
    elif isinstance(job, TrialJob):
        _trial(job, say)
    elif isinstance(job, ProbeJob):
        say(_probe(job))
    elif isinstance(job, AgreementJob):
        say(_agreement(job))
    elif isinstance(job, TimingJob):
        Timing(job, shared, say).run()
    else:
        say(_ceilings(job))


def _count(job: CountJob) -> Count:
    from attnbench.measure import mmdet
    from attnbench.measure.flops import count

    cell = job.cell
    known = registry.load(job.plugins)
    with prepared_weights():
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


def _export(job: ExportJob, say: Say) -> None:
    """The layer as a file for its runtime, made here or found in the cache."""
    from attnbench.runtimes import artifacts

    cell, runtime = job.cell, runtimes.get(job.cell.runtime)
    device = open_limited(cell, job.memory_limit)
    try:
        known = registry.load(job.plugins)
        module = build_module(cell, device, known, inference=True, weights=job.weights)
        (x,) = make_inputs(cell, device, device.set_precision(cell.precision), job.seed, sets=1).restored()
        assert runtime.export is not None
        words = f"{cell.variant} {dict(cell.settings)} {cell.kernel} {cell.size}"
        made = artifacts.make(runtime.export, module, x, cell.precision, runtime.artifact, words)
    except (Exception, SystemExit) as error:
        say(failure_of(error, device))
        return
    values = {"export_s": made.export_s, "artifact_bytes": made.size}
    say(Exported(cell=cell.id, artifact=made.path.name, values=values))


def _trial(job: TrialJob, say: Say) -> None:
    cell, started = job.cell, perf_counter()
    device = open_limited(cell, job.memory_limit)
    guard: Guard | None = None
    try:
        known = registry.load(job.plugins)
        say(Progress(stage="imported"))
        of_plugin = cell.id if known.origins_of(parse_variant(cell.variant), cell.size) else ""
        dtype = device.set_precision(cell.precision)
        runtimes.load(cell.runtime)
        guard = Guard()
        inputs = make_inputs(cell, device, dtype, job.seed, sets=1)
        expected = expected_output(cell, device, known, inputs, inference=job.inference, weights=job.weights)
        with contextlib.nullcontext() if expected else prepared_weights():
            arm = Arm(
                cell, device, known, inference=job.inference, weights=job.weights, artifact=job.artifact, prepare=False
            )
        values, first_s = _first_call(arm, inputs, guard, partial(say, Progress(stage="built", cell=of_plugin)))
        arm.check()
        if expected:
            values["runtime_error"] = error_against(expected, tensors_of(arm.output), cell)
        guard.check(arm, thorough=True)
        guard.settle()
        start = perf_counter()
        turn = device.time_calls(arm, 1 if first_s > 1 else 2)
        call_s = min(turn.device_s)
        guard.check(arm, thorough=True)
        kernel_ran = cell.runtime if arm.runtime.artifact else kernel_that_ran(arm)
        values |= {} if arm.runtime.artifact else memory.measure(device, arm)
        guard.settle()  # the profiler has threads of its own
        forward_s = first_s + (perf_counter() - start)
        arm()
        arm.check()
        guard.check(arm, thorough=True)
        words = _runtime_words(arm)
        say(Progress(stage="tried", cell=of_plugin))
    except (Exception, SystemExit) as error:
        failure = failure_of(error, device)
        say(guard.failure(failure, error) if guard else failure)
        return
    values["params"] = arm.parameters
    if cell.prepares_first:
        values["compile_s"] = first_s
    say(
        Trial(
            cell=cell.id,
            values=values,
            call_s=call_s,
            kernel_ran=kernel_ran,
            device_name=device.title(),
            words=words,
            notes=device.memory_notes(),
            forward_s=forward_s,
            job_s=perf_counter() - started,
        )
    )


def _first_call(
    arm: Arm, inputs: InputSets, guard: Guard, built: Callable[[], None]
) -> tuple[dict[str, float | int], float]:
    """Prepare the arm and call it once: its memory, where loading is a part of that, and the seconds of it.

    `built` is called between the two, where the memory is not looked at.
    """

    def prepare() -> None:
        arm.prepare()
        arm.feed(inputs)

    first = perf_counter()
    if arm.runtime.artifact:  # the memory of loading counts, and is there once
        values = memory.measure_loading(arm, prepare, arm)
        return values, perf_counter() - first
    prepare()
    guard.check()
    built()
    first = perf_counter()
    arm()
    arm.device.synchronize()
    return {}, perf_counter() - first


def _runtime_words(arm: Arm) -> dict[str, str]:
    """Version, options in effect and what was executed, as words of the record."""
    made = arm.prepared
    words = {
        "runtime_version": made.version if arm.cell.runtime != runtimes.EAGER else "",
        "runtime_options": ", ".join(f"{name}={value}" for name, value in made.options.items()),
        "executed": made.executed(),
    }
    return {name: text for name, text in words.items() if text}


def _probe(job: ProbeJob) -> Probe:
    """One pass beside time; a layer that fails in it, or changes the process, leaves its reason in the words."""
    device = open_limited(job.cell, job.memory_limit)
    guard: Guard | None = None
    try:
        known = registry.load(job.plugins)
        device.set_precision(job.cell.precision)
        runtimes.load(job.cell.runtime)
        guard = Guard()
        if job.what == "error":
            values, words = error.measure(
                job.cell, device, known, weights=job.weights, seed=job.seed, artifact=job.artifact
            )
            guard.check()
        else:
            arm = Arm(job.cell, device, known, inference=job.inference, weights=job.weights, artifact=job.artifact)
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


def _agreement(job: AgreementJob) -> Agreement:
    """Two versions with the same weights and input; a layer that fails leaves its reason."""
    device = open_limited(job.cell, job.memory_limit)
    try:
        difference, why = compare_versions(job.base, job.cell, device, registry.load(job.plugins), seed=job.seed)
    except (Exception, SystemExit) as problem:
        failure = failure_of(problem, device)
        return Agreement(cell=job.cell.id, why=f"{failure.outcome}: {failure.reason}")
    return Agreement(cell=job.cell.id, difference=difference, why=why)


def _ceilings(job: CeilingsJob) -> Ceilings:
    """The four ceilings; those of an earlier run since the machine's start, if its matrix product runs as fast now.

    A machine that another program disturbs for a moment looks slow, so it is looked at several times.
    """
    cell = job.cell
    device = open_limited(cell, 0)
    dtype = device.set_precision(cell.precision)
    if job.known and job.known.macs_per_s:
        for _ in range(LOOKS):
            with torch.inference_mode():
                apart = math.log(product_rate(device, dtype, 0.05) / job.known.macs_per_s)
            if abs(apart) < math.log1p(APART):
                return job.known
            if apart > 0:
                break
            sleep(PAUSE_S)
    best = measure_ceilings(device, dtype)
    for _ in range(PASSES - 1):
        best = best.best_of(measure_ceilings(device, dtype))
    key = (cell.device, cell.precision, cell.threads, cell.allocator)
    return Ceilings(key=key, **{**asdict(best), "libraries": dict(best.libraries)})
