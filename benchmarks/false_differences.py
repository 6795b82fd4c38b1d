"""How often identical layers are called different, and how often doubled work is missed: several runs of `selftest`.

    python benchmarks/false_differences.py [--runs 5] [--trials 20] [--busy CORES] [--protocol quick]
    python benchmarks/false_differences.py --identical 41 [--runs 4] [--busy CORES] [--runtime onnxruntime]

With --busy, so many extra processes keep a core busy each during the trials. With --identical, so many identical arms
a run and nothing else: all their pairs are compared, which says as much as three times as many disjoint pairs. Its
--runtime executes them all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys

from attnbench.analysis.statistics import share_of_pairs, wilson
from attnbench.selftest.sensitivity import Sensitivity, compare_identical, measure_sensitivity


def _spin() -> None:
    number = 1
    while True:
        number = number * 31 % 1_000_003


def main() -> None:
    """Print the share of intervals that contain the truth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=20, help="comparisons in each run")
    parser.add_argument(
        "--identical", type=int, default=0, metavar="ARMS", help="identical arms in each run, no others"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs, each with a seed of its own")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--busy", type=int, default=0, metavar="CORES", help="cores that are kept busy meanwhile")
    parser.add_argument("--runtime", default="eager", help="of the arms of --identical")
    given = parser.parse_args()
    if given.runtime != "eager" and not given.identical:
        parser.error("--runtime goes with --identical")
    busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(given.busy)]
    for process in busy:
        process.start()
    state = f"{given.busy} of {os.cpu_count()} cores busy" if given.busy else "otherwise idle"
    try:
        if given.identical:
            _all_pairs(given, state)
        else:
            _disjoint_pairs(given, state)
    finally:
        for process in busy:
            process.kill()
            process.join()


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _all_pairs(given: argparse.Namespace, state: str) -> None:
    tables = []
    for seed in range(given.runs):
        tables.append(_identical(given, seed))
        rate, pairs = share_of_pairs(tables), len(tables) * given.identical * (given.identical - 1) // 2
        print(
            f"{given.protocol}, {given.runtime}, {state}, {given.identical} identical arms, "
            f"runs {len(tables)}: false differences in "
            f"{rate.estimate:.1%} of {pairs} pairs, 95 % interval {rate.low:.1%} to {rate.high:.1%}; "
            f"this run {share_of_pairs(tables[-1:]).estimate:.1%}",
            flush=True,
        )


def _identical(given: argparse.Namespace, seed: int) -> list[list[bool]]:
    return compare_identical(given.identical, protocol=given.protocol, seed=seed, runtime=given.runtime, progress=_say)


def _disjoint_pairs(given: argparse.Namespace, state: str) -> None:
    results: list[Sensitivity] = []
    for seed in range(given.runs):
        result = measure_sensitivity(trials=given.trials, protocol=given.protocol, seed=seed, progress=_say)
        results.append(result)
        print(
            f"{given.protocol}, {state}: {result.trials - result.excluding} of {result.trials} intervals of identical "
            f"layers contain 1; doubled work {result.twice.estimate:.3f} "
            f"[{result.twice.low:.3f}, {result.twice.high:.3f}], "
            f"{result.twice_hits} of {result.trials} intervals contain it; median half-width {result.half_width:.2%}",
            flush=True,
        )
    trials, excluding = sum(r.trials for r in results), sum(r.excluding for r in results)
    rate = wilson(excluding, trials)
    print(
        f"all: {trials - excluding} of {trials} intervals of identical layers contain 1; false differences "
        f"{rate.estimate:.1%}, 95 % interval {rate.low:.1%} to {rate.high:.1%}"
    )


if __name__ == "__main__":
    main()
