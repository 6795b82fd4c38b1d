"""Whether a layer in eager PyTorch takes the same time alone and beside arms of another runtime.

    python benchmarks/company.py [--runtime onnxruntime] [--cycles 6] [--batch 1] [--protocol quick]

Three kinds of runs take turns, in random order in each cycle: `msa` alone; beside two other layers, all eager; beside
the same two layers executed by the runtime. A ratio is the mean over the cycles of the difference of two logarithms of
its time, with Student's interval. Alone and beside differ already by what interleaving does, so the second ratio is
the runtime's part. Run it on a quiet machine; it may be run in pieces (--seed), whose cycles --add joins.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from attnbench.analysis.statistics import student_interval
from attnbench.execution import runner
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan, Sweep
from attnbench.results.store import open_run

LAYER, OTHERS = "msa", ("hilo", "window")


def kinds(runtime: str) -> Mapping[str, Callable[[Cell], bool]]:
    """The cells of each kind of run; the layer itself is eager in all."""

    def the_layer(cell: Cell) -> bool:
        return cell.variant == LAYER and cell.runtime == "eager"

    def beside(others: str) -> Callable[[Cell], bool]:
        return lambda cell: the_layer(cell) or (cell.variant != LAYER and cell.runtime == others)

    return {"alone": the_layer, "beside eager": beside("eager"), f"beside {runtime}": beside(runtime)}


def log_time(planned: Plan, wanted: Callable[[Cell], bool], folder: Path) -> float:
    """The logarithm of the layer's time in a run of the wanted cells of this plan."""
    cells = tuple(cell for cell in planned.cells if wanted(cell))
    records = open_run(runner.execute(replace(planned, cells=cells), folder)).records
    failed = [f"{r.cell.variant} ({r.cell.runtime}): {r.outcome}: {r.reason}" for r in records if r.outcome != "ok"]
    if failed:
        raise SystemExit("every arm must be measured; got " + "; ".join(failed))
    return next(math.log(r.values["latency_s"]) for r in records if r.cell.variant == LAYER)


def ratios(cycles: list[dict[str, float]], runtime: str) -> str:
    """Both ratios with their intervals, over all cycles: below 1, company makes the layer slower."""
    rows = []
    for base in ("alone", "beside eager"):
        found = student_interval([cycle[base] - cycle[f"beside {runtime}"] for cycle in cycles])
        low, estimate, high = (math.exp(x) for x in (found.low, found.estimate, found.high))
        rows.append(f"time of {LAYER} {base} / beside {runtime}: {estimate:.4f} [{low:.4f}, {high:.4f}]")
    return "\n".join(rows)


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--cycles", type=int, default=6, help="a run of each kind in every one")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--add", type=Path, metavar="FILE", help="cycles of earlier pieces; those of this one are added"
    )
    given = parser.parse_args()
    if given.runtime == "eager":
        parser.error("--runtime must be another one than eager")
    cycles = json.loads(given.add.read_text(encoding="utf-8")) if given.add and given.add.exists() else []
    rng, wanted = random.Random(given.seed), kinds(given.runtime)
    sweep = Sweep(
        mechanism=(LAYER, *OTHERS), res=((224, 224),), batch=(given.batch,), measure=("latency",),
        runtime=("eager", given.runtime), protocol=given.protocol, seed=given.seed,
    )  # fmt: skip
    planned, _ = runner.make_plan(sweep)
    for number in range(given.cycles):
        cycle = {}
        with tempfile.TemporaryDirectory() as folder:
            for kind in rng.sample(list(wanted), len(wanted)):
                cycle[kind] = log_time(planned, wanted[kind], Path(folder) / kind.replace(" ", "-"))
        cycles.append(cycle)
        times = ", ".join(f"{kind} {1e3 * math.exp(value):.3f} ms" for kind, value in cycle.items())
        print(f"cycle {number + 1}: {times}", file=sys.stderr, flush=True)
    if given.add:
        given.add.write_text(json.dumps(cycles), encoding="utf-8")
    print(f"{len(cycles)} cycles, batch {given.batch}, {given.protocol}\n{ratios(cycles, given.runtime)}")


if __name__ == "__main__":
    main()
