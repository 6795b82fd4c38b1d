"""Isolated arms: processes of their own, into which no other arm's code comes, interleaved with the shared ones."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter

import pytest
from plugins import write_plugin
from torch import nn

import attnbench
from attnbench import Sweep, run
from attnbench.execution.progress import Silent
from attnbench.execution.runner import Interrupted, make_plan
from attnbench.execution.schedule import beside
from attnbench.planning import protocol
from attnbench.planning.remaining import Remaining
from attnbench.results.events import ArmTurn, Round
from attnbench.results.store import open_run, read_rounds

SMALL = {"dim": (24,), "heads": (3,), "res": ((32, 32),), "batch": (1,), "threads": (1,), "protocol": "quick"}
NUMBERS = (("prime_s", 0.0), ("looks", (6,)), ("processes", 3), ("timeout_s", 60.0), ("turn_s", 0.0))
FAST = {**SMALL, "measure": ("latency",), "overrides": NUMBERS}
SPOIL = "nn.Linear.forward = lambda self, x: nn.functional.linear(x, self.weight * float('nan'))"
LATE = f"self.n = getattr(self, 'n', 0) + 1\n        if self.n > 4: {SPOIL}\n        return x * 2"


def of(folder):
    """The records and the rounds, each by mechanism."""
    records = {r.cell.mechanism: r for r in open_run(folder).records}
    (rounds,) = read_rounds(folder).values()
    return records, rounds


@pytest.mark.parametrize("when", ["at import", "late"])
def test_what_the_guard_does_not_see_spoils_nobody_once_the_arm_is_isolated(when, tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", nn.Linear.forward)  # planning imports the plugin into this process too
    plugin = write_plugin(tmp_path / "spoils.py", {"spoils": LATE if when == "late" else "return x * 2"})
    if when == "at import":
        plugin.write_text(f"{plugin.read_text()}\n{SPOIL}\n")
    sweep = {"mechanism": ("msa", "sra", "spoils"), "plugins": (str(plugin),), **FAST}
    if when == "late":
        spoilt, _ = of(run(Sweep(**sweep), tmp_path / "without"))
        assert "failed" in (spoilt["msa"].outcome, spoilt["sra"].outcome)
    records, rounds = of(run(Sweep(**sweep, isolate=("plugins",)), tmp_path / "with"))
    assert {name: (r.outcome, r.values.get("rounds")) for name, r in records.items()} == dict.fromkeys(
        ("msa", "sra", "spoils"), ("ok", 6)
    )
    assert [name for name, r in records.items() if "isolated" in r.flags] == ["spoils"]
    ids = {r.cell.id: name for name, r in records.items()}
    assert {ids[t.cell] for r in rounds for t in r.turns} == {"msa", "sra"}
    assert Counter(ids[t.cell] for r in rounds for t in r.alone) == {"msa": 12, "spoils": 12}
    assert records["spoils"].values["ratio_low"] < records["spoils"].values["ratio_high"]


def test_a_plugin_is_not_imported_beside_other_arms(tmp_path, monkeypatch):
    monkeypatch.setattr(attnbench, "loud", False, raising=False)
    note = tmp_path / "note"
    quiet, loud = tmp_path / "quiet.py", tmp_path / "loud.py"
    write_plugin(quiet, {"quiet": "return self.line(x)"})
    write_plugin(loud, {"loud": "return self.line(x)"})
    code = f"sys.modules['attnbench'].loud = True\nwith open({str(note)!r}, 'a') as file:\n    file.write('x')\n"
    loud.write_text(loud.read_text() + code)
    body = "assert not hasattr(sys.modules['attnbench'], 'loud'); return self.line(x)"
    write_plugin(quiet, {"quiet": body})
    sweep = Sweep(mechanism=("msa", "quiet", "loud"), plugins=(str(loud), str(quiet)), isolate=("all",), **FAST)
    records, rounds = of(run(sweep, tmp_path / "r"))
    assert {r.outcome for r in records.values()} == {"ok"}
    assert all(not r.turns and len(r.alone) == 6 for r in rounds)
    assert len(note.read_text()) == 2 + 1 + 3  # the plan and its rehearsal, a trial, three timing processes


def test_an_isolated_arm_that_ends_its_process_in_silence_is_dropped_alone(tmp_path):
    plugin = write_plugin(tmp_path / "ends.py", {"ends": "return x * 2"})
    note = tmp_path / "note"
    code = f"with open({str(note)!r}, 'a') as file:\n    file.write('x')\n"
    code += f"if os.path.getsize({str(note)!r}) > 3: os.kill(os.getpid(), 9)\n"
    plugin.write_text(f"{plugin.read_text()}\n{code}")
    sweep = Sweep(mechanism=("msa", "sra", "ends"), plugins=(str(plugin),), isolate=("ends",), **FAST)
    records, _ = of(run(sweep, tmp_path / "r"))
    assert {name: r.outcome for name, r in records.items()} == {"msa": "ok", "sra": "ok", "ends": "crashed"}
    assert records["sra"].values["rounds"] == 6
    assert "SIGKILL" in records["ends"].reason


class Interrupter(Silent):
    """Sends Ctrl-C after so many rounds."""

    def __init__(self, after: int) -> None:
        self.after = after

    def round(self, arms, rounds, seconds):
        if rounds == self.after:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_with_isolated_arms_is_resumed_and_strict_works_with_it(tmp_path):
    words = {**FAST, "overrides": (*NUMBERS, ("strict", True)), "isolate": ("sra",)}
    sweep = Sweep(mechanism=("msa", "sra", "window"), **words)
    with pytest.raises(Interrupted):
        run(sweep, tmp_path / "r", watcher=Interrupter(2))
    assert len(read_rounds(tmp_path / "r")) == 1
    records, rounds = of(run(sweep, tmp_path / "r"))
    assert [(r.round, r.process) for r in rounds] == [(n, n // 2) for n in range(6)]
    assert {name: r.outcome for name, r in records.items()} == dict.fromkeys(("msa", "sra", "window"), "ok")
    assert "resumed" in records["sra"].flags
    assert all(math.isfinite(records[name].values["ratio_high"]) for name in ("sra", "window"))


def test_the_plan_says_what_is_isolated_and_allows_for_its_time(tmp_path):
    plugin = write_plugin(tmp_path / "mine.py", {"mine": "return x * 2"})
    words = {"mechanism": ("msa", "sra", "mine"), "plugins": (str(plugin),), **FAST}
    plain, _ = make_plan(Sweep(**words))
    made, _ = make_plan(Sweep(**words, isolate=("plugins",)))
    named, _ = make_plan(Sweep(**words, isolate=("mine",)))
    ids = {c.mechanism: c.id for c in made.cells}
    assert made.isolated == {ids["mine"]}
    assert made.origins == {ids["mine"]: (f"plugin {plugin}",)}
    assert "timed in processes of their own: mine" in made.notes
    assert made.hash == named.hash != plain.hash
    estimates = dict.fromkeys(ids.values(), 0.01)
    apart, together = (
        Remaining(estimates, protocol.get("quick"), p.cells, isolated=p.isolated).total_s for p in (made, plain)
    )
    assert apart > together


def test_a_round_of_parts_keeps_those_of_isolated_arms_beside_the_shared():
    def part(cell):
        return Round(group="g", process=1, round=3, turns=(ArmTurn(cell=cell, calls_s=(0.1,)),), seconds=2.0)

    whole = beside(part("a"), [part("a"), part("b")])
    assert ([t.cell for t in whole.turns], [t.cell for t in whole.alone], whole.seconds) == (["a"], ["a", "b"], 6.0)
    assert [t.cell for t in beside(None, [part("b")]).alone] == ["b"]
    assert beside(None, [part("b")]).turns == ()
    assert [len(turns) for turns in whole.pair("a", "b")] == [1, 1]
