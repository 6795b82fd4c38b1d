"""What --isolate costs: half-widths and ratios of the same arms in shared processes and in processes of their own.

    python benchmarks/isolation.py [--trials 200] [--runs 3] [--res 224] [--protocol quick]

First the simulation (no clock: the same seed gives the same table): identical arms under disturbances of known kind,
in which a round of one process says nothing about a round of another. Per disturbance the coverage of 95 % intervals
and their mean half-width, shared and isolated. Then, with --runs above 0, real layers: each is measured in shared
processes and with --isolate in turn. Run that part on a quiet machine.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from statistics import fmean, median

from attnbench import Sweep, run
from attnbench.analysis.contrasts import contrasts
from attnbench.planning import protocol
from attnbench.planning.protocol import TURNS_ALONE
from attnbench.planning.sizes import resolutions
from attnbench.results.store import open_run
from attnbench.selftest.simulated import SCENARIOS, runs

ARMS = ("sra", "window", "hilo")


def simulated(name: str, trials: int, protocol_name: str) -> str:
    """One row: coverage and half-width of arm 1, which is shared, and of arm 2, which is isolated."""
    numbers = protocol.get(protocol_name).for_arms(2)
    hits, widths = [0, 0], [0.0, 0.0]
    for made in runs(
        SCENARIOS[name], trials, arms=3, processes=numbers.processes, rounds=numbers.rounds_each, isolated=1,
        turns_alone=TURNS_ALONE,
    ):  # fmt: skip
        found = contrasts(made, ["1", "2"], "0")
        for place, arm in enumerate("12"):
            interval = found[arm].interval()
            hits[place] += interval.low <= 1 <= interval.high
            widths[place] += math.log(interval.high / interval.low) / 2
    shared, alone = (f"{100 * h / trials:.1f} | {100 * w / trials:.2f} %" for h, w in zip(hits, widths, strict=True))
    return f"| {name} | {shared} | {alone} |"


def real(given: argparse.Namespace) -> None:
    """Print each arm's median half-width and mean ratio in both ways."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.runs):
            for way, isolate in (("shared", ()), ("isolated", ARMS)):
                sweep = Sweep(
                    mechanism=("msa", *ARMS), res=resolutions(given.res), measure=("latency",), seed=seed,
                    protocol=given.protocol, isolate=isolate,
                )  # fmt: skip
                for record in open_run(run(sweep, Path(folder) / f"{way}{seed}")).records:
                    v = record.values
                    if record.cell.mechanism in ARMS and "ratio_low" in v:
                        width = math.log(v["ratio_high"] / v["ratio_low"]) / 2
                        found.setdefault((record.cell.mechanism, way), []).append((v["ratio_to_reference"], width))
    print(
        "| arm | ratio, shared | half-width, shared | ratio, isolated | half-width, isolated |\n|---|---|---|---|---|"
    )
    for arm in ARMS:
        parts = []
        for way in ("shared", "isolated"):
            values = found.get((arm, way), [(math.nan, math.nan)])
            parts += [f"{fmean(r for r, _ in values):.4f}", f"{100 * median(w for _, w in values):.2f} %"]
        print(f"| {arm} | {' | '.join(parts)} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200, help="simulated runs for each disturbance")
    parser.add_argument("--runs", type=int, default=3, help="real runs in each way; 0: none")
    parser.add_argument("--res", default="224")
    parser.add_argument("--protocol", default="quick")
    given = parser.parse_args()
    print("| disturbance | covered, shared | half-width, shared | covered, isolated | half-width, isolated |")
    print("|---|---|---|---|---|")
    for name in SCENARIOS:
        print(simulated(name, given.trials, given.protocol), flush=True)
    if given.runs:
        print()
        real(given)


if __name__ == "__main__":
    main()
