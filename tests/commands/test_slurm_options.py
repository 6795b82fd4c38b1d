"""The options of --executor slurm, on the command line and in a sweep file: the file of docs/cluster.md is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from attnbench import AttnbenchError
from attnbench.commands.options import read_sweep
from attnbench.commands.slurm_options import read_request
from attnbench.execution.slurm_queue import Request
from attnbench.planning.cut import cut

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.fixture
def lab(tmp_path: Path) -> str:
    """The sweep file that the page shows."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "lab.toml").write_text(text)
    return str(tmp_path / "lab.toml")


def test_the_sweep_file_of_the_page_is_a_sweep_in_parts_for_three_kinds_of_nodes(lab):
    request = read_request({"sweep_file": lab})
    assert request == Request(
        constraint=("h100", "a100", "l40s"), partition="gpu", gres="gpu:1", account="vision", time=120
    )
    sweep = read_sweep({"sweep_file": lab})
    assert sweep.device == ("cuda",)
    assert len(cut(sweep)) == 3 * 2 * 2


def test_an_option_overrides_the_file_and_executor_local_measures_here(lab):
    request = read_request({"sweep_file": lab, "slurm_constraint": "h200", "slurm_poll": "0.5"})
    assert request is not None
    assert (request.constraint, request.poll_s, request.account) == (("h200",), 0.5, "vision")
    assert read_request({"sweep_file": lab, "executor": "local"}) is None
    assert read_request({}) is None


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "options without the executor": ({"slurm_account": "x"}, "", "--slurm-account needs --executor slurm"),
    "a limit that Slurm warns of at once": ({"executor": "slurm", "slurm_time": "2"}, "", "slurm-time must be .* 3"),
    "a space": ({"executor": "slurm", "slurm_partition": "a b"}, "", "slurm-partition must be text without spaces"),
    "an unknown key": ({}, 'executor = "slurm"\nslurm.nodes = 2', "may have partition, .*; got nodes"),
    "no table": ({}, 'slurm = "main"', r"slurm must be a table, \[slurm\]"),
    "an unknown executor": ({}, 'executor = "ray"', "executor must be one of local, slurm"),
}


@pytest.mark.parametrize(("given", "file", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_request_is_refused_with_its_rule(given, file, message, tmp_path):
    (tmp_path / "sweep.toml").write_text(file)
    with pytest.raises(AttnbenchError, match=message):
        read_request({**given, "sweep_file": str(tmp_path / "sweep.toml")})
