"""Test the measuring procedure itself: time layers of known behaviour with the real runner, compare with the truth.

Identical arms must not differ; doubled work must take as much longer in every trial; a known allocation and a known
delay must be measured. All comparisons are made in one run: a trial is a pair of arms that no other trial uses. Two
identical arms may be exchanged without changing anything, and each pair on its own, so given the sizes of the
differences the signs of two trials are independent: the interval of the rate counts trials as independent.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from attnbench.analysis import statistics, summarize
from attnbench.analysis.contrasts import contrasts
from attnbench.analysis.statistics import Interval
from attnbench.errors import AttnbenchError
from attnbench.execution import runner
from attnbench.execution.progress import Silent
from attnbench.planning import protocol as protocols
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Sweep
from attnbench.results.events import Round
from attnbench.results.record import Record
from attnbench.results.store import open_run, read_rounds

# The difference that a 95 % interval detects with a power of 80 %, in half-widths of the interval: (1.96 + 0.84) / 1.96
# for a normal estimate.
POWER_80 = 1.43
TRIALS = 10  # by default: about a minute on two cores with `quick`
PROBES = str(Path(__file__).with_name("layers.py"))


@dataclass(frozen=True)
class Sensitivity:
    """The result of the self-test.

    Attributes:
        trials: disjoint pairs of identical arms; `excluding` of them had an interval that excludes 1.
        rate: their share with its 95 % interval. `rate_of_all_pairs`: the share over all pairs, which share arms.
        half_width: median relative half-width of the trials' intervals, between two arms.
        reference_half_width: the same against the reference, which has several turns a round.
        twice: speed ratio of doubled work to the work itself, pooled over the trials, with Student's interval.
        twice_hits: number of trials whose own interval contains the pooled ratio.
        allocation: (measured, true) bytes.
        delay: (measured, true) seconds.
        alone: time of a layer alone in its rounds / its time among other layers, with Welch's interval over processes;
            1: interleaving has no effect.
    """

    trials: int
    excluding: int
    rate: Interval
    rate_of_all_pairs: Interval
    half_width: float
    reference_half_width: float
    twice: Interval
    twice_hits: int
    allocation: tuple[float, float]
    delay: tuple[float, float]
    alone: Interval

    @property
    def resolvable(self) -> float:
        """The smallest relative difference of two arms that is detected in 4 of 5 comparisons (a power of 80 %)."""
        return POWER_80 * self.half_width


class _Progress(Silent):
    """Reports the rounds of the long part."""

    def __init__(self, report: Callable[[str], None], most: int) -> None:
        self.report, self.most = report, most

    def round(self, arms: Sequence[Cell], rounds: int, seconds: float) -> None:
        """One line a round."""
        self.report(f"round {rounds} of at most {self.most}: {len(arms)} arms in {seconds:.1f} s")


def measure_sensitivity(
    *, device: str = "cpu", protocol: str = "quick", trials: int = TRIALS, threads: tuple[int, ...] = (),
    allocator: str = "pinned", overrides: tuple[tuple[str, object], ...] = (), seed: int = 0, dim: int = 192,
    progress: Callable[[str], None] = print,
) -> Sensitivity:  # fmt: skip
    """Run the layers of known behaviour with the real runner.

    Args:
        device: the device's name.
        protocol: the protocol to test.
        trials: pairs of identical arms, and pairs of an arm and doubled work.
        threads: CPU threads; empty: all that this process may use.
        allocator: the allocator to use on a CPU.
        overrides: numbers that replace the protocol's.
        seed: of inputs and orders.
        dim: channels of the layers, a multiple of 3; those among which a layer is interleaved have four times as many.
        progress: called with one line after each step.

    Raises:
        AttnbenchError: the device cannot be used, or a layer of known behaviour could not be measured.
    """
    shared: dict[str, Any] = {
        "device": (device,), "protocol": protocol, "threads": threads, "allocator": (allocator,),
        "plugins": (PROBES,), "dim": (dim,), "heads": (3,), "overrides": overrides, "seed": seed,
    }  # fmt: skip
    numbers = protocols.get(protocol, overrides)
    same = [f"probe[copy={i}]" for i in range(1, 2 * trials + 1)]
    double = [f"probe[copy={i},times=2]" for i in range(1, trials + 1)]
    sweep = Sweep(
        mechanism=("probe", *same, *double), reference="probe", batch=(4,), measure=("latency",), **shared
    )  # fmt: skip
    progress(f"trying {3 * trials + 1} arms, {2 * trials} of them identical and {trials} of doubled work")
    with _measured(sweep, _Progress(progress, numbers.looks[-1])) as (records, rounds):
        level = summarize.rule_of(numbers, len(records)).level_at_a_look
        judged = judge_pairs(rounds, {name: r.cell.id for name, r in records.items()}, same, double, level)
    progress("a known allocation and a known delay")
    allocation, delay = _known(shared)
    progress("a layer alone, and among larger layers")
    return Sensitivity(**judged, allocation=allocation, delay=delay, alone=_alone(shared, numbers.level))


def judge_pairs(
    rounds: Sequence[Round], ids: Mapping[str, str], same: Sequence[str], double: Sequence[str], level: float
) -> dict[str, Any]:
    """What the rounds say of identical and of doubled arms: the fields of `Sensitivity` that come of them.

    Args:
        rounds: of the one comparison group.
        ids: cell ids by variant.
        same: identical arms; the trials compare the first with the second, the third with the fourth, and so on.
        double: arms of doubled work; the i-th is compared with the i-th of `same`.
        level: of each interval.
    """

    def compared(arm: str, base: str) -> Interval:
        return contrasts(rounds, [ids[arm]], ids[base])[ids[arm]].interval(level)

    pairs = [compared(b, a) for a, b in zip(same[::2], same[1::2], strict=True)]
    doubled = [compared(arm, base) for arm, base in zip(double, same, strict=False)]
    logs = statistics.student_interval([math.log(r.estimate) for r in doubled])
    pooled = Interval(math.exp(logs.estimate), math.exp(logs.low), statistics.exp(logs.high))
    excluding = sum(map(_excludes_one, pairs))
    return {
        "trials": len(pairs),
        "excluding": excluding,
        "rate": statistics.wilson(excluding, len(pairs)),
        "rate_of_all_pairs": statistics.share_of_pairs([false_differences(rounds, ids, same, level)]),
        "half_width": median(r.half_width for r in pairs),
        "reference_half_width": median(compared(arm, "probe").half_width for arm in same),
        "twice": pooled,
        "twice_hits": sum(r.low <= pooled.estimate <= r.high for r in doubled),
    }


def false_differences(
    rounds: Sequence[Round], ids: Mapping[str, str], same: Sequence[str], level: float
) -> list[list[bool]]:
    """Whether the interval of each pair of these identical arms excludes 1: a symmetric table, [arms, arms]."""
    table = [[False] * len(same) for _ in same]
    for (i, a), (j, b) in itertools.combinations(enumerate(same), 2):
        ratio = contrasts(rounds, [ids[b]], ids[a])[ids[b]].interval(level)
        table[i][j] = table[j][i] = _excludes_one(ratio)
    return table


def compare_identical(
    arms: int, *, protocol: str = "quick", seed: int = 0, device: str = "cpu", dim: int = 192, runtime: str = "eager",
    progress: Callable[[str], None] = print,
) -> list[list[bool]]:  # fmt: skip
    """Time so many identical arms in one run of one runtime; which pairs were called different, [arms, arms].

    Each arm has a name of its own, so a runtime that takes a file gets one an arm, and loads it anew.
    """
    numbers = protocols.get(protocol)
    same = [f"probe[copy={i}]" for i in range(1, arms + 1)]
    sweep = Sweep(
        mechanism=("probe", *same), reference="probe", batch=(4,), measure=("latency",), device=(device,),
        protocol=protocol, plugins=(PROBES,), dim=(dim,), heads=(3,), runtime=(runtime,), seed=seed,
    )  # fmt: skip
    with _measured(sweep, _Progress(progress, numbers.looks[-1])) as (records, rounds):
        level = summarize.rule_of(numbers, len(records)).level_at_a_look
        return false_differences(rounds, {name: r.cell.id for name, r in records.items()}, same, level)


def _excludes_one(ratio: Interval) -> bool:
    return not ratio.low <= 1 <= ratio.high


@contextmanager
def _measured(sweep: Sweep, watcher: Silent | None = None) -> Iterator[tuple[dict[str, Record], Sequence[Round]]]:
    """The records of a run by variant, and its rounds.

    Raises:
        AttnbenchError: an arm could not be measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(runner.run(sweep, Path(folder) / "run", watcher=watcher))
        for record in run.records:
            if record.outcome != "ok":
                raise AttnbenchError(
                    f"the self-test needs all its layers; {record.cell.variant} ended as {record.outcome}: "
                    f"{record.reason}"
                )
        rounds = [r for of_group in read_rounds(run.folder).values() for r in of_group]
        yield {r.cell.variant: r for r in run.records}, rounds


def _known(shared: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Allocation in bytes and delay in seconds, each (measured, true)."""
    from attnbench.selftest.layers import KNOWN_BYTES, KNOWN_DELAY_S

    sweep = Sweep(
        mechanism=("probe_allocation", "probe_delay"), reference="none", batch=(1,),
        measure=("memory", "latency"), **shared,
    )  # fmt: skip
    with _measured(sweep) as (records, _):
        growth = records["probe_allocation"].values["peak_growth_bytes"]
        return (growth, KNOWN_BYTES), (records["probe_delay"].values["latency_s"], KNOWN_DELAY_S)


def _alone(shared: dict[str, Any], level: float) -> Interval:
    """Time of a layer alone in its rounds, divided by its time among larger layers."""
    times = []
    for arms in (("probe", "msa", "hilo"), ("probe",)):
        numbers = {**shared, "dim": (4 * shared["dim"][0],), "heads": (12,)}
        sweep = Sweep(mechanism=arms, reference="none", batch=(4,), measure=("latency",), **numbers)
        with _measured(sweep) as (records, rounds):
            speeds = summarize.log_speeds(rounds, records["probe"].cell.id)
            times.append([-median(process) for process in speeds])
    among, single = times
    found = statistics.welch(single, among)
    ends = found.interval(level)
    return Interval(math.exp(found.estimate), math.exp(ends.low), statistics.exp(ends.high))
