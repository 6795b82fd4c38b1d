"""What a run knows of its machine beside its own rounds: ceilings, and what runs differ by. Each is logged once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict

from attnbench.execution import machine_cache
from attnbench.execution.progress import Watcher
from attnbench.execution.resume import Known
from attnbench.execution.workers import Workers
from attnbench.machine import environment
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import Protocol
from attnbench.results.events import BetweenRuns, Ceilings


def spread_key(cell: Cell, protocol: Protocol) -> tuple[str | int, ...]:
    """What runs must have in common so that one may take over what others differed by: every number of the protocol."""
    numbers = {name: value for name, value in asdict(protocol).items() if name not in ("name", "meaning")}
    digest = hashlib.sha256(repr(sorted(numbers.items())).encode()).hexdigest()[:8]
    return (cell.device, cell.threads, cell.allocator, f"{protocol.name}-{digest}")


class MachineFacts:
    """Asks the journal first, then the cache; ceilings that neither holds are measured."""

    def __init__(
        self, workers: Workers, known: Known, watcher: Watcher, log: Callable[[Ceilings | BetweenRuns], None]
    ) -> None:
        self.workers, self.known, self.watcher, self.log = workers, known, watcher, log
        self.torch_version = environment.torch_version()

    def ceilings(self, cell: Cell) -> Ceilings:
        """The ceilings of the cell's device, precision, threads and allocator."""
        key = (cell.device, cell.precision, cell.threads, cell.allocator)
        if key not in self.known.ceilings:
            self.watcher.stage("measuring the ceilings of this machine")
            measured = self.workers.ceilings(cell, machine_cache.read(Ceilings, key, self.torch_version))
            machine_cache.write(measured, self.torch_version)
            self.known.ceilings[key] = measured
            self.log(measured)
        return self.known.ceilings[key]

    def between_runs(self, cell: Cell, protocol: Protocol) -> BetweenRuns | None:
        """What such runs differ by, as a self-test measured it since the machine's start; None if none did."""
        key = spread_key(cell, protocol)
        if key not in self.known.between_runs:
            kept = machine_cache.read(BetweenRuns, key, self.torch_version)
            if kept is None:
                return None
            self.known.between_runs[key] = kept
            self.log(kept)
        return self.known.between_runs[key]
