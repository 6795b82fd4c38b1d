"""Prepared weights have the scale of drawn ones, and the fillers are put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import init

from attnbench.measure.initialize import prepared_weights

FILLERS = [
    lambda t: init.normal_(t, 0.5, 0.2),
    lambda t: init.trunc_normal_(t, std=0.02, a=-0.04, b=0.04),
    lambda t: init.uniform_(t, -0.3, 0.3),
    lambda t: init.kaiming_uniform_(t, a=5**0.5),
    lambda t: init.kaiming_normal_(t, mode="fan_out"),
    lambda t: init.xavier_uniform_(t),
]


@pytest.mark.parametrize("fill", FILLERS)
def test_the_values_have_the_mean_and_the_spread_of_drawn_ones(fill):
    drawn = fill(torch.empty(300, 4000))
    with prepared_weights():
        copied = fill(torch.empty(300, 4000))
    assert float(copied.std()) == pytest.approx(float(drawn.std()), rel=0.1)
    assert float(copied.mean()) == pytest.approx(float(drawn.mean()), abs=0.02)


def test_a_layer_is_built_with_finite_weights_and_the_fillers_are_put_back():
    before = init.kaiming_uniform_
    with prepared_weights():
        layer = nn.Conv2d(8, 16, 3)
        assert init.kaiming_uniform_ is not before
    assert init.kaiming_uniform_ is before
    assert torch.isfinite(layer.weight).all()
    assert layer.weight.unique().numel() > 1000


def test_a_transposed_parameter_and_the_meta_device_are_served():
    with prepared_weights():
        turned = init.normal_(torch.empty(40, 30).t())
        assert init.normal_(torch.empty(3, device="meta")).is_meta
    assert float(turned.std()) == pytest.approx(1, rel=0.1)
