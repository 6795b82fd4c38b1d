"""A second report in a folder: what the first alone wrote goes, and no file of the user's does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import synthetic as made
from click.testing import CliRunner

from attnbench.commands.report import command
from attnbench.errors import AttnbenchError
from attnbench.report import leftovers


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder in which an earlier report wrote its page and two tables."""
    folder = tmp_path / "out"
    for name in leftovers.FOLDERS:
        (folder / name).mkdir(parents=True)
    files = [folder / name for name in ("index.html", "tables/old.csv", "tables/changed.csv")]
    for file in files:
        file.write_text(f"what a report wrote into {file.name}")
    assert leftovers.clear(folder, files, leftovers.read_list(folder)) == []
    return folder


def test_only_an_unchanged_file_of_an_earlier_report_is_removed(out: Path) -> None:
    (out / "tables" / "changed.csv").write_text("what the user wrote")
    (out / "figures" / "mine.png").write_text("the user's too")
    said = leftovers.clear(out, [out / "index.html"], leftovers.read_list(out))
    assert said == [
        f"removed from {out} what an earlier report wrote: 1 file (tables/old.csv)",
        f"not of this report, and left in {out}: 2 files (figures/mine.png, tables/changed.csv)",
    ]
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [
        "changed.csv", "index.html", "mine.png", leftovers.LIST,
    ]  # fmt: skip
    assert set(leftovers.read_list(out)) == {"index.html"}


@pytest.mark.parametrize(
    "name", ["../mine.txt", "/mine.txt", "figures/../../mine.txt", "figures/sub/mine.txt", "..", ""]
)
def test_a_list_that_somebody_made_up_removes_nothing_elsewhere(out: Path, name: str) -> None:
    mine = [out.parent / "mine.txt", out / "figures" / "sub" / "mine.txt"]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    (out / leftovers.LIST).write_text(f"{leftovers._digest(mine[0])}  {name}\n\x00\xff torn")
    assert leftovers.read_list(out) == {}
    leftovers.clear(out, [out / "index.html"], leftovers.read_list(out))
    assert all(file.exists() for file in mine)


def test_a_link_in_the_place_of_a_file_stays(out: Path) -> None:
    moved = shutil.move(out / "tables" / "old.csv", out.parent / "kept.csv")
    (out / "tables" / "old.csv").symlink_to(moved)
    leftovers.clear(out, [out / "index.html"], leftovers.read_list(out))
    assert (out / "tables" / "old.csv").is_symlink()


def test_a_list_that_is_no_plain_file_ends_in_a_sentence(out: Path) -> None:
    (out / leftovers.LIST).unlink()
    (out / leftovers.LIST).mkdir()
    with pytest.raises(AttnbenchError, match=r"report\.sha256 must be a plain file"):
        leftovers.read_list(out)


def test_the_command_removes_the_figures_of_another_run_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))
    one, none = made.run(tmp_path / "one", [made.measured(made.cell("msa"))]), made.run(tmp_path / "none", [])
    out = tmp_path / "out"
    for runs in (one, none):
        done = CliRunner().invoke(command, [str(runs), "--out", str(out)], catch_exceptions=False)
        assert done.exit_code == 0
    assert "what an earlier report wrote: " in done.stderr
    assert "not of this report" not in done.stderr
    wrote = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert wrote == {*leftovers.read_list(out), leftovers.LIST}
    assert not (out / "tables" / "measured-layer.csv").exists()
