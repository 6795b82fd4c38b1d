"""Fingerprints and ceilings -> one machine or two, and names that tell them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnbench.analysis.machines import Machine, ceiling_differences, label_machines, same_machine
from attnbench.machine.fingerprint import Fingerprint
from attnbench.results.events import Ceilings

KEY = ("cpu", "fp32", 2, "pinned")
HERE = Fingerprint(kernel="6.1", cpu_model="AMD EPYC", family=25, model=17)


def machine(run: str, *, fingerprint: Fingerprint = HERE, timed: bool = True, **rates: float) -> Machine:
    known = fingerprint.known
    ceilings = (Ceilings(key=KEY, **rates),) if rates else ()
    name = "zen4-2c-3f9a" if known else "unknown machine"
    return Machine(run_id=run, folder=run, name=name, fingerprint=fingerprint, ceilings=ceilings, timed=timed)


def test_one_fingerprint_and_ceilings_within_a_tenth_are_one_machine():
    assert same_machine(machine("a", macs_per_s=100e9), machine("b", macs_per_s=90.1e9)) == []
    assert same_machine(machine("a", macs_per_s=100e9), machine("b")) == []


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ("macs_per_s", "matrix product 100 and 80 GMAC/s, 20 % apart"),
        ("bytes_per_s", "copy 100 and 80 GB/s, 20 % apart"),
    ],
)
def test_any_ceiling_further_apart_is_another_machine_with_both_values(rate, says):
    assert same_machine(machine("a", **{rate: 100e9}), machine("b", **{rate: 80e9})) == [says]


def test_ceilings_under_other_conditions_are_not_compared():
    one, other = Ceilings(key=KEY, macs_per_s=1e9), Ceilings(key=("cpu", "bf16", 2, "pinned"), macs_per_s=9e9)
    assert ceiling_differences([one], [other]) == []
    assert ceiling_differences([one], [Ceilings(key=KEY, bytes_per_s=9e9)]) == []


def test_the_best_of_several_measurements_counts():
    slow, fast = Ceilings(key=KEY, macs_per_s=50e9), Ceilings(key=KEY, macs_per_s=100e9)
    assert ceiling_differences([slow, fast], [fast]) == []


def test_another_fingerprint_is_another_machine():
    assert same_machine(machine("a"), machine("b", fingerprint=replace(HERE, model=1))) == ["model: 17 against 1"]


def test_an_unknown_machine_is_the_same_as_itself_alone():
    old = replace(HERE, kernel="")
    assert same_machine(machine("a", fingerprint=old), machine("a", fingerprint=old)) == []
    assert same_machine(machine("a", fingerprint=old), machine("b", fingerprint=old)) == [
        "only the name of the processor of a and b is stored"
    ]
    assert same_machine(machine("a"), machine("b", fingerprint=old))[0].endswith("processor of b is stored")


def test_runs_of_one_machine_share_its_name():
    assert label_machines([machine("a"), machine("b")]) == ({"a": "zen4-2c-3f9a", "b": "zen4-2c-3f9a"}, [])


def test_one_name_with_ceilings_apart_is_two_machines_with_a_sentence():
    labels, notes = label_machines([machine(n, macs_per_s=r) for n, r in (("a", 100e9), ("b", 80e9), ("c", 99e9))])
    assert labels == {"a": "zen4-2c-3f9a", "b": "zen4-2c-3f9a-2", "c": "zen4-2c-3f9a"}
    (note,) = notes
    assert "a and b name one machine" in note
    assert "matrix product 100 and 80 GMAC/s, 20 % apart" in note


def test_a_run_joins_a_machine_only_if_it_is_the_same_as_that_of_every_run_there():
    labels, _ = label_machines([machine(n, macs_per_s=r) for n, r in (("a", 100e9), ("b", 91e9), ("c", 84e9))])
    assert labels["a"] == labels["b"] != labels["c"]


def test_every_timed_run_of_an_unknown_machine_has_a_number_of_its_own():
    old = replace(HERE, kernel="")
    labels, notes = label_machines([machine(n, fingerprint=old) for n in "ab"])
    assert labels == {"a": "unknown machine 1", "b": "unknown machine 2"}
    assert len(notes) == 1
    assert notes[0].startswith("a, b: only the processor's name is stored")


def test_runs_that_only_counted_are_never_separated():
    counts = machine("a", fingerprint=replace(HERE, torch="2.14"), timed=False)
    labels, notes = label_machines([counts, machine("b")])
    assert set(labels.values()) == {"zen4-2c-3f9a"}
    assert notes == []
