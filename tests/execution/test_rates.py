"""Where the rate of an estimate comes from: kept ceilings, a probe, or an assumption. Nothing is timed here."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from attnbench import registry
from attnbench.execution import machine_cache, rates
from attnbench.machine import environment, linux
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import Ceilings


@pytest.fixture
def cell(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path))
    return plan(Sweep(mechanism=("msa",)), registry.load(entry_points=False)).cells[0]


def test_ceilings_that_were_measured_since_the_start_come_before_a_probe_and_that_before_an_assumption(
    cell, monkeypatch
):
    monkeypatch.setattr(rates, "_probed", lambda name, threads: rates.Rate(3e11, rates.PROBED))
    key = (cell.device, cell.precision, cell.threads, cell.allocator)
    monkeypatch.setattr("attnbench.machine.linux.text", lambda path: "a-boot")
    assert rates.rates_of([cell])[cell.id] == rates.Rate(3e11, rates.PROBED)
    assert rates.rates_of([cell], may_probe=())[cell.id].source == rates.ASSUMED
    machine_cache.write(Ceilings(key=key, macs_per_s=1e11, conv_macs_per_s=4e11), environment.torch_version())
    kept = rates.rates_of([cell])[cell.id]
    assert (kept.macs_per_s, kept.source) == (pytest.approx(2e11), rates.MEASURED)


def test_a_probe_gives_the_rate_and_the_threads_back(cell):
    import torch

    before = torch.get_num_threads()
    probed = rates.rates_of([replace(cell, threads=before + 1)])
    (rate,) = probed.values()
    assert rate.source in (rates.PROBED, rates.BUSY)
    assert rate.macs_per_s > 1e8
    assert torch.get_num_threads() == before


def test_a_probe_starts_no_more_threads_than_the_machine_has_cpus(cell, monkeypatch):
    from attnbench.machine.devices.cpu import Cpu

    asked = []
    monkeypatch.setattr(Cpu, "set_threads", lambda self, threads: asked.append(threads))
    rates.rates_of([replace(cell, threads=100_000)])
    rates.rates_of([replace(cell, threads=1)])
    assert asked == [len(linux.affinity()), 1]


@pytest.mark.parametrize(("other_cpu_s", "source"), [(0.0, rates.PROBED), (0.5, rates.BUSY)])
def test_a_probe_takes_the_best_of_its_looks_and_says_where_other_programs_ran_beside_it(
    cell, monkeypatch, other_cpu_s, source
):
    looks = iter([1e11, 3e11, 2e11])
    reading = SimpleNamespace(finish=lambda: {"wall_s": 1.0, "cpus": 2.0, "own_cpu_s": 1.0, "other_cpu_s": other_cpu_s})
    monkeypatch.setattr("attnbench.measure.ceilings.product_rate", lambda *given: next(looks))
    monkeypatch.setattr("attnbench.measure.ceilings.conv_rate", lambda *given: 3e11)
    monkeypatch.setattr(rates, "HostReading", lambda: reading)
    (rate,) = rates.rates_of([cell]).values()
    assert (rate.macs_per_s, rate.source) == (pytest.approx(3e11), source)


def test_the_words_name_each_device_once_with_its_figure_and_source():
    found = {
        "a": rates.Rate(1e11, rates.MEASURED),
        "b": rates.Rate(3e11, rates.PROBED),
        "c": rates.Rate(2e13, "assumed"),
    }
    assert rates.describe(found, {"a": "cpu", "b": "cpu", "c": "cuda"}) == (
        "100 to 300 GMACs/s on cpu, measured since this machine was started or from a short probe; "
        "20,000 GMACs/s on cuda, assumed"
    )
