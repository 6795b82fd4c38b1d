"""How often identical layers are called different, and doubled work is missed: `selftest` with many trials.

    python benchmarks/false_differences.py [--trials 100] [--busy] [--protocol quick]

With --busy, a process of ours keeps every core occupied meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys

from attnbench.selftest.sensitivity import selftest


def _spin() -> None:
    os.nice(0)
    number = 1
    while True:
        number = number * 31 % 1_000_003


def main() -> None:
    """Print the rates."""
    options = argparse.ArgumentParser()
    options.add_argument("--trials", type=int, default=100)
    options.add_argument("--protocol", default="quick")
    options.add_argument("--busy", action="store_true")
    given = options.parse_args()
    spinning = []
    if given.busy:
        spinning = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in spinning:
        process.start()
    try:
        found = selftest(trials=given.trials, protocol=given.protocol, tell=lambda text: print(text, file=sys.stderr))
    finally:
        for process in spinning:
            process.kill()
            process.join()
    state = "every core busy" if given.busy else "otherwise idle"
    print(
        f"{given.protocol}, {state}: {found.trials - found.excluding} of {found.trials} intervals of identical layers "
        f"contain 1; doubled work {found.twice.estimate:.3f} [{found.twice.low:.3f}, {found.twice.high:.3f}], "
        f"{found.twice_hits} of {found.trials} intervals contain 0.5; median half-width {found.half_width:.2%}"
    )


if __name__ == "__main__":
    main()
