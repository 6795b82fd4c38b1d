from __future__ import annotations

import numpy as np
import pytest

from attnbench.report.log_scale import LogScale


@pytest.fixture
def decades():
    return LogScale(None).get_transform()


def test_a_last_bit_does_not_move_a_mark(decades):
    values = np.random.default_rng(0).uniform(1e-3, 1e4, (500, 2))
    assert np.array_equal(decades.transform(values), decades.transform(np.nextafter(values, 0)))
    back = decades.inverted()
    assert np.array_equal(back.transform(np.log10(values)), back.transform(np.nextafter(np.log10(values), 9)))


def test_decades_and_back(decades):
    values = np.array([[1e-3], [1.0], [224.0], [1e12]])
    assert decades.transform(values) == pytest.approx(np.log10(values), abs=1e-9)
    assert decades.inverted().transform(decades.transform(values)) == pytest.approx(values, rel=1e-8)
    assert decades.inverted().inverted().transform(np.array([[100.0]])) == 2


def test_what_has_no_logarithm_lies_far_outside_the_axes(decades):
    assert decades.transform(np.array([[0.0], [-1.0]])).ravel().tolist() == [-1000, -1000]
