"""Numbers as text: the same in tables, in the terminal and on the page."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import synthetic as made
from rich.console import Console

from attnbench.report import numbers
from attnbench.report.evidence import Estimate, Point
from attnbench.report.page import asset
from attnbench.report.tables import Column, cell_text
from attnbench.report.terminal import result_tables
from attnbench.results.record import Record, from_dict

NUMBERS = [
    (0, 4, "0"), (1234567.0, 4, "1235000"), (0.00123456, 3, "0.00123"), (9.996, 3, "10.0"), (12.0, 4, "12.00"),
    (-0.25, 2, "-0.25"), (99.96, 3, "100"), (1e18, 3, "1000000000000000000"),
]  # fmt: skip
ESTIMATES = [
    ((1.024, 0.9996, 1.0449), 3, "1.02 [1.00, 1.04]"),
    ((12551.0, 12134.0, 12979.0), 4, "12550 [12130, 12980]"),
    ((14.7, 1.12e-17, 4.58e21), 3, "unresolved"),
    ((10.0, 4.0, 40.0), 3, "10.0 [4.0, 40.0]"),
    ((0.5, None, None), 3, "0.500"),
    ((0.05, -0.1, 0.2), 2, "0.050 [-0.100, 0.200]"),
]


@pytest.mark.parametrize(("value", "digits", "text"), NUMBERS)
def test_a_number_keeps_its_significant_digits(value: float, digits: int, text: str) -> None:
    assert numbers.number(value, digits) == text


@pytest.mark.parametrize(("ends", "digits", "text"), ESTIMATES)
def test_an_interval_has_its_values_decimals_or_is_unresolved(ends: Any, digits: int, text: str) -> None:
    assert numbers.estimate(*ends, digits) == text
    assert cell_text(Estimate(*ends), Column("x", "x", digits=digits)) == text


def test_the_page_writes_numbers_as_the_tables_do(browser: Any) -> None:
    rules = asset("cells.js").split("// Numbers as ")[1].split("const percent")[0]
    script = f"""// {rules}
        return arguments[0].map(([v, d]) => number(v, d)).concat(
          arguments[1].map(([[value, low, high], d]) => estimate({{value, low, high}}, d)))"""
    found = browser.execute_script(script, [[v, d] for v, d, _ in NUMBERS], [[list(e), d] for e, d, _ in ESTIMATES])
    assert found == [text for _, _, text in NUMBERS] + [text for _, _, text in ESTIMATES]


def test_the_reference_has_the_uncertainty_of_its_speed_and_another_that_of_its_ratio() -> None:
    speed = {"throughput_img_per_s": 100.0, "throughput_low": 96.0, "throughput_high": 104.0}
    ratio = {"ratio_to_reference": 2.0, "ratio_low": 1.98, "ratio_high": 2.02}
    assert numbers.uncertainty_pct({**speed, **ratio}) == pytest.approx(1)
    assert numbers.uncertainty_pct({**speed, **dict.fromkeys(ratio, 1.0)}) == pytest.approx(4)
    assert numbers.uncertainty_pct({**ratio, "ratio_low": 0.1}) is None
    assert [numbers.percent(x) for x in (None, 0.84, 9.96, 12.4)] == ["", "0.8", "10", "12"]


def uncounted() -> Record:
    record = made.measured(made.cell("gfnet"), macs=0)
    return replace(record, flags=("lower_bound", "wide"))


def test_a_lower_bound_says_so_in_tables_and_in_the_terminal() -> None:
    bound = Point(uncounted().cell, uncounted(), "r", "m").get("macs")
    assert bound is not None
    assert cell_text(bound.over(1e9), Column("macs", "MACs")) == "≥ 0"
    (table,) = result_tables([uncounted()], 200)
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    assert "≥ 0" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_a_flag_that_became_a_column_is_not_read_from_older_records() -> None:
    assert from_dict(uncounted().as_dict()).flags == ("lower_bound",)
