"""Test the measuring procedure itself: time layers of known behaviour with the real runner, compare with the truth.

Identical arms must not differ; doubled work must take twice as long; a known allocation and a known delay must be
measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from attnbench.analysis.statistics import Interval, wilson
from attnbench.execution import runner
from attnbench.planning.sweep import Sweep
from attnbench.results.record import Record
from attnbench.results.store import open_run

# The difference that a 95 % interval detects with a power of 80 %, in half-widths of the interval: (1.96 + 0.84) / 1.96
# for a normal estimate.
POWER_80 = 1.43
PROBES = str(Path(__file__).with_name("layers.py"))


@dataclass(frozen=True)
class Sensitivity:
    """The result of the self-test.

    Attributes:
        trials: comparisons of identical arms; `excluding` of them had an interval that excludes 1.
        rate: their share with its 95 % interval.
        half_width: median relative half-width of these intervals.
        twice: speed ratio of doubled work to the work itself, with its interval; the truth is 0.5.
        twice_hits: number of trials whose interval for it contains 0.5.
        allocation: (measured, true) bytes.
        delay: (measured, true) seconds.
        alone: time of a layer alone in its rounds / its time among other layers; 1: interleaving has no effect.
    """

    trials: int
    excluding: int
    rate: Interval
    half_width: float
    twice: Interval
    twice_hits: int
    allocation: tuple[float, float]
    delay: tuple[float, float]
    alone: float

    @property
    def resolvable(self) -> float:
        """The smallest relative difference that is detected in 4 of 5 comparisons (a power of 80 %)."""
        return POWER_80 * self.half_width

    def sentence(self, protocol: str, device: str) -> str:
        """One sentence for people with the smallest detectable difference."""
        return (
            f"Now, `{protocol}` on {device} detects a difference of {self.resolvable:.1%} in 4 of 5 comparisons; "
            "smaller differences stay undecided more often."
        )


def measure_sensitivity(
    *, device: str = "cpu", protocol: str = "quick", trials: int = 20, threads: tuple[int, ...] = (),
    allocator: str = "pinned", overrides: tuple[tuple[str, object], ...] = (), progress: Callable[[str], None] = print,
) -> Sensitivity:  # fmt: skip
    """Run the layers of known behaviour with the real runner.

    Args:
        device: the device's name.
        protocol: the protocol to test.
        trials: number of comparisons of identical arms, each with its own seed.
        threads: CPU threads; empty: all that this process may use.
        allocator: the allocator to use on a CPU.
        overrides: numbers that replace the protocol's.
        progress: called with one line after each trial.

    Raises:
        AttnbenchError: the device cannot be used.
    """
    shared: dict[str, Any] = {
        "device": (device,), "protocol": protocol, "threads": threads, "allocator": (allocator,),
        "plugins": (PROBES,), "dim": (192,), "heads": (3,), "overrides": overrides,
    }  # fmt: skip
    pairs: list[dict[str, Record]] = []
    for number in range(trials):
        sweep = Sweep(
            mechanism=("probe_a", "probe_b", "probe_twice"), reference="probe_a", batch=(4,), seed=number,
            measure=("latency",), **shared,
        )  # fmt: skip
        pairs.append(_records(sweep))
        b = pairs[-1]["probe_b"].values
        progress(
            f"trial {number + 1} of {trials}: identical arms {b['ratio_to_reference']:.3f} "
            f"[{b['ratio_low']:.3f}, {b['ratio_high']:.3f}]"
        )
    return summarize_trials(pairs, _known(shared), _alone(shared))


def summarize_trials(
    pairs: Sequence[dict[str, Record]], known: tuple[tuple[float, float], tuple[float, float]], alone: float
) -> Sensitivity:
    """Summarize the records of the trials, by variant; `known` holds allocation and delay, each (measured, true)."""
    same = [p["probe_b"].values for p in pairs]
    double = [p["probe_twice"].values for p in pairs]
    excluding = sum(not v["ratio_low"] <= 1 <= v["ratio_high"] for v in same)
    return Sensitivity(
        trials=len(pairs),
        excluding=excluding,
        rate=wilson(excluding, len(pairs)),
        half_width=median((v["ratio_high"] - v["ratio_low"]) / 2 / v["ratio_to_reference"] for v in same),
        twice=Interval(
            median(v["ratio_to_reference"] for v in double),
            median(v["ratio_low"] for v in double),
            median(v["ratio_high"] for v in double),
        ),
        twice_hits=sum(v["ratio_low"] <= 0.5 <= v["ratio_high"] for v in double),
        allocation=known[0],
        delay=known[1],
        alone=alone,
    )


def _records(sweep: Sweep) -> dict[str, Record]:
    with tempfile.TemporaryDirectory() as folder:
        return {r.cell.variant: r for r in open_run(runner.run(sweep, Path(folder) / "run")).records}


def _known(shared: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    from attnbench.selftest.layers import KNOWN_BYTES, KNOWN_DELAY_S

    sweep = Sweep(
        mechanism=("probe_allocation", "probe_delay"), reference="none", batch=(1,),
        measure=("memory", "latency"), **shared,
    )  # fmt: skip
    records = _records(sweep)
    growth = records["probe_allocation"].values["peak_growth_bytes"]
    return (growth, KNOWN_BYTES), (records["probe_delay"].values["latency_s"], KNOWN_DELAY_S)


def _alone(shared: dict[str, Any]) -> float:
    """Time of a layer alone in its rounds, divided by its time among larger layers."""
    numbers = {**shared, "dim": (768,), "heads": (12,)}
    among = Sweep(
        mechanism=("probe_a", "msa", "hilo"), reference="none", batch=(4,), measure=("latency",), **numbers,
    )  # fmt: skip
    single = Sweep(mechanism=("probe_a",), reference="none", batch=(4,), measure=("latency",), **numbers)
    return _records(single)["probe_a"].values["latency_s"] / _records(among)["probe_a"].values["latency_s"]
