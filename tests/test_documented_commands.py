"""The commands of README.md and of docs/guides/ run; those of the guides print what the pages show.

Commands on stored runs run as they stand. INSTEAD says what is run for the others, and why.
"""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import pytest
from support.in_process import run_command
from torchvision_stand_in import library

import attnbench

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
STORED = "reports/runs/intel6m167-batch1-standard"
MODELS = "reports/runs/zen5-paper-models-batch1-quick"
SMALL = "reports/runs/zen5-runtimes-batch1-quick"
COUNTS = "reports/runs/counts-384"
NEW = "attnbench new my_attention"
LEFT_OUT = "…"  # a line that stands for lines of the output that the page leaves out
TINY = "--res 32 --batch 1 --dim 24 --heads 3 --protocol quick --rounds 2 --processes 2 --threads 1"
SWEEP = 'mechanism = ["msa", "hilo"]\nres = [224]\n'
INSTEAD = (  # a pattern of the page's command, and what replaces it
    (r"^(attnbench run --plugin my_attention\.py .*) --res 224,512$", rf"\1 {TINY}"),  # measured, on a tiny layer
    (r"^attnbench run (.*?) --out mine$", r"attnbench plan \1"),  # the same request, planned
    (r"^(attnbench run (?!.*--rounds 2).*)", r"\1 --dry-run"),  # measures for minutes
    (
        r"^attnbench (selftest|ab|protocols)\b.*",
        r"attnbench \1 --help",
    ),  # they measure; test_docs.py knows their options
    (r"^(attnbench check .*:MyAttention)$", r"\1 --no-compile"),  # compiles for a minute
    (r"--device cuda\b", "--device cpu"),  # where there is no GPU
    (r"\bexport RUN\b", f"export {SMALL}"),
    (r"\bmine --scope backbone --res 640", f"{MODELS} --scope backbone --res 640"),
    (r"(?<= )mine\b(?!\.py)", STORED),
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


def indented(page: Path) -> list[str]:
    """Each command of a page's indented blocks, and those that a comment behind one names after `; `."""
    found = []
    for line in re.findall(r"^ {4}(attnbench .*|make .*)$", page.read_text(), flags=re.MULTILINE):
        command, _, comment = line.partition(" # ")
        found += [command.strip(), *re.findall(r"; (attnbench .*)", comment)]
    return found


def words(line: str) -> str:
    """A line without what depends on the width of a table."""
    return " ".join(line.split())


def replaced(command: str) -> str:
    """The command that is run for a page's command."""
    for pattern, replacement in INSTEAD:
        command = re.sub(pattern, replacement, command)
    return command


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
    ended = run_command(shlex.split(replaced(command))[1:], tmp_path)
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


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with what README's commands name: stored runs, sweep files, somebody's layers; `reports` is its own."""
    for run, copy in ((SMALL, SMALL), (COUNTS, "their/run"), (COUNTS, "all/run")):
        shutil.copytree(ROOT / run, tmp_path / copy)
    assert run_command(["merge", "their/run", "--out", "sweep"], tmp_path).code == 0
    (tmp_path / "runs").symlink_to("reports/runs")
    for name in ("lab.toml", "my_sweep.toml"):
        (tmp_path / name).write_text(SWEEP)
    assert run_command(["new", "theirs"], tmp_path).code == 0
    return tmp_path


@pytest.mark.parametrize("command", [line for line in indented(README) if line.startswith("attnbench ")])
def test_a_command_of_the_readme_runs(command: str, workplace: Path) -> None:
    if "my_attention" in command and command != NEW:
        assert run_command(shlex.split(NEW)[1:], workplace).code == 0
    if found := re.search(r"--wrap ([\w.]+):", command):
        library(found[1])  # imported, or the test is skipped
    given = shlex.split(replaced(command))[1:]
    expanded = [path for word in given for path in expand(word, workplace)]
    ended = run_command(expanded, workplace)
    assert ended.code == 0, ended.crash or ended.err


def expand(word: str, folder: Path) -> list[str]:
    """What a shell makes of a word: the paths of a pattern with `*`."""
    return sorted(glob.glob(word, root_dir=folder)) if "*" in word else [word]


def test_the_readme_shows_commands_and_targets_that_make_has() -> None:
    commands = indented(README)
    assert len([line for line in commands if line.startswith("attnbench ")]) >= 20
    targets = {line.split()[1] for line in commands if line.startswith("make ")}
    assert targets == {"bench", "test"}
    assert all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    asked: list[attnbench.Sweep] = []

    def stored(sweep: attnbench.Sweep) -> Path:  # instead of minutes of measuring
        asked.append(sweep)
        return ROOT / SMALL

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attnbench, "run", stored)
    names: dict[str, object] = {}
    exec(code, names)
    assert asked[0].mechanism == ("msa", "hilo")
    assert asked[0].res == ((224, 224),)
    assert {"msa", "hilo"} <= set(names["table"]["variant"])  # type: ignore[index]
