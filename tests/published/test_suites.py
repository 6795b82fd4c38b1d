"""Every suite is a sweep that can be planned; its reference is one of its arms; together they fill the tables."""

from __future__ import annotations

from functools import cache

import pytest

from attnbench import AttnbenchError, registry
from attnbench.commands import options
from attnbench.planning.sweep import Plan, plan
from attnbench.published.differences import absent
from attnbench.published.suites import SUITES, suite
from attnbench.report.differences import counted
from attnbench.report.evidence import MISSING, Evidence, Point


@cache
def planned(name: str) -> Plan:
    return plan(options.read_sweep({"suite": name}), registry.load(entry_points=False))


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_can_be_planned_and_only_models_whose_library_is_missing_decline(name):
    made = planned(name)
    assert made.cells
    assert not made.notes  # the reference is among the arms
    assert [reason for reason in made.declined.values() if "attnbench[models]" not in reason] == []


def test_the_suites_together_plan_the_partner_of_every_published_count():
    points = tuple(Point(cell, None, "", "") for name in SUITES for cell in planned(name).cells)
    lacking = {c.key[:2] for c in counted(Evidence((), points, ())) if not c.pair.reason.startswith(MISSING)}
    assert lacking == set(absent())


def test_a_table_at_two_resolutions_has_two_suites():
    assert {(c.res_h, c.res_w) for c in planned("table1").cells} == {(224, 224)}
    assert {(c.res_h, c.res_w) for c in planned("table1-384").cells} == {(384, 384)}
    assert {(c.scope, c.res_h, c.res_w) for c in planned("table5").cells} == {("backbone", 224, 224)}
    assert {(c.scope, c.res_h, c.res_w) for c in planned("table5-coco").cells} == {("task", 1280, 800)}


def test_suites_in_a_comma_list_are_one_sweep_with_the_arms_of_all():
    names = ("table4", "pooled", "layers")
    together = {c.id for c in planned(",".join(names)).cells}
    apart = {c.id for name in names for c in planned(name).cells}
    assert together == apart
    assert suite("table4,pooled")["reference"] == suite("table4")["reference"]


def test_suites_of_different_resolutions_are_refused_together():
    with pytest.raises(AttnbenchError, match="share their res; table1 has the default and table2 1280x800; run them"):
        suite("table1,table2")


def test_an_option_beats_the_suite():
    assert options.read_sweep({"suite": "fig3", "res": "224"}).res == ((224, 224),)


@pytest.mark.parametrize("text", ["tabel4", "table4,tabel4"])
def test_an_unknown_suite_names_the_nearest(text):
    with pytest.raises(AttnbenchError, match="nearest: table"):
        suite(text)
