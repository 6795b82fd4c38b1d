"""Counting in the background: once for cells that count alike; an interrupt ends the wait and the processes."""

from __future__ import annotations

import pytest

from attnbench import registry
from attnbench.execution.counting import Counting
from attnbench.execution.interrupts import Interrupted
from attnbench.execution.runner import run
from attnbench.execution.workers import Workers
from attnbench.planning import protocol
from attnbench.planning.sweep import Sweep, plan


def _cells():
    sweep = Sweep(mechanism=("msa", "sra"), res=((32, 32),), dim=(24,), heads=(3,), kernel=("eager", "sdpa"))
    return sweep, plan(sweep, registry.load(entry_points=False)).cells


def test_cells_that_count_alike_are_counted_once_and_the_values_are_those_of_the_layer():
    sweep, cells = _cells()
    asked = []
    with Counting(sweep, protocol.get("quick")) as counting:
        original = counting._workers.count
        counting._workers.count = lambda cell: asked.append(cell.count_key) or original(cell)
        counting.ask(cells)
        counting.ask(cells)
        counts = {cell.id: counting.count(cell, lambda: None) for cell in cells}
    assert sorted(asked) == sorted({cell.count_key for cell in cells})
    msa = next(cell for cell in cells if cell.mechanism == "msa")
    assert counts[msa.id].values["params"] == 4 * 24 * (24 + 1)  # query, key, value and projection, with bias


def test_an_interrupt_ends_the_wait_and_the_server_with_it():
    sweep, cells = _cells()

    def interrupted():
        raise Interrupted("asked to stop")

    with Counting(sweep, protocol.get("quick")) as counting:
        counting.ask(cells)
        servers = list(counting._workers._servers)
        with pytest.raises(Interrupted):
            counting.count(cells[0], interrupted)
    assert all(server._process.poll() is not None for server in servers)
    assert len(servers) == 1


def test_no_trial_on_the_cpu_runs_beside_a_count(monkeypatch, tmp_path):
    order = []
    real_count, real_trial = Counting.count, Workers.trial
    monkeypatch.setattr(Counting, "count", lambda *given: order.append("count") or real_count(*given))
    monkeypatch.setattr(Workers, "trial", lambda *given: order.append("trial") or real_trial(*given))
    run(
        Sweep(mechanism=("msa", "sra"), res=((32, 32),), dim=(24,), heads=(3,), measure=("macs", "memory")),
        tmp_path / "run",
    )
    assert order == ["count", "count", "trial", "trial"]
