"""What a command prints on a terminal, and the files in tests/commands/golden that it is compared with.

golden/NAME.txt where all widths print the same, else golden/NAME-WIDTH.txt for each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.in_process import run_command

from attnbench.cli import COMMANDS, group
from attnbench.execution import rates
from attnbench.execution.rates import Rate

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "commands" / "golden"
WIDTHS = (80, 200)  # characters of a terminal
TERMINAL = {"FORCE_COLOR": "1", "TERM": "dumb", "LINES": "50"}  # a terminal that shows text alone


def printed(words: Sequence[str], width: int, folder: Path, monkeypatch: pytest.MonkeyPatch, *, code: int = 0) -> str:
    """What the command prints on a terminal of that width, without blanks at the ends of lines.

    Args:
        words: after `attnbench`.
        width: characters of a line.
        folder: where the command runs; made where it is not there, with a link to the stored reports.
        monkeypatch: of the test.
        code: with which the command must end.
    """
    if not folder.exists():
        folder.mkdir()
        (folder / "reports").symlink_to(ROOT / "reports")
    for name, value in {**TERMINAL, "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # the test of the notebook imports it
    speed = Rate(25e9, "from a short probe")  # instead of a probe of this machine
    monkeypatch.setattr(rates, "rates_of", lambda cells, **_: {cell.id: speed for cell in cells})
    for name in COMMANDS:  # click keeps a help option that another test made without its group
        monkeypatch.setattr(group.get_command(None, name), "_help_option", None, raising=False)
    ended = run_command(words, folder, one_stream=True)
    assert ended.code == code, ended.crash or ended.out
    return "".join(f"{line.rstrip()}\n" for line in ended.out.splitlines())


def assert_golden(name: str, texts: Mapping[int, str], config: pytest.Config) -> None:
    """Compare the texts, by width, with the files of that name; with --write-golden, write the files first."""
    same = len(set(texts.values())) == 1
    files = (
        {GOLDEN / f"{name}.txt": next(iter(texts.values()))}
        if same
        else {GOLDEN / f"{name}-{width}.txt": text for width, text in texts.items()}
    )
    if config.getoption("--write-golden"):
        for old in [GOLDEN / f"{name}.txt", *(GOLDEN / f"{name}-{width}.txt" for width in texts)]:
            old.unlink(missing_ok=True)
        for file, text in files.items():
            file.write_text(text)
    for file, text in files.items():
        assert file.exists(), f"no golden text {file.name}; --write-golden writes it"
        assert text == file.read_text()
