"""How long a worker may be silent before it counts as hung."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench import registry
from attnbench.analysis.summarize import GroupData
from attnbench.execution.comparison import Comparison
from attnbench.execution.workers import COMPILING, Workers
from attnbench.planning.protocol import get
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import Trial

QUICK = get("quick")


@pytest.fixture(scope="module")
def cell():
    return plan(Sweep(mechanism=("msa",), reference="none"), registry.load(entry_points=False)).cells[0]


@pytest.mark.parametrize(
    ("changes", "times"), [({}, 1), ({"runtime": "compile"}, COMPILING), ({"kernel": "flex"}, COMPILING)]
)
def test_a_trial_that_compiles_may_be_silent_for_longer(monkeypatch, cell, changes, times):
    seen = []
    workers = Workers(Sweep(), QUICK)

    def events(cell, job, patience_s):
        seen.append(patience_s)
        return iter(())

    monkeypatch.setattr(workers, "_events", events)
    workers.trial(replace(cell, **changes))
    workers.probe(replace(cell, **changes), "energy")
    assert seen == [times * QUICK.timeout_s] * 2


def test_what_flex_took_to_compile_in_its_trial_is_in_the_patience_of_its_timing(cell):
    flex = replace(cell, kernel="flex")
    patience = []
    for compile_s in (0.0, 100.0):
        data = GroupData(trials={flex.id: Trial(cell=flex.id, values={"compile_s": compile_s}, call_s=0.01)})
        patience.append(Comparison("g", [flex], data, QUICK, "none").patience_s())
    assert patience[1] - patience[0] >= 100.0
