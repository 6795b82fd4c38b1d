"""How far the estimate of a run's time was from its real time, for stored runs.

    python benchmarks/estimate.py [RUN...]

Without folders: the runs under reports/runs that have trials, or were of counts alone. The columns are the real time
(all sessions together, from their journal), and the ratio of the estimate to it: before anything is measured, with the
ceilings that the run itself stored; and after the trials. A run of schema 1 was measured by an older procedure.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from attnbench import registry
from attnbench.commands.plan import estimate_calls
from attnbench.errors import AttnbenchError
from attnbench.execution.rates import ASSUMED, MEASURED, Rate
from attnbench.planning.duration import CPU_MACS_PER_S, layer_rate
from attnbench.planning.protocol import Protocol
from attnbench.planning.remaining import Remaining
from attnbench.results.events import Ceilings, Event, SessionEnd, Trial
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import open_run, read_events

RUNS = Path(__file__).parent.parent / "reports" / "runs"


def estimated(facts: RunFacts, events: Sequence[Event], known: registry.Registry) -> Remaining:
    """What the run had left before it began, with the ceilings that it measured later."""
    cells = [cell for cell in facts.planned.cells if cell.id not in facts.planned.declined]
    rate = Rate(CPU_MACS_PER_S, ASSUMED)
    for event in events:
        if isinstance(event, Ceilings) and event.macs_per_s:
            rate = Rate(layer_rate(event.macs_per_s, event.conv_macs_per_s), MEASURED)
    calls_s = estimate_calls(cells, known, {cell.id: rate for cell in cells})
    measure = facts.sweep.get("measure", ())
    return Remaining(calls_s, protocol_of(facts), cells, measure)


def protocol_of(facts: RunFacts) -> Protocol:
    """The protocol that the run stored; numbers that it lacks are today's."""
    known = {field.name for field in fields(Protocol)}
    stored = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.protocol.items() if name in known}
    return Protocol(**stored)


def row(folder: Path, known: registry.Registry) -> str:
    """The row of one run.

    Raises:
        AttnbenchError: the folder holds no run that can be read.
    """
    facts, events = open_run(folder).facts, read_events(folder)
    real_s = math.fsum(event.seconds for event in events if isinstance(event, SessionEnd))
    trials = [event for event in events if isinstance(event, Trial)]
    remaining = estimated(facts, events, known)
    before_s = remaining.total_s
    after = "-"
    if trials:
        for trial in trials:
            remaining.learn(trial.cell, trial.call_s)
        exports_s = {float(trial.values.get("export_s", 0.0)) for trial in trials}  # two runtimes may share a file
        so_far_s = math.fsum(exports_s) + math.fsum(trial.job_s for trial in trials)
        after = f"{(so_far_s + remaining.left_s) / real_s:.2f}"
    machine = facts.machine
    name = f"{folder.name}{' (schema 1)' if facts.schema == 1 else ''}"
    return f"| {name} | {machine} | {len(remaining.cells)} | {real_s:.0f} s | {before_s / real_s:.2f} | {after} |"


def main() -> None:
    """Print a row for each run."""
    known = registry.load()
    folders = [Path(word) for word in sys.argv[1:]] or sorted(path for path in RUNS.iterdir() if path.is_dir())
    print("| run | machine | cells | real | estimate / real | after the trials |\n|---|---|---:|---:|---:|---:|")
    for folder in folders:
        try:
            print(row(folder, known))
        except AttnbenchError as error:
            print(f"{folder}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
