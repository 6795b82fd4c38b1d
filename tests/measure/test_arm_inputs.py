"""All arms work on one copy of the inputs: what one of them wrote is seen, and undone for the next."""

from __future__ import annotations

import pytest
import torch
from arms import arm, cell, known
from torch import Tensor, nn

from attnbench.measure.arm import InputSets


class _Writes(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.how = ""

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "in place":
            x.mul_(2)
        elif self.how == "behind torch's back":
            x.numpy()[:] = 0
        elif self.how == "one value behind torch's back":
            x.numpy()[0, 1, 2, 3] = 0
        return x + 1


@pytest.mark.parametrize("how", ["in place", "behind torch's back", "one value behind torch's back"])
def test_a_call_that_writes_into_its_input_is_seen(how):
    layers = known(writes=_Writes)
    built = arm(cell("writes", layers), layers)
    built()
    assert not built.changed_inputs(thorough=True)
    built.module.how = how
    built()
    assert built.changed_inputs(thorough=True)
    assert built.changed_inputs(thorough=False) or how.startswith("one value")


def test_the_next_arm_receives_the_original_values():
    inputs = InputSets([torch.ones(2, 3), torch.zeros(2, 3)])
    lent = inputs.restored()
    lent[0].numpy()[:] = 7
    assert [x.sum().item() for x in inputs.restored()] == [6, 0]


def test_an_arm_that_shrinks_the_storage_of_its_input_harms_no_other():
    inputs = InputSets([torch.ones(2, 3)])
    inputs.restored()[0].detach().untyped_storage().resize_(0)
    assert inputs.restored()[0].sum().item() == 6
