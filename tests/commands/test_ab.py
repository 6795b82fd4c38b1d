"""`attnbench ab`: two states of a repository are compared, it stays as it is, and refusals are sentences."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.git_repository import commit_all, create, git

from attnbench.analysis.compare import Comparison, Row
from attnbench.commands import ab
from attnbench.errors import AttnbenchError
from attnbench.execution import revision
from attnbench.report.ab import OutputComparison, as_markdown

LAYER = """
from attnbench import mechanism
from ours.parts import scaled
from torch import nn

@mechanism(name="mine", defaults={"k": 1})
class Mine(nn.Module):
    def __init__(self, dim, *, k):
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x):
        return scaled(self.line(x))
"""
SMALL = ("--res", "64", "--batch", "1", "--dim", "8", "--heads", "1")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Three commits: a broken file, a sound one, one whose default setting differs; then a change in the tree."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "ours").mkdir()
    create(folder)
    for name, layer, parts in (
        ("broken", "import nowhere_at_all\n", ""),
        ("sound", LAYER, "def scaled(y):\n    return y * 1.0\n"),
        ("other", LAYER.replace('"k": 1', '"k": 2'), "def scaled(y):\n    return y * 1.0\n"),
        ("more", LAYER.replace('"k": 1', '"k": 1, "m": 3').replace("*, k", "*, k, m"), "def scaled(y): return y\n"),
    ):
        (folder / "ours" / "layer.py").write_text(layer)
        (folder / "ours" / "parts.py").write_text(parts)
        commit_all(folder, name)
        git(folder, "tag", name)
    (folder / "ours" / "layer.py").write_text(LAYER)
    (folder / "ours" / "parts.py").write_text("from .extra import FACTOR\ndef scaled(y):\n    return y * FACTOR\n")
    (folder / "ours" / "extra.py").write_text("FACTOR = 1.5  # not tracked\n")
    return folder


def state(folder):
    """All that a comparison must leave alone."""
    files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return files, git(folder, "status", "--porcelain"), git(folder, "worktree", "list"), git(folder, "stash", "list")


def test_the_working_tree_is_compared_with_a_revision_and_nothing_in_it_changes(repository, tmp_path):
    before = state(repository)
    words = ["ab", "--base", "sound", "--plugin", str(repository / "ours" / "layer.py"), "-m", "mine", *SMALL]
    more = ["--protocol", "quick", "--budget", "1", "--fail-on", "different", "--markdown", "pr.md", "--out", "run"]
    ran = subprocess.run(
        [sys.executable, "-m", "attnbench", *words, *more, "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert "--fail-on different: head:mine" in ran.stderr
    found = json.loads(ran.stdout)
    ((row,), (output,)) = found["rows"], found["outputs"]
    assert (row["variant"], row["against"]) == ("head:mine", "base:mine")
    assert 0 < row["low"] <= row["estimate"] <= row["high"]
    assert output["difference"] == pytest.approx(0.5)
    assert (output["agrees"], found["head"]) == (False, "the working tree")
    assert found["base"].startswith("sound (")
    assert "| head:mine | 64x64 batch 1" in (tmp_path / "pr.md").read_text()
    exported = subprocess.run(
        [sys.executable, "-m", "attnbench", "export", "run"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert {"base:mine", "head:mine"} <= {line.split(",")[2] for line in exported.splitlines()}
    assert state(repository) == before


def refused(repository, *words, plugin="ours/layer.py"):
    """What the command says, and that it measured nothing."""
    with pytest.raises(AttnbenchError) as error:
        ab.command.main(["--plugin", str(repository / plugin), *SMALL, *words], standalone_mode=False)
    assert error.value.exit_code == 2
    assert not (repository / "runs").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--base", "nowhere"], "got 'nowhere', which"),
        (["--base", "--output=x"], "a revision is what git calls a commit"),
        (["--base", "\x1b[31m"], "a revision is what git calls a commit"),
        (["--base", "sound", "--head", "main~9"], "got 'main~9'"),
        (["--base", "broken"], "both states must import; broken ("),
        (["--base", "broken"], "No module named 'nowhere_at_all' at"),
        (["--base", "other"], "got for k of mine: 2 in base and 1 in head; give it: -m 'mine[k=...]'"),
        (["--base", "more", "--head", "sound"], "got for m of mine: 3 in base and no such setting in head"),
        (["--base", "other", "-m", "mine,mine[k=2]"], "got mine[k=2] of one alone"),
        (["--base", "sound", "-m", "yours"], "got 'base:yours'; nearest: base:mine"),
        (["--base", "sound", "--reference", "msa2"], "base is the reference of ab"),
        (["--base", "sound", "--fail-on", "slow"], "--fail-on must be slower"),
        (["--base", "sound", "--fail-on", "slower:x"], "must lie between 0 and 1"),
        (["--base", "sound", "--plugin", "two.py"], "ab compares two states of one file"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(repository, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(repository, *(words if "-m" in words else [*words, "-m", "mine"]))


def test_a_name_a_file_of_the_state_and_a_repository_are_needed(repository, tmp_path):
    assert "ab needs the name of what it compares" in refused(repository, "--base", "sound")
    said = refused(repository, "--base", "sound", "-m", "mine", plugin="ours/gone.py")
    assert "sound (" in said
    assert "has no file 'ours/gone.py'" in said
    (tmp_path / "alone.py").write_text(LAYER)
    assert "ab reads a git repository" in refused(tmp_path, "--base", "HEAD", "-m", "mine", plugin="alone.py")


def test_states_are_kept_by_content_and_the_oldest_go(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(revision, "MOST_STATES", 2)
    tree = revision.working_tree(repository)
    assert revision.working_tree(repository) == tree
    assert (tree.folder / "ours" / "extra.py").is_file()
    assert not (revision.revision(repository, "sound").folder / "ours" / "extra.py").exists()
    revision.revision(repository, "other")
    assert len(list((tmp_path / "states").iterdir())) == 2


def judged(low, high, verdict):
    row = Row(variant="head:m", against="base:m", conditions="c", cell="x", estimate=(low * high) ** 0.5,
              low=low, high=high, verdict=verdict)  # fmt: skip
    return Comparison("t", "rounds", 0.95, 0.03, (row,))


@pytest.mark.parametrize(
    ("low", "high", "verdict", "limit", "fails"),
    [
        (0.80, 0.94, "slower", ("slower", 0.05), True),
        (0.80, 0.96, "slower", ("slower", 0.05), False),  # slower, and perhaps by less
        (0.80, 0.96, "slower", ("slower", None), True),
        (0.80, 1.10, "undecided", ("slower", 0.05), False),
        (0.80, 1.10, "undecided", ("undecided", None), True),
        (1.10, 1.20, "faster", ("slower", 0.05), False),
    ],
)
def test_fail_on_slower_needs_the_whole_interval_beyond_the_share(low, high, verdict, limit, fails):
    assert bool(ab.failures(judged(low, high, verdict), [], [limit])) == fails


def test_markdown_is_inert_and_says_what_the_outputs_did():
    apart = OutputComparison("head:m", "fp32", "eager", 0.2, 1e-4)
    unlike = OutputComparison("head:m", "fp16", "eager", None, 0.0, "the versions have different weights: a")
    text = as_markdown(judged(0.8, 0.9, "slower"), [apart, unlike], ("main`|", "<b>tree"), "cpu")
    assert "| head:m | c | 0.849 | 0.800 to 0.900 | **slower** |" in text
    assert "beyond the tolerance 0.0001 of fp32" in text
    assert "outputs not compared: the versions have different weights: a" in text
    assert "### attnbench: &lt;b&gt;tree against main\\`\\|" in text
    assert (apart.agrees, unlike.agrees) == (False, False)
