"""How often identical layers are called different, and how often doubled work is missed: `selftest`, many trials.

    python benchmarks/false_differences.py [--trials 100] [--busy] [--protocol quick]

With --busy, one extra process per core keeps every core busy during the trials.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys

from attnbench.selftest.sensitivity import measure_sensitivity


def _spin() -> None:
    number = 1
    while True:
        number = number * 31 % 1_000_003


def main() -> None:
    """Print the share of intervals that contain the truth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--busy", action="store_true")
    given = parser.parse_args()
    busy = []
    if given.busy:
        busy = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in busy:
        process.start()
    try:
        result = measure_sensitivity(
            trials=given.trials, protocol=given.protocol, progress=lambda text: print(text, file=sys.stderr)
        )
    finally:
        for process in busy:
            process.kill()
            process.join()
    state = "every core busy" if given.busy else "otherwise idle"
    print(
        f"{given.protocol}, {state}: {result.trials - result.excluding} of {result.trials} intervals of identical "
        f"layers contain 1; doubled work {result.twice.estimate:.3f} "
        f"[{result.twice.low:.3f}, {result.twice.high:.3f}], "
        f"{result.twice_hits} of {result.trials} intervals contain 0.5; median half-width {result.half_width:.2%}"
    )


if __name__ == "__main__":
    main()
