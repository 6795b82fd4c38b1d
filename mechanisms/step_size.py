"""How state-space layers choose the first values of their step sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHORTEST, LONGEST = 0.001, 0.1  # at the start of training


def step_bias(*shape: int) -> Tensor:
    """Values whose softplus lies between SHORTEST and LONGEST, uniform in its logarithm."""
    step = torch.empty(shape).uniform_(math.log(SHORTEST), math.log(LONGEST)).exp()
    return step + (-(-step).expm1()).log()
