"""Time the same layers in several runs: what runs of this machine differ by beyond what each of them sees.

The result goes to the user's cache, and every later run of the device, threads, allocator and protocol takes it into
its errors until the machine is started again. The layers differ in what limits them: matrix products, memory,
convolutions.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from attnbench.analysis import between_runs
from attnbench.analysis.between_runs import Estimate
from attnbench.analysis.contrasts import contrasts, log_speed
from attnbench.errors import AttnbenchError
from attnbench.execution import machine_cache, runner
from attnbench.execution.machine_facts import spread_key
from attnbench.execution.progress import duration
from attnbench.machine import environment
from attnbench.planning import protocol as protocols
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Sweep
from attnbench.results.events import BetweenRuns
from attnbench.results.store import open_run, read_rounds

LAYERS = ("msa", "sra", "window", "hilo", "van", "hornet", "linformer")  # the first is the reference
BATCH = 8


def measure_between_runs(
    runs: int, *, device: str = "cpu", protocol: str = "standard", threads: tuple[int, ...] = (),
    allocator: str = "pinned", overrides: tuple[tuple[str, object], ...] = (), seed: int = 0, res: int = 224,
    progress: Callable[[str], None] = print,
) -> BetweenRuns:  # fmt: skip
    """Run the layers so often, and keep for later runs what the runs differ by.

    Args:
        runs: how often.
        device: its name.
        protocol: of the runs; what they differ by holds for later runs of the same.
        threads: CPU threads; empty: all that this process may use.
        allocator: on a CPU.
        overrides: numbers that replace the protocol's.
        seed: of the first run; each has another.
        res: pixels of the images' sides.
        progress: called with one line after each run.

    Raises:
        AttnbenchError: a layer could not be measured, or the protocol gives no interval.
    """
    ratios: dict[str, list[Estimate]] = {name: [] for name in LAYERS[1:]}
    times: dict[str, list[Estimate]] = {name: [] for name in LAYERS}
    numbers = protocols.get(protocol, overrides)
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    key: tuple[str | int, ...] = ()
    started = time.monotonic()
    for number in range(runs):
        sweep = Sweep(
            mechanism=LAYERS, reference=LAYERS[0], res=((res, res),), batch=(BATCH,), measure=("latency",),
            device=(device,), protocol=protocol, threads=threads, allocator=(allocator,), overrides=overrides,
            seed=seed + number,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            key = spread_key(_add(runner.run(sweep, Path(folder) / "run"), ratios, times), numbers)
        left_s = (time.monotonic() - started) / (number + 1) * (runs - number - 1)
        progress(f"run {number + 1} of {runs}" + (f", about {duration(left_s)} left" if left_s else ""))
    found = between_runs.estimate(ratios, times, key=key, measured=measured)
    machine_cache.write(found, environment.torch_version())
    return found


def _add(folder: Path, ratios: dict[str, list[Estimate]], times: dict[str, list[Estimate]]) -> Cell:
    """Add a run's logs with the errors of its own rounds; the reference's cell."""
    run = open_run(folder)
    lost = [record for record in run.records if record.outcome != "ok"]
    if lost:
        raise AttnbenchError(
            f"the self-test needs all its layers; {lost[0].cell.variant} ended as {lost[0].outcome}: {lost[0].reason}"
        )
    rounds = [r for of_group in read_rounds(folder).values() for r in of_group]
    cells = {record.cell.mechanism: record.cell for record in run.records}
    against = contrasts(rounds, [cell.id for cell in cells.values()], cells[LAYERS[0]].id)
    for name, cell in cells.items():
        speed = log_speed(rounds, cell.id)
        for logs, found in ((times, speed), (ratios, against.get(cell.id))):
            if found is None and name == LAYERS[0]:
                continue
            if found is None or found.processes < 2:
                raise AttnbenchError(
                    f"runs are compared by their errors; {run.records[0].protocol} gives none; "
                    "use quick, standard or rigorous"
                )
            logs[name].append((found.log_ratio, found.error))
    return cells[LAYERS[0]]
