"""What was measured of a machine is kept for as long as it runs; ceilings only where the quick look agrees."""

from __future__ import annotations

import pytest

from attnbench import registry
from attnbench.execution import machine_cache, perform
from attnbench.execution.jobs import CeilingsJob
from attnbench.machine import linux
from attnbench.machine.devices import open_device
from attnbench.measure.ceilings import Rates
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import BetweenRuns, Ceilings

KEY = ("cpu", "fp32", 1, "pinned")
KNOWN = Ceilings(key=KEY, macs_per_s=1e11, bytes_per_s=1e10, libraries={"linear": "aten::addmm"})


@pytest.fixture
def boot(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(linux, "text", lambda path: "11112222-3333" if "boot_id" in path else "")
    return monkeypatch


@pytest.mark.usefixtures("boot")
def test_what_was_written_is_read_for_the_same_key_and_version():
    assert machine_cache.read(Ceilings, KEY, "2.13") is None
    machine_cache.write(KNOWN, "2.13")
    assert machine_cache.read(Ceilings, KEY, "2.13") == KNOWN
    assert machine_cache.read(Ceilings, KEY, "2.5") is None
    assert machine_cache.read(Ceilings, ("cuda:0", *KEY[1:]), "2.13") is None


@pytest.mark.usefixtures("boot")
def test_what_runs_differ_by_is_kept_beside_the_ceilings_and_not_taken_for_them():
    found = BetweenRuns(
        key=KEY, runs=3, measured="now", ratio_sd={"van": 0.25}, time_sd={}, other_ratio_sd=0.125, other_time_sd=0.0
    )
    machine_cache.write(found, "2.13")
    assert machine_cache.read(Ceilings, KEY, "2.13") is None
    machine_cache.write(KNOWN, "2.13")
    assert machine_cache.read(BetweenRuns, KEY, "2.13") == found
    assert machine_cache.read(Ceilings, KEY, "2.13") == KNOWN


def test_another_start_of_the_machine_measures_again(boot):
    machine_cache.write(KNOWN, "2.13")
    boot.setattr(linux, "text", lambda path: "99990000-3333")
    assert machine_cache.read(Ceilings, KEY, "2.13") is None
    boot.setattr(linux, "text", lambda path: "")
    assert machine_cache.read(Ceilings, KEY, "2.13") is None
    machine_cache.write(KNOWN, "2.13")  # and a system that does not say is no error


@pytest.mark.usefixtures("boot")
def test_a_damaged_or_unwritable_cache_is_no_error(tmp_path):
    machine_cache.write(KNOWN, "2.13")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")
    assert machine_cache.read(Ceilings, KEY, "2.13") is None
    file.unlink()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file")
    machine_cache.write(KNOWN, "2.13")
    assert machine_cache.read(Ceilings, KEY, "2.13") is None


@pytest.mark.parametrize(
    ("now", "kept"),
    [([1.05e11], True), ([0.8e11] * perform.LOOKS, False), ([0.5e11, 0.6e11, 1.0e11], True), ([2e11], False)],
)
def test_a_quick_look_confirms_them_and_is_repeated_where_the_machine_seems_slow(monkeypatch, now, kept):
    looks = iter(now)
    cell = plan(Sweep(mechanism=("msa",), threads=(1,)), registry.load(entry_points=False)).cells[0]
    monkeypatch.setattr(perform, "product_rate", lambda device, dtype, seconds: next(looks))
    monkeypatch.setattr(perform, "PAUSE_S", 0.0)
    monkeypatch.setattr(perform, "open_limited", lambda cell, limit: open_device("cpu"))
    monkeypatch.setattr(perform, "measure_ceilings", lambda device, dtype: Rates(now[-1], 1e10))
    assert (perform._ceilings(CeilingsJob(cell=cell, known=KNOWN)) is KNOWN) == kept
    assert next(looks, None) is None  # no look too many


def test_ceilings_are_the_best_of_several_passes(monkeypatch):
    cell = plan(Sweep(mechanism=("msa",), threads=(1,)), registry.load(entry_points=False)).cells[0]
    passes = iter([Rates(1e11, 3e10, 2e11), Rates(2e11, 1e10, None), Rates(1e11, 1e10, 3e11, 1e11)])
    monkeypatch.setattr(perform, "open_limited", lambda cell, limit: open_device("cpu"))
    monkeypatch.setattr(perform, "measure_ceilings", lambda device, dtype: next(passes))
    best = perform._ceilings(CeilingsJob(cell=cell))
    assert (best.macs_per_s, best.bytes_per_s, best.conv_macs_per_s, best.linear_macs_per_s) == (2e11, 3e10, 3e11, 1e11)
