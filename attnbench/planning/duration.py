"""Estimate what the parts of a run cost: calls by the mechanisms' formulas, and what stands around them.

No input or output. The constants were fitted on stored runs, with which `benchmarks/estimate.py` compares the estimate;
a run corrects calls and the rest by what it measures (`attnbench.planning.remaining`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from attnbench import runtimes
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import LEAST_PROCESSES, TURNS_ALONE, Protocol

START_S = 4.0  # until the processes of a run have imported torch, and ceilings
SERVER_S = 0.6  # more for each further fork server
TRIAL_S = 0.2  # of a trial besides its calls: process, checks, memory
CALLS_OF_A_TRIAL = 12.0  # calls in turns that take as long as a trial's calls, the first of which are slow
STEADY = 0.85  # time of a call in turns over that of a trial's
COUNT_S = {"layer": 0.1, "backbone": 1.4, "task": 2.9}
EXPORT_S, EXPORT_MODEL_S = 1.6, 6.0  # of a layer, a whole model, that is not in the cache
EXPORTED_MODEL_S = 0.45  # more of the trial of an exported model: the model itself, its session, what it executes
COMPILE_S = 5.0  # of a compiled cell's trial
COMPILED_START_S = 0.4  # of a compiled cell in each timing process: its code is read from a cache
PASS_S = {"breakdown": 2.0, "error": 1.5, "energy": 2.5}  # of a pass beside time, its calls not included
PASS_CALLS = {"breakdown": 5.0, "error": 12.0, "energy": 2.0}  # fp32 calls on the batch that take as long as its calls
PROCESS_S = 0.15  # until a timing process has started and prepared its inputs
BUILD_S = 0.02  # to build one layer in it, its first call not included
BUILD_MODEL_S = 0.07  # the same of a whole model
LOAD_MODEL_S = 0.25  # more of an exported one: its session
TURN_S = 0.005  # of a turn besides its calls: inputs, checks, canary
DEFAULT_MSA_LAYERS = 1.5  # assumed cost of a mechanism without a formula, in MSA layers of the same size
DEFAULT_MODEL_MACS = 9e4  # a pixel, assumed of a whole model without a figure: 4.5 G at 224 px
PASSES_OVER_INPUT = 12.0  # of a layer without multiply-accumulates, such as pooling
BYTES_PER_S = 1e10  # assumed rate of such passes
EFFICIENCY = 0.5  # share of `layer_rate` that layers reach
CPU_MACS_PER_S, GPU_MACS_PER_S = 1e11, 2e13  # assumed where a device's rate is not known
_PATIENT_ARMS = 5.0  # arms of which half of the looks after the first are needed; more arms need more of them


def layer_rate(macs_per_s: float, conv_macs_per_s: float | None) -> float:
    """The rate that layers are estimated by: the geometric mean of a matrix product's and of a 1x1 convolution's.

    Layers use both forms, and on some CPUs one is more than twice as fast as the other.
    """
    return math.sqrt(macs_per_s * (conv_macs_per_s or macs_per_s))


def call_s(macs: float | None, cell: Cell, macs_per_s: float) -> float:
    """Estimate the seconds of one call on a batch.

    Args:
        macs: multiply-accumulates per image, forward; None where no figure is known.
        cell: the cell; its batch and pass count.
        macs_per_s: the `layer_rate` of its device.
    """
    tokens = max(1, cell.grid[0] * cell.grid[1]) if cell.scope == "layer" else (cell.res_h * cell.res_w) // 256
    dim = cell.dim or 384
    if macs == 0:
        return cell.batch * PASSES_OVER_INPUT * 4 * tokens * dim / BYTES_PER_S
    if macs is None and cell.scope != "layer":
        macs = DEFAULT_MODEL_MACS * cell.res_h * cell.res_w
    elif macs is None:
        macs = DEFAULT_MSA_LAYERS * (4 * tokens * dim**2 + 2 * tokens**2 * dim)
    return cell.batch * macs * (3.0 if cell.pass_ == "train" else 1.0) / (EFFICIENCY * macs_per_s)


def start_s(protocol: Protocol, *, timed: bool) -> float:
    """Seconds until the first trial; `timed`: what stands there will be timed, and not only counted or tried."""
    further = min(protocol.servers, protocol.processes) - 1 if timed else 0
    return START_S + SERVER_S * further


def count_s(cell: Cell) -> float:
    """Seconds to count a cell."""
    return COUNT_S[cell.scope]


def exports_s(cells: Iterable[Cell]) -> float:
    """Seconds to export these cells for their runtimes; two runtimes share a file of one format."""
    files = {}
    for cell in cells:
        if artifact := runtimes.get(cell.runtime).artifact:
            files[artifact, replace(cell, runtime=runtimes.EAGER, threads=1, allocator="")] = cell
    return sum(COMPILE_S if cell.compiles else _of(cell, EXPORT_S, EXPORT_MODEL_S) for cell in files.values())


def trial_s(cell: Cell, call: float) -> float:
    """Seconds of a cell's trial, whose calls in turns take `call` seconds; its export is not included."""
    exported = bool(runtimes.get(cell.runtime).artifact)
    prepared = _of(cell, 0.0, EXPORTED_MODEL_S) if exported else COMPILE_S if cell.compiles else 0.0
    return TRIAL_S + prepared + CALLS_OF_A_TRIAL * call


def passes_s(call: float, passes: Iterable[str]) -> float:
    """Seconds of a cell's passes beside time, those of `passes` that are such."""
    return sum(PASS_S[name] + PASS_CALLS[name] * call for name in passes if name in PASS_S)


def turn_s(call: float, protocol: Protocol) -> float:
    """Seconds of a turn; its primers are the calls that fit into their time, on average half a call less than it."""
    primers = max(protocol.prime_s - call / 2, protocol.prime_calls * call) if protocol.prime_calls else 0.0
    return primers + protocol.calls_in_turn(call) * call + TURN_S


def build_s(cell: Cell, call: float) -> float:
    """Seconds of an arm in each timing process, until it has been called once."""
    runtime = runtimes.get(cell.runtime)
    loaded = COMPILED_START_S if runtime.name in runtimes.COMPILED else 0.0
    if runtime.artifact:
        loaded += _of(cell, 0.0, LOAD_MODEL_S)
    return _of(cell, BUILD_S, BUILD_MODEL_S) + loaded + call


def _of(cell: Cell, layer: float, model: float) -> float:
    return layer if cell.scope == "layer" else model


def round_s(shared: Iterable[float], alone: Iterable[float], reference: float, protocol: Protocol) -> float:
    """Seconds of a round of a comparison group, the start of processes not included.

    Args:
        shared: seconds of one call of each arm that shares a process.
        alone: of each isolated arm; with them a copy of the reference has turns alone too.
        reference: of one call of the reference.
        protocol: as it was asked for; the size of the group adapts it.
    """
    shared, alone = list(shared), list(alone)
    numbers = protocol.for_arms(len(shared))
    more = numbers.reference_turns(len(shared)) - 1 if shared else 0
    turns = sum(turn_s(call, numbers) for call in shared) + more * turn_s(reference, numbers)
    if alone:
        turns += TURNS_ALONE * sum(turn_s(call, numbers) for call in (*alone, reference))
    return turns


def expected_rounds(protocol: Protocol, arms: int, seconds: float, done: int = 0) -> int:
    """Rounds that a group of so many arms is expected to need, of which it has `done`.

    All arms must be precise enough at a look: few arms may be so at an early one, many at the last. The budget ends a
    group of slow arms earlier, once it has `LEAST_PROCESSES` processes.

    Args:
        protocol: as it was asked for.
        arms: of the group.
        seconds: of one round.
        done: rounds that were taken and were not enough.
    """
    numbers = protocol.for_arms(arms)
    first, last = numbers.looks[0], numbers.looks[-1]
    wanted = round(first * (last / first) ** (arms / (arms + _PATIENT_ARMS)))
    if done >= first:
        wanted = max(wanted, next((look for look in numbers.looks if look > done), done))
    return min(wanted, affordable_rounds(protocol, arms, seconds))


def affordable_rounds(protocol: Protocol, arms: int, seconds: float) -> int:
    """Rounds after which the budget of a group ends it: at least those of `LEAST_PROCESSES`, or of the first look."""
    numbers = protocol.for_arms(arms)
    least = min(numbers.looks[0], LEAST_PROCESSES * numbers.rounds_each)
    if not math.isfinite(protocol.budget_s):
        return numbers.looks[-1]
    return max(least, min(numbers.looks[-1], math.ceil(protocol.budget_s * arms / max(seconds, 1e-9))))
