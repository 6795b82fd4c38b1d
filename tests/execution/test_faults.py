"""The fault campaign in a short form: one fault of each family, and the same command finishes each run.

`make faults` injects every kind.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"
SHORT = ["SIGKILL of the group", "disk refuses: ENOSPC", "journal: doubled", "two runners in one folder"]


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_journal_loses_and_doubles_nothing_whatever_the_disk_refuses_and_wherever_it_is_torn(faults, tmp_path):
    campaign = faults.Campaign(seed=0)
    faults.every_byte(campaign, tmp_path)
    (tally,) = campaign.tallies.values()
    assert tally.injected > 4000
    assert campaign.details == []


@pytest.mark.slow
def test_faults_in_real_runs_lose_double_and_change_nothing_and_the_same_command_finishes(faults):
    campaign = faults.run_campaign(0, len(SHORT), SHORT)
    assert campaign.injected >= 1
    assert campaign.details == []


def test_a_record_that_is_lost_or_stands_twice_is_counted(faults, tmp_path):
    campaign = faults.Campaign(seed=0)
    run = faults.Run(campaign, tmp_path / "run", ["-m", "msa"])
    run.folder.mkdir()
    records = run.folder / "records.jsonl"
    first, second = (f'{{"cell_id":"{number:012}"}}\n' for number in (1, 2))
    records.write_text(first + second)
    run.accept()
    records.write_text(first + first)
    run.compare()
    assert {what for d in campaign.details for what in ("lost", "doubled") if f": {what}:" in d} == {"lost", "doubled"}
