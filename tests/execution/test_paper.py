"""The authors' procedure: a process a layer, TF32 as their PyTorch had it, no start of a library in a layer's mean."""

from __future__ import annotations

import pytest
import torch

from attnbench import Sweep, run
from attnbench.execution import runner, timing
from attnbench.execution.jobs import TimingJob
from attnbench.execution.status_file import StatusFile
from attnbench.machine import devices
from attnbench.machine.devices.cpu import Cpu
from attnbench.measure.start import start_libraries
from attnbench.planning import protocol
from attnbench.results.store import open_run, read_rounds

SMALL = {"dim": (24,), "heads": (3,), "res": ((64, 64),), "batch": (1,), "threads": (1,), "protocol": "paper"}


class Gpu(Cpu):
    """A CPU that answers as a GPU: it has TF32, or raises as one without."""

    name = "cuda:0"

    def __init__(self, tf32: bool) -> None:
        super().__init__()
        self.tf32, self.asked = tf32, []

    def refuses(self, precision: str) -> str:
        self.asked.append(precision)
        return "" if self.tf32 or precision != "tf32" else "tf32 needs compute capability 8.0"


@pytest.fixture
def gpu(monkeypatch):
    made = Gpu(tf32=True)
    monkeypatch.setattr(devices, "open_device", lambda name: Cpu() if name == "cpu" else made)
    return made


def test_on_a_gpu_the_authors_procedure_is_planned_in_tf32_and_says_so(gpu):
    made, _ = runner.make_plan(Sweep(mechanism=("msa",), device=("cpu", "cuda"), **SMALL))
    assert [(c.device, c.precision) for c in made.cells] == [("cpu", "fp32"), ("cuda", "tf32")]
    assert gpu.asked == ["tf32"]
    (note,) = made.notes
    assert note == (
        "paper runs tf32 on cuda: PyTorch's default when the authors timed; for IEEE fp32 use --precision fp32"
    )


def test_a_gpu_without_tf32_runs_the_authors_procedure_in_fp32(gpu):
    gpu.tf32 = False
    made, _ = runner.make_plan(Sweep(mechanism=("msa",), device=("cuda",), **SMALL))
    assert [c.precision for c in made.cells] == ["fp32"]
    assert made.notes == ()


@pytest.mark.parametrize("given", [{"precision": ("fp32",)}, {"protocol": "quick"}])
def test_tf32_is_chosen_neither_against_the_user_nor_by_another_protocol(gpu, given):
    made, _ = runner.make_plan(Sweep(mechanism=("msa",), device=("cuda",), **{**SMALL, **given}))
    assert [c.precision for c in made.cells] == ["fp32"]


def test_the_authors_procedure_gives_each_layer_a_process_of_its_own_in_the_order_of_the_plan(tmp_path, monkeypatch):
    jobs = []
    rounds = runner.Workers.rounds

    def seen(self, cells, **given):
        jobs.append([c.variant for c in cells])
        return rounds(self, cells, **given)

    monkeypatch.setattr(runner.Workers, "rounds", seen)
    sweep = Sweep(mechanism=("window", "msa", "sra"), overrides=(("calls", 3),), **SMALL)
    folder = run(sweep, tmp_path / "r")
    assert jobs == [["window"], ["msa"], ["sra"]]
    ((one,),) = read_rounds(folder).values()
    cells = {c.id: c.variant for c in open_run(folder).cells}
    assert [(cells[turn.cell], len(turn.calls_s)) for turn in one.turns] == [("window", 3), ("msa", 3), ("sra", 3)]


@pytest.mark.parametrize(("prime_calls", "starts"), [(0, True), (2, False)])
def test_libraries_start_before_the_first_layer_is_built_where_no_primer_comes_before_its_time(
    monkeypatch, prime_calls, starts
):
    seen = []
    monkeypatch.setattr(timing, "start_libraries", lambda device, dtype: seen.append(("libraries", dtype)))
    build = timing.Arm

    def arm(*args, **more):
        seen.append(("arm", None))
        return build(*args, **more)

    monkeypatch.setattr(timing, "Arm", arm)
    monkeypatch.setattr(timing, "open_limited", lambda cell, limit: Cpu())
    made, _ = runner.make_plan(Sweep(mechanism=("msa",), **SMALL))
    numbers = protocol.get("paper")
    status = StatusFile()
    status.reset()
    job = TimingJob(
        cells=made.cells, group="g", process=0, calls={made.cells[0].id: 2}, first_round=0, rounds=1,
        prime_s=0.0, prime_calls=prime_calls, inference=numbers.inference,
    )  # fmt: skip
    # only the order is judged: in this process, which has run other tests, the guard may find changes and void a round
    timing.Timing(job, status, lambda event: None).run()
    status.close()
    assert seen == ([("libraries", torch.float32)] if starts else []) + [("arm", None)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_start_of_the_libraries_runs_in_every_dtype_and_waits(monkeypatch, dtype):
    device, waited = Cpu(), []
    monkeypatch.setattr(device, "synchronize", lambda: waited.append(True))
    start_libraries(device, dtype)
    assert waited == [True]


def test_the_papers_numbers_differ_from_a_batch_alone():
    paper = protocol.get("paper")
    assert (paper.schedule, paper.order, paper.tf32, paper.processes) == ("separate", "fixed", True, 1)
    assert not protocol.get("standard").tf32
