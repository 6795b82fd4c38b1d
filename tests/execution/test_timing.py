"""The arms of a group in one process, on a stand-in for a GPU: what one arm does costs the others nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import ClassVar

import arms
import pytest
import torch
from stand_ins import ASSERT, OUT_OF_MEMORY, StandIn
from torch import nn

from attnbench.execution import timing
from attnbench.execution.jobs import TimingJob
from attnbench.execution.status_file import StatusFile
from attnbench.results.events import Dropped, Progress, Round


class Frail(arms.Lines):
    """Raises the next of `errors` in its forward pass; an empty text: it works."""

    errors: ClassVar[list[str]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        text = Frail.errors.pop(0) if Frail.errors else ""
        if text:
            raise RuntimeError(text)
        return super().forward(x)


LAYERS = arms.known(frail=Frail, lines=arms.Lines)


@pytest.fixture
def device(monkeypatch):
    made = StandIn()
    monkeypatch.setattr(timing, "open_limited", lambda cell, limit: made)
    monkeypatch.setattr(timing.registry, "load", lambda plugins: LAYERS)
    Frail.errors = []
    return made


def run(cells, *, rounds: int = 2, errors: list[str] | None = None, **job):
    """The events of a timing job of these cells, and how its process would end."""
    given = TimingJob(
        cells=tuple(cells), group="g", process=0, calls={c.id: 1 for c in cells}, first_round=0, rounds=rounds,
        prime_s=0.0, prime_calls=1, fixed_order=True, **job,
    )  # fmt: skip
    status, said, end = StatusFile(), [], ""
    status.reset()
    work = timing.Timing(given, StatusFile(os.dup(status.descriptor)), said.append)
    Frail.errors = list(errors or [])
    try:
        work.run()
    except SystemExit as error:
        end = str(error)
    status.close()
    return said, end, work


def cells(**changes):
    return [replace(arms.cell(name, LAYERS), **changes) for name in ("lines", "frail", "msa")]


def dropped(said):
    return [(e.cell, e.outcome) for e in said if isinstance(e, Dropped)]


def turns(said, cell) -> int:
    return sum(len(e.of(cell.id)) for e in said if isinstance(e, Round))


def test_memory_that_runs_out_once_is_released_and_the_arm_works_again(device):
    lines, frail, msa = cells()
    said, end, _ = run([lines, frail, msa], errors=["", "", OUT_OF_MEMORY])
    assert (dropped(said), end) == ([], "")
    assert [turns(said, c) for c in (lines, frail, msa)] == [2, 2, 2]
    assert device.released == 1


def test_an_arm_without_memory_is_dropped_alone_and_the_others_go_on(device):
    lines, frail, msa = cells()
    said, end, _ = run([lines, frail, msa], errors=["", "", OUT_OF_MEMORY, OUT_OF_MEMORY])
    assert dropped(said) == [(frail.id, "oom")]
    assert end == ""
    assert [turns(said, c) for c in (lines, msa)] == [2, 2]
    assert device.released == 2


def test_memory_that_runs_out_while_arms_are_built_is_released_too(device, monkeypatch):
    real, failures = timing.Arm, [OUT_OF_MEMORY]

    def arm(cell, *args, **kwargs):
        if cell.mechanism == "frail" and failures:
            raise RuntimeError(failures.pop())
        return real(cell, *args, **kwargs)

    monkeypatch.setattr(timing, "Arm", arm)
    said, end, _ = run(cells())
    assert (dropped(said), end, device.released) == ([], "", 1)


def test_an_error_that_destroys_the_context_ends_the_process_and_blames_its_own_arm(device):
    lines, frail, msa = cells()
    said, end, _ = run([lines, frail, msa], errors=["", "", "", ASSERT])
    assert dropped(said) == [(frail.id, "crashed")]
    assert "cannot be used in this process" in end
    assert [e.round for e in said if isinstance(e, Round)] == [0]


def test_after_its_turn_an_arm_holds_its_weights_alone(device):
    _, _, work = run(cells(pass_="train"))
    assert len(work.arms) == 3
    for arm in work.arms:
        assert (arm.output, arm._inputs, arm._gradient, arm._replay) == (None, [], None, None)
        assert all(p.grad is None for p in arm.module.parameters())


def test_the_building_phase_breaks_its_silence_at_every_arm(device):
    said, _, _ = run(cells())
    stages = [e.stage for e in said if isinstance(e, Progress)]
    assert stages == [
        "built lines", "built frail", "built msa", "called lines", "called frail", "called msa", "built",
    ]  # fmt: skip


def test_a_graph_is_captured_once_a_turn_and_its_replays_are_timed(device):
    lines, _, msa = cells()
    graph = replace(msa, graphs=True)
    said, end, _ = run([lines, msa, graph])
    assert (dropped(said), end) == ([], "")
    assert turns(said, graph) == 2
    assert len(device.captured) == 3  # the first call, and two turns
    assert device.replays == 1 + 2 * 2  # a primer and a timed call each


def test_a_graph_reads_one_input_set_and_gives_what_the_layer_gives(device):
    cell = arms.cell("msa", LAYERS)
    plain, graph = (arms.arm(replace(cell, graphs=g), LAYERS, device) for g in (False, True))
    plain()
    graph()
    assert torch.equal(plain.output, graph.output)
    assert len(graph._inputs) == 1
    assert not graph.changed_inputs(thorough=True)
    graph.forget()
    assert graph._replay is None


def test_the_kernel_of_a_graph_is_seen_in_the_call_that_it_holds(device):
    from attnbench.measure.kernels import kernel_that_ran

    cell = arms.cell("msa", LAYERS, kernel="sdpa", graphs=True)
    assert kernel_that_ran(arms.arm(cell, LAYERS, device)) == "sdpa:flash_for_cpu x1"


def test_gradients_that_are_not_finite_fail_a_training_cell():
    class Steep(nn.Module):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(dim))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.weight.sqrt()  # finite; its gradient at zero is not

    layers = arms.known(steep=Steep)
    arm = arms.arm(arms.cell("steep", layers, pass_="train"), layers)
    arm()
    with pytest.raises(Exception, match="gradient of weight must be finite"):
        arm.check()
