"""Passes beside time, with real child processes: what is asked for is there, a failure costs nothing, all resumes."""

from __future__ import annotations

import json

import pytest
from plugins import write_plugin

from attnbench import AttnbenchError, Sweep, run
from attnbench.execution.workers import Workers
from attnbench.planning.sweep import MEASURES
from attnbench.results.store import open_run

SMALL = {"dim": (24,), "heads": (3,), "res": ((64, 64),), "batch": (1,), "threads": (1,), "protocol": "quick"}
ALL = ("breakdown", "error", "energy")
DIES = "self.n = getattr(self, 'n', 0) + 1\n        if x.dtype == torch.float64: os.kill(os.getpid(), 9)"
DIES += "\n        return self.line(x)"


def test_every_pass_that_was_asked_for_is_in_the_record_and_no_other(tmp_path):
    sweep = Sweep(mechanism=("msa", "hilo"), measure=("memory", *ALL), **SMALL)
    for record in open_run(run(sweep, tmp_path / "r")).records:
        assert record.outcome == "ok"
        assert {"projection_share", "core_share", "host_share", "intensity_macs_per_byte"} <= set(record.values)
        assert {"error_rms", "error_rms_x8", "error_rms_x64", "peak_memory_bytes"} <= set(record.values)
        assert {"top_operators", "kernel_ran"} <= set(record.words)
        assert "energy_j_per_image" in record.values or "no energy counter" in record.words["energy_notes"]
        assert "latency_s" not in record.values
    plain = Sweep(mechanism=("msa",), measure=("memory",), **SMALL)
    (record,) = open_run(run(plain, tmp_path / "plain")).records
    assert not [name for name in (*record.values, *record.words) if name.startswith(("error", "energy", "proj", "top"))]


def test_the_passes_run_only_where_they_are_asked_for():
    assert Sweep().measure == MEASURES
    assert not set(ALL) & set(MEASURES)
    with pytest.raises(AttnbenchError, match=r"measure must be one of .*, breakdown, error, energy; got 'colour'"):
        Sweep(measure=("colour",))


def test_a_pass_that_kills_its_process_costs_the_cell_nothing(tmp_path):
    plugin = write_plugin(tmp_path / "p.py", {"dies_in_float64": DIES})
    sweep = Sweep(
        mechanism=("dies_in_float64",), reference="none", plugins=(str(plugin),), measure=("memory", "error"), **SMALL
    )
    (record,) = open_run(run(sweep, tmp_path / "r")).records
    assert record.outcome == "ok"
    assert record.values["peak_memory_bytes"] > 0
    assert "error_rms" not in record.values
    assert record.words["error_notes"].startswith("crashed: ")
    assert "SIGKILL" in record.words["error_notes"]


def test_a_pass_that_is_in_the_journal_is_not_run_again(tmp_path, monkeypatch):
    sweep = Sweep(mechanism=("msa", "hilo"), measure=("error",), **SMALL)
    folder = run(sweep, tmp_path / "r")
    before = {r.cell.id: r.values["error_rms"] for r in open_run(folder).records}
    journal = (folder / "samples.jsonl").read_text().splitlines()
    kept = [line for line in journal if json.loads(line)["kind"] in ("trial", "probe")]
    assert len(kept) == 4
    (folder / "records.jsonl").write_text("")
    monkeypatch.setattr(Workers, "probe", lambda *_: pytest.fail("it was run again"))
    after = {r.cell.id: r.values["error_rms"] for r in open_run(run(sweep, folder)).records}
    assert after == before


SWITCHES = {"error": "x.dtype == torch.float64", "breakdown": "self.n > 14"}


def test_a_pass_in_which_a_layer_changes_the_process_gives_no_values_and_says_so(tmp_path):
    body = "self.n = getattr(self, 'n', 0) + 1\n        if {}: torch.backends.mkldnn.enabled = False\n"
    body += "        return self.line(x)"
    plugin = write_plugin(tmp_path / "p.py", {f"in_{what}": body.format(when) for what, when in SWITCHES.items()})
    sweep = Sweep(
        mechanism=("in_error", "in_breakdown"), reference="none", plugins=(str(plugin),),
        measure=("memory", "error", "breakdown"), **SMALL,
    )  # fmt: skip
    records = {r.cell.mechanism: r for r in open_run(run(sweep, tmp_path / "r")).records}
    assert {r.outcome for r in records.values()} == {"ok"}
    for what, value, other in (("error", "error_rms", "host_share"), ("breakdown", "host_share", "error_rms")):
        record = records[f"in_{what}"]
        assert "torch.backends.mkldnn.enabled" in record.words[f"{what}_notes"]
        assert value not in record.values
        assert other in record.values  # the other pass has a process of its own
