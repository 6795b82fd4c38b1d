"""Check that the spread between independent runs matches their intervals, for each allocator.

    python benchmarks/agreement.py [--runs 10] [--allocators pinned,system]

For each ratio to MSA: its standard deviation over the runs, the standard deviation that the intervals claim (mean
half-width / normal quantile of their level), and the quotient of the two, which should be at most 1.5.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from statistics import NormalDist, fmean, stdev

from attnbench import Sweep, run
from attnbench.planning import protocol
from attnbench.results.store import open_run

MECHANISMS = ("msa", "sra", "window", "hilo")


def main() -> None:
    """Print one row for each allocator and mechanism."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--allocators", default="pinned,system")
    parser.add_argument("--protocol", default="standard")
    given = parser.parse_args()
    looks = protocol.get(given.protocol).looks
    quantile = NormalDist().inv_cdf(1 - 0.05 / len(looks) / 2)
    unknown = 0
    print("allocator  ratio       mean   sd of runs  claimed  quotient  median half-width")
    for allocator in given.allocators.split(","):
        ratios: dict[str, list[float]] = {}
        widths: dict[str, list[float]] = {}
        for number in range(given.runs):
            with tempfile.TemporaryDirectory() as folder:
                sweep = Sweep(
                    mechanism=MECHANISMS, batch=(8,), seed=number, measure=("latency",), protocol=given.protocol,
                    allocator=(allocator,),
                )  # fmt: skip
                for record in open_run(run(sweep, Path(folder) / "r")).records:
                    values = record.values
                    if record.cell.mechanism != "msa" and "ratio_low" not in values:
                        unknown += 1  # too few rounds for an interval, or the arm failed
                    elif record.cell.mechanism != "msa":
                        ratios.setdefault(record.cell.mechanism, []).append(math.log(values["ratio_to_reference"]))
                        half = math.log(values["ratio_high"] / values["ratio_low"]) / 2
                        widths.setdefault(record.cell.mechanism, []).append(half)
        for name, logs in ratios.items():
            if len(logs) < 2:
                continue
            claimed = fmean(widths[name]) / quantile
            half = sorted(widths[name])[len(widths[name]) // 2]
            print(
                f"{allocator:10} {name + '/msa':10} {math.exp(fmean(logs)):6.3f}  {stdev(logs):9.2%}  {claimed:7.2%}"
                f"  {stdev(logs) / claimed:8.2f}  {half:8.2%}",
                flush=True,
            )
    if unknown:
        print(f"{unknown} ratios without an interval were left out")


if __name__ == "__main__":
    main()
