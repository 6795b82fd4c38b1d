"""What each command prints at 80 and at 200 columns is the text in golden/, read by a person before it was committed.

golden/NAME.txt where both widths print the same, else golden/NAME-80.txt and golden/NAME-200.txt. After a change that
is meant, `pytest tests/commands/test_golden_text.py --write-golden` writes them anew: read the difference.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.golden_text import GOLDEN, WIDTHS, assert_golden, printed
from test_golden_measured import MEASURED

from attnbench.cli import COMMANDS

SPEED = "reports/runs/zen5-224-batch8-quick"
MODELS = "reports/runs/cpu-table4-batch8-quick"
COUNTS = "reports/runs/counts-384"
TEXTS = {  # a name under golden/, and the command; each answers from committed runs or from the code alone
    "plan": "plan -m msa,hilo,window --res 224,512 --batch 1 --threads 2",
    "plan-declines": "plan -m msa,hilo,linear_attention,xca --kernel eager,sdpa --res 224 --batch 1 --threads 2",
    "plan-all": "plan -m msa,hilo,cascaded_group --res 224 --batch 1 --threads 2 --all",
    "show-run": f"show {MODELS}",
    "show-run-of-layers": f"show {SPEED}",
    "show-run-of-counts": f"show {COUNTS}",
    "show-mechanism": "show hilo",
    "compare-arms": f"compare {SPEED} --arms msa,hilo,hornet,window",
    "compare-runs": f"compare reports/runs/intel6m167-224-batch8-quick {SPEED} --allow-cross-machine",
    "claims": f"claims {MODELS}",
    "recommend": f"recommend {SPEED} --res 224",
    "recommend-nearest": f"recommend {SPEED} --res 640 --batch 1",
    "survive": "survive reports/runs/zen5-runtimes-batch1-quick",
    "survive-timm": "survive --timm",
    "list-mechanisms": "list mechanisms",
    "list-backbones": "list backbones",
    "list-tasks": "list tasks",
    "list-protocols": "list protocols",
    "list-suites": "list suites",
    "list-quantities": "list quantities",
    "export": f"export {COUNTS}",
    "merge": f"merge {COUNTS} {COUNTS} --out all",
    "new": "new my_attention",
    "report": f"report {COUNTS} --out out",
    "report-for-a-paper": f"report {SPEED} --only hilo,msa --figure bars --out out",
    "atlas": f"atlas {COUNTS} --out out",
    "help": "--help",
    **{f"help-{name}": f"{name} --help" for name in COMMANDS},
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_command_prints_the_golden_text(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    texts = {width: printed(shlex.split(TEXTS[name]), width, tmp_path / str(width), monkeypatch) for width in WIDTHS}
    assert_golden(name, texts, request.config)


def test_every_command_has_a_golden_text_beside_that_of_its_help() -> None:
    texts = {**TEXTS, **{name: command for name, (command, _) in MEASURED.items()}}
    assert {words.split()[0] for name, words in texts.items() if not name.startswith("help")} == set(COMMANDS)


def test_every_golden_text_belongs_to_a_command() -> None:
    names = {*TEXTS, *MEASURED}
    names |= {f"{name}-{width}" for name in names for width in WIDTHS}
    assert {file.stem for file in GOLDEN.iterdir()} <= names
