"""Energy counters with invented contents, and joules per image from invented power."""

from __future__ import annotations

import arms
import pytest

from attnbench.machine import nvml
from attnbench.machine.devices import open_device
from attnbench.measure import energy


@pytest.fixture
def rapl(tmp_path):
    def write(name, title, now, limit=1000_000):
        folder = tmp_path / "sys/class/powercap" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, value in (("name", title), ("energy_uj", now), ("max_energy_range_uj", limit)):
            (folder / file).write_text(f"{value}\n")

    return tmp_path, write


def test_packages_and_their_memory_are_summed_and_nothing_twice(rapl):
    root, write = rapl
    domains = {
        "intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys",
    }  # fmt: skip
    for name, title in domains.items():
        write(name, title, 100)
    counter = energy.open_rapl(root)
    assert counter.source == "RAPL: package-0, dram"
    assert counter.read_j() == 0
    for name, title in domains.items():
        write(name, title, 500_100)
    assert counter.read_j() == 1.0


def test_a_counter_that_wraps_around_goes_on(rapl):
    root, write = rapl
    write("intel-rapl:0", "package-0", 900_000)
    counter = energy.open_rapl(root)
    write("intel-rapl:0", "package-0", 100_000)
    assert counter.read_j() == pytest.approx(0.2)
    write("intel-rapl:0", "package-0", 50_000)
    assert counter.read_j() == pytest.approx(1.15)


def test_no_domain_and_an_unreadable_one_are_named(rapl):
    root, write = rapl
    assert energy.open_rapl(root) == "/sys/class/powercap has no intel-rapl domain"
    write("intel-rapl:0", "package-0", "")
    assert "/sys/class/powercap/intel-rapl:0/energy_uj cannot be read" in energy.open_rapl(root)


class Gpu:
    def __init__(self, *joules):
        self.joules = list(joules)

    def energy_j(self):
        return self.joules.pop(0)


def test_nvml_counts_where_the_gpu_has_the_counter(monkeypatch):
    monkeypatch.setattr(nvml, "open_gpu", lambda uuid: Gpu(7.0, 9.0) if uuid == "a" else None)
    monkeypatch.setattr(nvml, "why_not", lambda: "nvidia-ml-py is not installed")
    assert energy.open_nvml("a").read_j() == 9.0
    assert energy.open_nvml("b") == "nvidia-ml-py is not installed"
    monkeypatch.setattr(nvml, "open_gpu", lambda uuid: Gpu(None))
    assert energy.open_nvml("a") == "this GPU has no counter of total energy in NVML"


def test_millijoules_of_the_driver_become_joules_and_a_refusal_none():
    class Library:
        def __init__(self, answer):
            self.answer = answer

        def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802  NVML's own name
            return uuid

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802  NVML's own name
            if self.answer is None:
                raise RuntimeError("Not Supported")
            return self.answer

    assert nvml.Gpu(Library(2500), "a").energy_j() == 2.5
    assert nvml.Gpu(Library(None), "a").energy_j() is None


class Invented:
    """A machine of 10 W at rest and 50 W at work, in a time that only sleeping and calling move."""

    source = "invented"

    def __init__(self):
        self.now = self.used = 0.0

    def read_j(self):
        return self.used

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.used += 10 * seconds

    def call(self):
        self.now += 0.25
        self.used += 50 * 0.25


def test_joules_per_image_with_and_without_the_idle_power():
    m = Invented()
    found = energy.per_image(m, m.call, lambda: None, 5, seconds=1.0, clock=m.clock, sleep=m.sleep)
    assert found == pytest.approx(
        {
            "energy_j_per_image": 40 * 0.25 / 5, "energy_gross_j_per_image": 50 * 0.25 / 5,
            "active_power_w": 50.0, "idle_power_w": 10.0,
        }
    )  # fmt: skip


def test_a_cell_without_a_counter_says_so(monkeypatch):
    monkeypatch.setattr(energy, "open_rapl", lambda: "/sys/class/powercap has no intel-rapl domain")
    layers = arms.known()
    values, words = energy.measure(open_device("cpu"), arms.arm(arms.cell("msa", layers), layers))
    assert values == {}
    assert words == {"energy_notes": "no energy counter is readable: /sys/class/powercap has no intel-rapl domain"}
