"""Every suite is a sweep that can be planned; its reference is one of its arms."""

from __future__ import annotations

import pytest

from attnbench import AttnbenchError, axes, registry
from attnbench.suites import SUITES, suite
from attnbench.sweep import plan


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_can_be_planned_and_nothing_of_it_declines(name):
    made = plan(axes.read({"suite": name}), registry.load(entry_points=False))
    assert made.cells
    assert not made.declined
    assert not made.notes  # the reference is among the arms


def test_an_option_beats_the_suite():
    assert axes.read({"suite": "fig3", "res": "224"}).res == ((224, 224),)


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(AttnbenchError, match="nearest: table"):
        suite("tabel4")
