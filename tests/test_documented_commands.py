"""The commands of docs/guides/ run, and print what the pages show.

Commands on committed runs run as they stand. INSTEAD says what is run for the others: nothing here measures.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.in_process import run_command

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
STORED = "reports/runs/intel6m167-batch1-standard"
MODELS = "reports/runs/cpu-models-batch1-standard"
NEW = "attnbench new my_attention"
LEFT_OUT = "…"  # a line that stands for lines of the output that the page leaves out
INSTEAD = (  # a pattern of the page's command, and what replaces it
    (r"^attnbench run (.*?) --out mine$", r"attnbench plan \1"),  # the same request, planned
    (r"^attnbench (selftest|ab)\b.*", r"attnbench \1 --help"),  # they measure; test_docs.py knows their options
    (r"\bmine --scope backbone --res 640", f"{MODELS} --scope backbone --res 640"),
    (r"\bmine\b(?!\.py)", STORED),
    (r"(--only |--arms msa,)my_attention,", r"\1window,"),  # the stored run has no my_attention
)


def shown(page: Path) -> list[tuple[str, list[str]]]:
    """Each command of a page's console blocks with the lines of output below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def words(line: str) -> str:
    """A line without what depends on the width of a table."""
    return " ".join(line.split())


@pytest.mark.parametrize(
    ("command", "output"),
    [pytest.param(*entry, id=f"{page.stem}: {entry[0]}") for page in PAGES for entry in shown(page)],
)
def test_a_command_of_a_guide_runs_and_prints_what_the_page_shows(
    command: str, output: list[str], tmp_path: Path
) -> None:
    (tmp_path / "reports").symlink_to(ROOT / "reports")
    if "my_attention" in command and command != NEW:
        assert run_command(shlex.split(NEW)[1:], tmp_path).code == 0
    for pattern, replacement in INSTEAD:
        command = re.sub(pattern, replacement, command)
    ended = run_command(shlex.split(command)[1:], tmp_path)
    assert ended.code == 0, ended.crash or ended.err
    printed = [words(line) for line in ended.out.splitlines()]
    place = 0
    for line in map(words, output):
        if line == LEFT_OUT:
            continue
        assert line in printed[place:], f"not printed: {line}"
        place = printed.index(line, place) + 1


def test_every_guide_shows_commands() -> None:
    assert len(PAGES) == 3
    assert all(len(shown(page)) >= 5 for page in PAGES)
