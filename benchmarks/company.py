"""Whether a layer in eager PyTorch takes the same time alone and beside arms of another runtime.

    python benchmarks/company.py [--runtime onnxruntime] [--cycles 30] [--batch 1] [--keep FILE]

Three kinds of timing processes take turns, in random order in each cycle: `msa` alone; beside two other layers, all
eager; beside the same two layers executed by the runtime. A ratio is the mean over the cycles of the difference of two
logarithms of its time, with Student's interval. Alone and beside differ already by what interleaving does, so the
second ratio is the runtime's part. Run it on a quiet machine; with --keep, in pieces whose cycles are added up there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from attnbench.analysis.statistics import student_interval
from attnbench.execution import runner
from attnbench.execution.workers import Workers
from attnbench.planning import protocol
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Sweep
from attnbench.results.events import Exported, Round, Trial

LAYER, OTHERS = "msa", ("hilo", "window")
ROUNDS = 3  # of each process
PATIENCE_S = 60.0


def kinds(cells: Sequence[Cell], runtime: str) -> Mapping[str, list[Cell]]:
    """The arms of each kind of process; the layer itself comes first and is eager in all."""
    layer = [c for c in cells if c.variant == LAYER and c.runtime == "eager"]

    def beside(others: str) -> list[Cell]:
        return layer + [c for c in cells if c.variant != LAYER and c.runtime == others]

    return {"alone": layer, "beside eager": beside("eager"), f"beside {runtime}": beside(runtime)}


def prepared(workers: Workers, exporter: Workers, cells: Sequence[Cell], numbers: protocol.Protocol) -> dict[str, int]:
    """Export and try every cell; the timed calls of a turn, by cell id."""
    calls = {}
    for cell in cells:
        if cell.runtime != "eager":
            made = exporter.export(cell)
            if not isinstance(made, Exported):
                raise SystemExit(f"every layer must be exported; {cell.variant} is not: {made.reason}")
            workers.artifacts[cell.id] = made.artifact
        trial = workers.trial(cell)
        if not isinstance(trial, Trial):
            raise SystemExit(f"every arm must survive its trial; {cell.variant} ({cell.runtime}): {trial.reason}")
        calls[cell.id] = numbers.calls_in_turn(trial.call_s)
    return calls


def log_time(workers: Workers, arms: Sequence[Cell], process: int, calls: Mapping[str, int]) -> float:
    """The mean logarithm of the first arm's time in a fresh process of these arms."""
    events = workers.rounds(
        arms, group=arms[0].group, process=process, first_round=0, rounds=ROUNDS, calls=calls, reference="",
        reference_turns=1, patience_s=PATIENCE_S,
    )  # fmt: skip
    times = [time for e in events if isinstance(e, Round) and (time := e.log_time(arms[0].id)) is not None]
    if len(times) != ROUNDS:
        raise SystemExit(f"a process gives {ROUNDS} rounds; got {len(times)}; {workers.last_failure}")
    return fmean(times)


def ratios(cycles: Sequence[Mapping[str, float]], runtime: str) -> str:
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
    parser.add_argument("--cycles", type=int, default=30, help="a process of each kind in every one")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add the cycles to those of earlier pieces there")
    given = parser.parse_args()
    if given.runtime == "eager":
        parser.error("--runtime must be another one than eager")
    cycles = json.loads(given.keep.read_text(encoding="utf-8")) if given.keep and given.keep.exists() else []
    numbers = protocol.get("quick")
    sweep = Sweep(
        mechanism=(LAYER, *OTHERS), res=((224, 224),), batch=(given.batch,), measure=("latency",),
        runtime=("eager", given.runtime), seed=given.seed,
    )  # fmt: skip
    arms = kinds(runner.make_plan(sweep)[0].cells, given.runtime)
    rng = random.Random(given.seed)
    with Workers(sweep, numbers) as workers, Workers(sweep, numbers, counts=True) as exporter:
        every = list({cell.id: cell for kind in arms.values() for cell in kind}.values())
        calls = prepared(workers, exporter, every, numbers)
        for number in range(given.cycles):
            cycle = {kind: log_time(workers, arms[kind], number, calls) for kind in rng.sample(list(arms), len(arms))}
            cycles.append(cycle)
            if given.keep:
                given.keep.write_text(json.dumps(cycles), encoding="utf-8")
    print(f"{len(cycles)} cycles, batch {given.batch}\n{ratios(cycles, given.runtime)}")


if __name__ == "__main__":
    main()
