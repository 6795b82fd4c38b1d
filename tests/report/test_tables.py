from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made
from latex_compiler import assert_compiles

from attnbench.report import measured, write
from attnbench.report.evidence import Estimate, Point
from attnbench.report.latex_table import latex
from attnbench.report.tables import Column, Table, comma_separated, data_number, markdown

HOSTILE = r"<b>x</b>|`$a_b^c%&#{}~\end{tabular}"


def small(*rows: tuple[str | Estimate | None, ...], group: str = "") -> Table:
    columns = (Column("name", "name"), Column("speed", "speed", "img/s", group=group))
    return Table("small", "Small", "Of two & more.", columns, rows, notes=("A 5 % note.",))


def test_markdown_holds_no_markup_from_a_name() -> None:
    text = markdown(small((HOSTILE, Estimate(2.0, 1.0, 3.0))))
    assert "<b>" not in text
    row = next(line for line in text.splitlines() if "&lt;b&gt;" in line)
    assert row.replace("\\|", "").count("|") == 3
    assert "2.000 [1.000, 3.000]" in row


def test_csv_reads_back_and_an_interval_fills_three_columns() -> None:
    rows = list(
        csv.DictReader(io.StringIO(comma_separated(small((HOSTILE, Estimate(2.5, 1.0, 3.0)), ("plain", None)))))
    )
    assert rows[0]["name"] == HOSTILE
    assert (rows[0]["speed"], rows[0]["speed_low"], rows[0]["speed_high"]) == ("2.5", "1", "3")
    assert rows[1]["speed"] == ""


@pytest.mark.parametrize("name", ["=1+1", "@sum", "-2+3", "+x"])
def test_csv_gives_a_spreadsheet_no_formula(name: str) -> None:
    assert f"'{name}" in comma_separated(small((name, None)))


def test_latex_escapes_and_groups() -> None:
    text = latex(small((HOSTILE, Estimate(1.0)), group="A&B")).replace(r"\allowbreak{}", "")
    assert r"\end{tabular}|" not in text
    assert r"\textbackslash{}end\{tabular\}" in text
    assert r"\multicolumn{1}{c}{A\&B}" in text
    assert r"\toprule" in text


def test_a_table_without_rows_says_so() -> None:
    assert "No rows." in markdown(small())
    assert "No rows." in latex(small())


def test_every_table_of_a_report_fits_a_two_column_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))
    hostile = made.measured(made.cell(HOSTILE))
    folder = made.run(tmp_path / "run", [made.measured(made.cell("msa")), hostile, made.failed(made.cell("dat"))])
    write([folder, made.layers(tmp_path / "large", sizes=(224, 384, 512, 1024))], tmp_path / "out")
    tables = [path.read_text() for path in sorted((tmp_path / "out" / "tables").glob("*.tex"))]
    assert len(tables) > 10
    body = "\\clearpage\n".join([*tables, latex(widest())])
    assert r"\tiny" not in body
    assert r"\resizebox" not in body
    assert_compiles(body, tmp_path)


def widest() -> Table:
    """Fifteen columns with long headings, intervals of very different sizes, and more rows than a page holds."""
    heading = "zen5-2c-63c9, torch 2.13.0+cpu, compiled, batch 1, 224 px"
    columns = (Column("item", "item"), *(Column(f"c{i}", heading, group=f"Group {i // 3}") for i in range(14)))
    values = tuple(Estimate(10.0**i, 0.9 * 10.0**i, 1.1 * 10.0**i) for i in range(-5, 9))
    return Table(
        "widest", "Widest", "Of many.", columns, tuple((f"a_long_name[alpha={n}]", *values) for n in range(70))
    )


def test_latex_leaves_out_what_is_internal_and_says_once_what_every_row_repeats() -> None:
    columns = (Column("name", "name"), Column("on", "measured on"), Column("flags", "flags", internal=True))
    text = latex(Table("few", "Few", "Of two.", columns, (("a", "a CPU", "odd"), ("b", "a CPU", ""))))
    assert "odd" not in text
    assert text.count("a CPU") == 1
    assert "In every row: measured on: a CPU." in text


def test_latex_writes_an_interval_as_its_half_for_siunitx() -> None:
    text = latex(small(("a", Estimate(12.3, 12.1, 12.6)), ("b", Estimate(-3.0, -3.5, -2.5)), ("c", None)))
    assert r"12.30 \pm 0.25" in text
    assert "S[table-format=-2.2(2)]" in text
    assert "{--}" in text


def test_a_latex_table_higher_than_a_page_goes_on_under_the_same_number() -> None:
    text = latex(small(*((f"row {n}", Estimate(1.0 + n)) for n in range(90))))
    assert text.count(r"\begin{table*}") == text.count(r"\caption{(continued)}") + 1 == 2
    assert text.count(r"\label") == 1
    assert [text.count(f"row {n} &") for n in range(90)] == [1] * 90


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (28089760.0, "28089760"), (0.912057704507362, "0.912058"), (17066.302407939776, "17066.3"),
        (1.0000000000000002, "1"), (-0.25, "-0.25"), (None, ""), (1234567.8, "1234570"),
    ],
)  # fmt: skip
def test_csv_has_counts_in_full_and_six_digits_of_what_is_computed(value: float | None, text: str) -> None:
    assert data_number(value) == text


@pytest.mark.parametrize(
    ("asked", "ran", "shown"),
    [
        ("eager", "eager", "eager"),
        ("sdpa", "sdpa:flash_for_cpu", "sdpa (sdpa:flash_for_cpu)"),  # a run from before the calls were counted
        ("sdpa", "sdpa:flash_for_cpu x2", "sdpa (sdpa:flash_for_cpu)"),
        ("sdpa", "sdpa:flash x1, math x12", "sdpa (sdpa:flash, math)"),
        ("sdpa", "eager", "sdpa (eager)"),
        ("eager", "sdpa:flash x1", "eager (sdpa:flash)"),
    ],
)
def test_a_kernel_is_shown_with_the_operators_that_ran_and_without_their_calls(asked, ran, shown):
    cell = made.cell("msa", kernel=asked)
    record = replace(made.measured(cell), words={"kernel_ran": ran})
    assert measured.kernel(Point(cell, record, "r", "m")) == shown
