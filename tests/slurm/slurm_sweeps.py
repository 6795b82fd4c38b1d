"""A small sweep by Slurm jobs, what may happen to a job, and what must hold in the end; for tests and a benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support.slurm_cluster import SlurmCluster

from attnbench.execution import runner
from attnbench.planning.sweep import Sweep
from attnbench.results.collection import run_folders
from attnbench.results.store import RECORDS, open_run, read_events

SWEEP = Sweep(
    mechanism=("msa", "hilo"), res=((32, 32), (32, 48)), dim=(24,), heads=(3,), batch=(1,), threads=(1,),
    measure=("latency",), protocol="quick",
    overrides=(("looks", (4,)), ("processes", 4)),
)  # fmt: skip
WORDS = (
    "-m", "msa,hilo", "--res", "32,32x48", "--dim", "24", "--heads", "3", "--batch", "1", "--threads", "1",
    "--measure", "latency", "--protocol", "quick", "--rounds", "4", "--processes", "4",
)  # fmt: skip


def run(cluster: SlurmCluster, out: Path) -> subprocess.Popen[str]:
    """The command of the sweep, begun."""
    words = ["run", *WORDS, "--executor", "slurm", "--slurm-mem", "1500", "--slurm-poll", "0.3", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "attnbench", *words],
        env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], cluster: SlurmCluster) -> tuple[int, str]:
    """The exit code and stderr of a command; requeued jobs are not let wait for the two minutes of Slurm."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        for job, state in cluster.jobs().items():
            if state == "PENDING":
                cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now", fails=True)
        time.sleep(0.3)
    process.kill() if process.poll() is None else None
    _, errors = process.communicate()
    return process.returncode, errors


def measuring(cluster: SlurmCluster, out: Path) -> str:
    """Wait until a job has stored something; its id."""
    found: list[str] = []

    def begun() -> bool:
        running = {job for job, state in cluster.jobs().items() if state == "RUNNING"}
        lines = (out / "jobs.jsonl").read_text().splitlines() if (out / "jobs.jsonl").exists() else []
        for line in map(json.loads, lines):
            stored = [f for f in out.glob(f"parts/{line['part']}.*/samples.jsonl") if f.stat().st_size]
            if stored and line["job"] in running:
                found.append(line["job"])
        return bool(found)

    cluster.wait_for(begun, 40)
    return found[0]


def records(out: Path) -> dict[str, str]:
    """The stored line of each cell's record, by cell id; each cell must have one."""
    lines = [line for run in run_folders([out]) for line in (run / RECORDS).read_text().splitlines()]
    found = [(json.loads(line)["cell_id"], line) for line in lines]
    assert max(Counter(cell for cell, _ in found).values(), default=0) <= 1
    return dict(found)


def assert_finished(out: Path) -> None:
    """The sweep's records are those of its plan, each once and measured, and no round was stored twice."""
    planned = runner.make_plan(SWEEP)[0]
    assert set(records(out)) == {cell.id for cell in planned.cells}
    for folder in run_folders([out]):
        run_ = open_run(folder)
        assert not run_.problems
        assert {r.outcome for r in run_.records} == {"ok"}
        rounds = [(e.group, e.round) for e in read_events(folder) if e.kind == "round"]
        assert len(rounds) == len(set(rounds)) == 4


def _kill(cluster: SlurmCluster, job: str) -> None:
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            mine = f"SLURM_JOB_ID={cluster.number(job)}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if mine and b"submitit.core._submit" in words and not words.startswith(b"srun"):
            os.kill(pid, signal.SIGKILL)


def _node_down(cluster: SlurmCluster, job: str) -> None:
    node = cluster.ask("squeue", "-h", "-j", job, "-o", "%N").strip()
    cluster.kill_node(node)
    cluster.wait_for(lambda: cluster.jobs().get(job) != "RUNNING", 40)
    cluster.start_node(node)


FAULTS: dict[str, Callable[[SlurmCluster, str], object]] = {
    "its process is killed": _kill,
    "it is cancelled": lambda cluster, job: cluster.ask("scancel", job),
    "it is requeued": lambda cluster, job: cluster.ask("scontrol", "requeue", job),
    "Slurm warns it of its time limit": lambda cluster, job: cluster.ask("scancel", "--signal=USR2", job),
    "its node goes down": _node_down,
}
