"""What a Slurm job runs on its node: one part of a sweep, measured into a run folder of its own.

The folder is named by the part and the machine, because a run is of one machine: a job that is requeued to a machine of
another kind begins a run there. Everything that a run survives, a job survives: its journal is the checkpoint.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.execution import runner
from attnbench.machine import environment
from attnbench.planning.sweep import Sweep

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


@dataclass(frozen=True)
class Part:
    """One part of a sweep for one kind of node. Calling it measures the part, or what is left of it.

    Attributes:
        name: of the part, unique in the sweep. `folder`: where its run folders go, `NAME.MACHINE`.
        kind: the constraint that chooses the node; empty: any. `command`: what resumes the whole sweep.
    """

    name: str
    sweep: Sweep
    folder: Path
    kind: str = ""
    command: str = ""

    def __call__(self) -> None:
        """Measure on this machine.

        Raises:
            AttnbenchError: whatever of the part cannot be served here.
        """
        # submitit ignores SIGTERM. Then a worker that Slurm ends with it would be recorded as crashed by this process,
        # which Slurm ends a little later.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        planned, _ = runner.make_plan(self.sweep, all_may_decline=True)
        machine = environment.describe(self.sweep.device).machine_label
        runner.execute(planned, self.folder / f"{self.name}.{machine}", command=self.command)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues when Slurm warns of a time limit or a preemption: the same part."""
        from submitit.helpers import DelayedSubmission

        again: Any = DelayedSubmission(self)
        return again
