"""Slurm's queue as this tool uses it: submit an array of parts, see which tasks are left, cancel them.

submitit writes the batch script, requeues a job before its time limit, and submits it. Which jobs are left is read from
squeue: submitit reads sacct, which not every cluster keeps.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.execution.slurm_job import Part

_ANSWER_S = 60.0  # that squeue or scancel may take
_WARN_S = 90  # before the time limit Slurm warns a job, which is requeued then
_TIMEOUTS = 1000  # requeues of a job that submitit allows; the coordinator ends what makes no progress
LOGS = "slurm"  # the folder of batch scripts and logs


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of Slurm; empty: the cluster's default.

    Attributes:
        constraint: features of nodes, each a kind of device that measures the whole sweep.
        time: minutes that a job may take until it is requeued. `mem`: of a node; "0": all.
        poll_s: seconds between two looks at the queue.
    """

    partition: str = ""
    constraint: tuple[str, ...] = ()
    account: str = ""
    gres: str = ""
    time: int = 60
    mem: str = "0"
    poll_s: float = 10.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of nodes; one without a name where no constraint is given."""
        return self.constraint or ("",)


class Queue:
    """The jobs of one sweep, which share a name that no other sweep's have."""

    def __init__(self, name: str, folder: Path, request: Request) -> None:
        """Raises AttnbenchError where Slurm or submitit is not installed; `folder`: for scripts and logs, shared."""
        missing = [program for program in ("sbatch", "squeue", "scancel", "srun") if not shutil.which(program)]
        if missing:
            raise AttnbenchError(
                f"--executor slurm needs Slurm's commands; {', '.join(missing)} not found; run it on a login node"
            )
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise AttnbenchError("--executor slurm needs submitit; pip install 'attnbench[slurm]'") from error
        self.name, self._folder, self._request = name, folder, request

    def submit(self, parts: Sequence[Part], kind: str) -> list[str]:
        """Submit these parts as one array, each task a node to itself; the job ids, in the order of the parts.

        Raises:
            AttnbenchError: Slurm refused them.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        asked = self._request
        words = {"partition": asked.partition, "constraint": kind, "account": asked.account, "gres": asked.gres}
        parameters: Mapping[str, Any] = {
            **{name: value for name, value in words.items() if value},
            "job_name": self.name, "time": asked.time, "exclusive": True, "signal_delay_s": _WARN_S,
            "additional_parameters": {"mem": asked.mem, "requeue": True, "open-mode": "append"},
        }  # fmt: skip
        executor = SlurmExecutor(self._folder, max_num_timeout=_TIMEOUTS)
        try:
            executor.update_parameters(**parameters)
            with executor.batch():
                jobs = [executor.submit(part) for part in parts]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise AttnbenchError(
                f"Slurm must accept the jobs; it refused: {lines[-1] if lines else error}; change the --slurm options"
            ) from error
        return [str(job.job_id) for job in jobs]

    def left(self) -> dict[str, str] | None:
        """The states of the jobs that have not ended, by job id; None while Slurm does not answer."""
        answer = _ask("squeue", "--noheader", "--array", f"--name={self.name}", "--format=%i|%T")
        if answer is None:
            return None
        found = (line.strip().partition("|") for line in answer.splitlines() if "|" in line)
        return {job: state for job, _, state in found}

    def cancel(self) -> None:
        """Cancel every job of the sweep.

        Raises:
            UnfinishedError: Slurm did not answer.
        """
        if _ask("scancel", f"--name={self.name}") is None:
            raise UnfinishedError(f"Slurm must answer scancel; it did not; cancel with: scancel --name={self.name}")

    def log_of(self, job: str) -> str:
        """The last line that a job wrote to its log of errors; empty where there is none."""
        with contextlib.suppress(OSError):
            file = next(self._folder.glob(f"{job}_*_log.err"), None)
            lines = file.read_text(errors="replace").split("\n")[-50:] if file else []
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def _ask(*words: str) -> str | None:
    """What a command prints; None where it fails or does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
