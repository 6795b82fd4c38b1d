"""run.json <-> RunFacts, of this version and of older ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnbench import AttnbenchError, registry
from attnbench.machine.environment import Cpu, Environment
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.lines import encode
from attnbench.results.run_facts import RunFacts, read_facts

RUNS = sorted((Path(__file__).parents[2] / "reports" / "runs").glob("*/run.json"))


@pytest.fixture
def planned():
    return plan(Sweep(mechanism=("msa",)), registry.load(entry_points=False))


def test_facts_survive_their_file(planned):
    made = RunFacts(
        created="2026-11-21T10:00:00+00:00", command="attnbench run", attnbench="0.1.0",
        protocol={"looks": [8, 12]}, environment=Environment(machine_label="zen4-2c-3f9a", cpu=Cpu(turbo=True)),
    ).of_plan(planned, "abcd")  # fmt: skip
    read = read_facts(json.loads(json.dumps(encode(made))), "run.json")
    assert (read.run_id, read.planned, read.environment) == ("abcd", made.planned, made.environment)
    assert (read.looks, read.reference) == (2, "msa")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_every_committed_run_is_read(path):
    data = json.loads(path.read_text())
    facts = read_facts(data, str(path))
    assert facts.planned.hash == data["plan"]["hash"]
    assert [cell.as_dict() for cell in facts.planned.cells] == data["plan"]["cells"]
    assert facts.environment.fingerprint.torch == data["environment"]["fingerprint"]["torch"]


def test_a_run_that_stores_only_the_name_of_its_processor_is_of_an_unknown_machine(planned):
    old = {"schema": 1, "run_id": "x", "plan": {"hash": "h", "cells": []}, "environment": {
        "machine_label": "host 1a2b3c", "fingerprint": {"cpu_model": "AMD EPYC", "cpus": 2},
    }}  # fmt: skip
    assert read_facts(old, "run.json").machine == "unknown machine"


def test_a_file_without_environment_protocol_or_sweep_has_empty_ones():
    facts = read_facts({"schema": 1, "run_id": "x", "plan": {"hash": "h", "cells": []}, "protocol": None}, "run.json")
    assert facts.environment == Environment()
    assert (facts.looks, facts.reference) == (1, "none")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"plan": {"hash": "h", "cells": [{"scope": "layer"}]}}, r"plan\.cells\[0\] is damaged"),
        ({"plan": None}, "must have plan"),
        ({"run_id": ""}, "must have run_id"),
        ({"environment": {"cpu": "one"}}, r"environment\.cpu must be an object; got 'one'"),
    ],
)
def test_a_damaged_part_is_named(change, says):
    data = {"schema": 1, "run_id": "x", "plan": {"hash": "h", "cells": []}, **change}
    with pytest.raises(ValueError, match=says):
        read_facts(data, "run.json")


def test_a_newer_schema_is_refused_with_the_file():
    with pytest.raises(AttnbenchError, match=r"r/run\.json has 99; a newer attnbench"):
        read_facts({"schema": 99}, "r/run.json")
