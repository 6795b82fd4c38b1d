"""The coordinator of a sweep on a cluster, with an invented queue: what it submits, awaits, gives up and cancels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from attnbench import registry
from attnbench.errors import UnfinishedError
from attnbench.execution.cluster import JOBS, Progress, _Coordinator
from attnbench.execution.interrupts import Interrupted
from attnbench.execution.slurm_job import Part
from attnbench.execution.slurm_queue import Request
from attnbench.planning.cut import cut, name
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.journal import Journal
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume

SWEEP = Sweep(mechanism=("msa", "hilo"), res=((32, 32), (48, 48)), dim=(24,), heads=(3,))
Fate = Callable[[Part, int], int]  # how many records a part's job stores, by the number of the job


class Invented:
    """A queue whose jobs end at once, after they have stored what `fate` says."""

    name = "invented"

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.submitted: list[list[str]] = []
        self.alive: dict[str, str] = {}
        self.cancelled = False
        self.jobs = 0

    def submit(self, parts: Sequence[Part], kind: str) -> list[str]:
        self.submitted.append([part.name for part in parts])
        ids = []
        for part in parts:
            self.jobs += 1
            measure(part, self.fate(part, self.jobs))
            ids.append(f"7_{self.jobs}")
        return ids

    def left(self) -> dict[str, str]:
        return self.alive

    def cancel(self) -> None:
        self.cancelled = True

    def log_of(self, job: str) -> str:
        return f"the log of {job}"


def measure(part: Part, records: int) -> None:
    """Store so many more records of a part, as a job on machine m does."""
    planned = plan(part.sweep, registry.load(entry_points=False))
    with create_or_resume(part.folder / f"{part.name}.m", planned, RunFacts()) as writer:
        for cell in [cell for cell in planned.cells if cell.id not in writer.done][:records]:
            writer.add(Record(cell=cell, outcome="ok", run_id=writer.id))


def coordinator(folder: Path, queue: Invented, *, kinds: tuple[str, ...] = ("",), answer: bool = False):
    """A coordinator of the sweep for these kinds of nodes, and what it says."""
    (folder / "parts").mkdir(exist_ok=True)
    parts = [Part(f"{kind}{name(part)}", part, folder / "parts", kind) for kind in kinds for part in cut(SWEEP)]
    said: list[str | Progress] = []
    request = Request(constraint=tuple(kind for kind in kinds if kind), poll_s=0.001)
    return _Coordinator(queue, request, parts, folder, said.append, said.append, lambda _: answer), parts, said


def test_parts_are_submitted_by_kind_and_only_those_that_lack_records_again(tmp_path):
    queue = Invented(lambda part, job: 1 if job == 1 else 2)
    made, parts, said = coordinator(tmp_path, queue, kinds=("one", "two"))
    made.go()
    assert queue.submitted == [[p.name for p in parts[:2]], [p.name for p in parts[2:]], [parts[0].name]]
    assert said[-1] == Progress(done=4, running=0, waiting=0, parts=4, records=8)
    again, _, _ = coordinator(tmp_path, queue, kinds=("one", "two"))
    again.go()
    assert len(queue.submitted) == 3


def test_a_part_whose_jobs_store_nothing_is_given_up_with_the_last_line_of_its_log(tmp_path):
    queue = Invented(lambda part, job: 0 if part.sweep.res == ((48, 48),) else 2)
    made, parts, _ = coordinator(tmp_path, queue)
    with pytest.raises(UnfinishedError, match=r"1 of 2 are, the first 48x48.*the log of 7_4"):
        made.go()
    assert queue.submitted == [[p.name for p in parts], *[[parts[1].name]] * 2]


def test_jobs_that_are_left_are_awaited_also_those_that_a_killed_coordinator_had_not_noted(tmp_path):
    queue = Invented(lambda part, job: 2)
    made, parts, said = coordinator(tmp_path, queue)
    noted = Journal(tmp_path / JOBS).open()
    noted.append({"part": parts[0].name, "job": "3_0"})
    noted.close()
    queue.alive = {"3_0": "RUNNING", "3_1": "PENDING"}
    looks = iter(range(100))

    def watch(progress: Progress) -> None:
        said.append(progress)

    def say(text: str) -> None:
        said.append(text)

    made.watch, made.say = watch, say
    left = queue.left

    def later() -> dict[str, str]:
        look = next(looks)
        if look == 3:
            assert queue.submitted == []
            measure(parts[0], 2)
            queue.alive = {}
        return left()

    queue.left = later
    made.go()
    assert queue.submitted == [[parts[1].name]]
    assert said[0] == Progress(done=0, running=1, waiting=0, parts=2, records=0)


@pytest.mark.parametrize("answer", [True, False])
def test_ctrl_c_asks_whether_to_cancel_the_jobs(answer, tmp_path):
    queue = Invented(lambda part, job: 0)
    made, _, said = coordinator(tmp_path, queue, answer=answer)

    def interrupted() -> dict[str, str]:
        queue.left = lambda: {"3_0": "RUNNING"}
        raise KeyboardInterrupt

    queue.left = interrupted
    with pytest.raises(Interrupted):
        made.go()
    assert queue.cancelled is answer
    assert any("scancel --name=invented" in str(text) for text in said) is not answer
