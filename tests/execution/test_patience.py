"""How long a worker may be silent before it counts as hung."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench import registry
from attnbench.analysis.summarize import GroupData
from attnbench.execution.comparison import Comparison
from attnbench.execution.servers import needs_compiler
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


@pytest.mark.parametrize(
    ("axes", "needs"),
    [
        ({}, False),
        ({"runtime": ("eager", "onnxruntime", "openvino")}, False),
        ({"runtime": ("eager", "aoti")}, True),
        ({"runtime": ("compile",)}, True),
        ({"kernel": ("eager", "flex")}, True),
    ],
)
def test_timing_processes_import_the_compiler_only_where_a_layer_needs_it(axes, needs):
    assert needs_compiler(Sweep(**axes)) == needs


def test_an_export_imports_what_its_cell_needs_and_may_be_silent_while_it_compiles(monkeypatch, cell):
    seen = []
    cells = [replace(cell, runtime=name) for name in ("onnxruntime", "aoti")]
    workers = Workers(Sweep(plugins=("mine.py",)), QUICK, origins={cells[1].id: ("plugin mine.py",)})

    def events(cell, job, patience_s):
        seen.append((job.imports, patience_s))
        return iter(())

    monkeypatch.setattr(workers, "_events", events)
    for each in cells:
        workers.export(each)
    assert seen == [((), QUICK.timeout_s), (("plugin mine.py",), COMPILING * QUICK.timeout_s)]
