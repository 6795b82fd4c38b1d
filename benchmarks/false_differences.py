"""How often identical layers are called different, and how often doubled work is missed: several runs of `selftest`.

    python benchmarks/false_differences.py [--runs 5] [--trials 20] [--busy CORES] [--protocol quick]

With --busy, so many extra processes keep a core busy each during the trials.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys

from attnbench.analysis.statistics import wilson
from attnbench.selftest.sensitivity import measure_sensitivity


def _spin() -> None:
    number = 1
    while True:
        number = number * 31 % 1_000_003


def main() -> None:
    """Print the share of intervals that contain the truth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=20, help="comparisons in each run")
    parser.add_argument("--runs", type=int, default=5, help="runs, each with a seed of its own")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--busy", type=int, default=0, metavar="CORES", help="cores that are kept busy meanwhile")
    given = parser.parse_args()
    busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(given.busy)]
    for process in busy:
        process.start()
    try:
        results = [
            measure_sensitivity(
                trials=given.trials, protocol=given.protocol, seed=seed,
                progress=lambda text: print(text, file=sys.stderr),
            )
            for seed in range(given.runs)
        ]  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.join()
    state = f"{given.busy} of {os.cpu_count()} cores busy" if given.busy else "otherwise idle"
    for result in results:
        print(
            f"{given.protocol}, {state}: {result.trials - result.excluding} of {result.trials} intervals of identical "
            f"layers contain 1; doubled work {result.twice.estimate:.3f} "
            f"[{result.twice.low:.3f}, {result.twice.high:.3f}], "
            f"{result.twice_hits} of {result.trials} intervals contain it; median half-width {result.half_width:.2%}"
        )
    trials, excluding = sum(r.trials for r in results), sum(r.excluding for r in results)
    rate = wilson(excluding, trials)
    print(
        f"all: {trials - excluding} of {trials} intervals of identical layers contain 1; false differences "
        f"{rate.estimate:.1%}, 95 % interval {rate.low:.1%} to {rate.high:.1%}"
    )


if __name__ == "__main__":
    main()
