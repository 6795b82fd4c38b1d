"""Check that the spread between independent runs matches their intervals, for each allocator.

    python benchmarks/agreement.py [--runs 10] [--allocators pinned,system] [--mechanisms msa,sra,…] [--keep FOLDER]

For each ratio to MSA: its standard deviation over the runs, the standard error that the records claim (root mean square
of `ratio_error`), the quotient of the two, which should be at most 1.2, and how many runs' intervals contain the mean
of the other runs. --keep: a folder that the run folders stay in.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, stdev

from attnbench import Sweep, run
from attnbench.results.record import Record
from attnbench.results.store import open_run


@dataclass
class Spread:
    """One mechanism's log ratios to MSA over the runs, with the errors and relative half-widths that they claim."""

    logs: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)

    @property
    def holding(self) -> int:
        """Runs whose interval contains the mean of the other runs."""
        others = [(sum(self.logs) - log) / (len(self.logs) - 1) for log in self.logs]
        return sum(abs(log - mean) <= half for log, mean, half in zip(self.logs, others, self.half_widths, strict=True))

    @property
    def claimed(self) -> float:
        """Root mean square of the claimed standard errors."""
        return math.sqrt(fmean(error**2 for error in self.errors))


def collect(records: Iterable[Record], spreads: dict[str, Spread]) -> int:
    """Add each record's ratio to its mechanism's; the number of records that have no interval."""
    unknown = 0
    for record in records:
        values = record.values
        if record.cell.mechanism == "msa":
            continue
        if not {"ratio_low", "ratio_high", "ratio_error"} <= set(values):
            unknown += 1  # too few rounds for an interval, or the arm failed
            continue
        spread = spreads.setdefault(record.cell.mechanism, Spread())
        spread.logs.append(math.log(values["ratio_to_reference"]))
        spread.errors.append(values["ratio_error"])
        spread.half_widths.append(math.log(values["ratio_high"] / values["ratio_low"]) / 2)
    return unknown


def main() -> None:
    """Print one row for each allocator and mechanism."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--allocators", default="pinned,system")
    parser.add_argument("--protocol", default="standard")
    parser.add_argument("--mechanisms", default="msa,sra,window,hilo")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    unknown = 0
    print("allocator  ratio       mean   sd of runs  claimed  quotient  median half-width  intervals that hold")
    for allocator in given.allocators.split(","):
        spreads: dict[str, Spread] = {}
        for number in range(given.runs):
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as temporary:
                folder = (given.keep or Path(temporary)) / f"{allocator}-{number}"
                sweep = Sweep(
                    mechanism=tuple(given.mechanisms.split(",")), batch=(8,), seed=number, measure=("latency",),
                    protocol=given.protocol, allocator=(allocator,),
                )  # fmt: skip
                unknown += collect(open_run(run(sweep, folder)).records, spreads)
            print(f"run {number}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        for name, spread in spreads.items():
            if len(spread.logs) < 2:
                continue
            sd = stdev(spread.logs)
            print(
                f"{allocator:10} {name + '/msa':10} {math.exp(fmean(spread.logs)):6.3f}  {sd:9.2%}"
                f"  {spread.claimed:7.2%}  {sd / spread.claimed:8.2f}  {median(spread.half_widths):8.2%}"
                f"           {spread.holding:5} of {len(spread.logs)}",
                flush=True,
            )
    if unknown:
        print(f"{unknown} ratios without an interval were left out")


if __name__ == "__main__":
    main()
