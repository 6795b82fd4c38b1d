"""What commands print at 80 and at 200 columns: nothing that matters is cut, and a row is a line."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from attnbench.cli import group
from attnbench.commands.completions import BY_OPTION
from attnbench.commands.run import _next_steps
from attnbench.execution.progress import Bar
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import get
from attnbench.planning.remaining import Remaining
from attnbench.planning.sweep import Plan, Sweep
from attnbench.registry.defaults import declared_names
from attnbench.results.store import open_run

RUN = Path(__file__).parents[2] / "reports" / "runs" / "intel6m167-224-batch8-quick"
ARMS = ("hilo", "sra", "window", "hornet", "van")


def printed(monkeypatch: pytest.MonkeyPatch, width: int, *words: str) -> list[str]:
    from attnbench.report import terminal

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(terminal, "FULL_WIDTH", width)
    done = CliRunner().invoke(group, words, catch_exceptions=False)
    assert done.exit_code == 0
    return [line.rstrip() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("width", [80, 200])
def test_mechanisms_are_listed_a_line_each_with_what_decides_a_choice(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(monkeypatch, width, "list", "mechanisms")
    assert lines[0].split() == ["name", "kind", "reach", "memory", "kernels", "needs"]
    names = declared_names(layers=True)
    assert [line.split()[0] for line in lines[1 : len(names) + 1]] == names
    assert max(map(len, lines)) <= width
    hilo = next(line for line in lines if line.startswith("hilo "))
    assert re.fullmatch(r"hilo +attention +global +quadratic +eager sdpa flex +rule", hilo)


@pytest.mark.parametrize("width", [80, 200])
def test_a_comparison_is_a_line_each_with_the_shared_conditions_above(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(monkeypatch, width, "compare", str(RUN), "--arms", ",".join(("msa", *ARMS)))
    rows = [line for line in lines if line.split()[:1] and line.split()[0] in ARMS]
    assert len(rows) == len(ARMS)
    assert all(
        re.fullmatch(r"\w+ +[\d.]+ \[[\d.]+, [\d.]+\] +\S+ +(faster|slower|equivalent|undecided)", r) for r in rows
    )
    assert sum("against msa" in line for line in lines) == 1


@pytest.mark.parametrize("width", [80, 200])
def test_a_run_is_shown_with_speed_interval_memory_and_every_note(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = printed(monkeypatch, width, "show", str(RUN))
    hilo = next(line for line in lines if line.startswith("hilo "))
    assert re.match(r"hilo +[\d.]+ \[[\d.]+, [\d.]+\] +[\d.]+ MiB +[\d.]+", hilo)
    assert (
        max(len(line) for line in lines if line.split()[:1] and line.split()[0] in declared_names(layers=True)) <= width
    )
    assert "lower_bound" in "\n".join(lines)


def test_claims_stand_in_columns_under_their_machine() -> None:
    done = CliRunner().invoke(group, ["claims", str(RUN)], catch_exceptions=False)
    rows = re.findall(r"^(?:reproduced|contradicted|undecided|not applicable) +(?=\S)", done.stdout, flags=re.M)
    assert len(rows) > 10
    assert len({len(row) for row in rows}) <= 2, "the verdicts of a machine have one width"
    assert any(re.match(r"On .*:$", line) for line in done.stdout.splitlines())


def test_a_run_ends_with_the_commands_that_come_next() -> None:
    lines = _next_steps(open_run(RUN), Path("my runs"))
    assert lines[0] == "next:"
    assert lines[1].split("#")[0].strip() == "attnbench report 'my runs' --out 'my runs-report'"
    assert lines[2].split("#")[0].strip() == "attnbench recommend 'my runs' --res 224 --batch 8 --device cpu"


@pytest.mark.parametrize(
    ("option", "typed", "wanted"),
    [
        ("mechanism", "msa,hil", ["msa,hilo", "msa,hilo_pooled"]), ("backbone", "litv2_s", ["litv2_s"]),
        ("suite", "alp", ["alpha"]), ("protocol", "q", ["quick"]), ("device", "cp", ["cpu"]),
        ("runtime", "eager,open", ["eager,openvino"]),
    ],
)  # fmt: skip
def test_the_shell_completes_the_last_item_of_a_list(option: str, typed: str, wanted: list[str]) -> None:
    found = BY_OPTION[option](None, None, typed)  # type: ignore[arg-type]  # the names do not depend on them
    assert [item.value for item in found] == wanted


def test_a_cell_counts_as_done_when_it_has_its_rounds() -> None:
    cells = [
        Cell(
            scope="layer", variant=name, settings=(), res_h=224, res_w=224, batch=1, dim=768, heads=12, stride=16,
            device="cpu", precision="fp32", pass_="forward", kernel="eager", threads=1, allocator="pinned",
        )
        for name in ("msa", "hilo", "sra")
    ]  # fmt: skip
    protocol = get("quick", ())
    bar = Bar(Remaining({c.id: 0.01 for c in cells}, protocol, cells), Console(file=io.StringIO()))
    bar.begin(Plan(Sweep(), tuple(cells), {}), ())
    for number in range(1, protocol.looks[0] + 1):
        assert " 0/3 cells" in bar._line().plain
        bar.round(cells[:2], number, 0.01)
    assert " 2/3 cells" in bar._line().plain
