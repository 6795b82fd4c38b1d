"""Which attention operators ran: call by call, in the cell's own grad mode."""

from __future__ import annotations

import arms
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnbench.measure.kernels import attention_operators, describe, kernel_that_ran
from attnbench.results.flags import ran_fused


class Mixed(nn.Module):
    """One call that a fused operator serves and one that it cannot: a bias that needs a gradient."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.view(x.shape[0], 1, -1, x.shape[-1])
        fused = F.scaled_dot_product_attention(flat, flat, flat)
        return F.scaled_dot_product_attention(fused, flat, flat, attn_mask=self.bias * 2).view(x.shape)


class Hidden(nn.Module):
    """Calls the fused operator whatever kernel it is told."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.view(x.shape[0], 1, -1, x.shape[-1])
        return F.scaled_dot_product_attention(flat, flat, flat).view(x.shape)


LAYERS = arms.known(mixed=Mixed, hidden=Hidden)


@pytest.mark.parametrize(
    ("variant", "kernel", "pass_", "ran"),
    [
        ("msa", "eager", "forward", "eager"),
        ("msa", "eager", "train", "eager"),
        ("msa", "sdpa", "forward", "sdpa:flash_for_cpu x1"),
        ("msa", "sdpa", "train", "sdpa:flash_for_cpu x1"),
        ("hilo", "sdpa", "forward", "sdpa:flash_for_cpu x2"),
        ("hidden", "eager", "forward", "sdpa:flash_for_cpu x1"),
        ("mixed", "sdpa", "train", "sdpa:flash_for_cpu x1, math x1"),
        ("van", "eager", "forward", "eager"),
    ],
)
def test_what_ran_is_counted_call_by_call(variant, kernel, pass_, ran):
    cell = arms.cell(variant, LAYERS, pass_=pass_, kernel=kernel)
    assert kernel_that_ran(arms.arm(cell, LAYERS)) == ran


def test_training_may_run_another_kernel_than_inference():
    found = [
        kernel_that_ran(arms.arm(arms.cell("mixed", LAYERS, pass_=p, kernel="sdpa"), LAYERS))
        for p in ("forward", "train")
    ]
    assert found[0] != found[1]


def test_backward_operators_are_not_counted_again():
    names = ["aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_backward"]
    names += ["aten::_scaled_dot_product_efficient_attention", "aten::scaled_dot_product_attention", "aten::bmm"]
    names += ["aten::_native_multi_head_attention"]
    assert attention_operators(names) == {"flash": 1, "efficient": 1, "native_multi_head": 1}


def test_a_flex_cell_keeps_its_name_and_names_what_else_ran():
    assert describe("flex", attention_operators([])) == "flex"
    named = attention_operators(["aten::_scaled_dot_product_attention_math"])
    assert describe("flex", named) == "flex, sdpa:math x1"


@pytest.mark.parametrize(
    ("kernel_ran", "fused"),
    [
        ("eager", False), ("flex", False), ("", False), ("sdpa:math", False), ("sdpa:math x2", False),
        ("sdpa:flash_for_cpu", True), ("sdpa:flash_for_cpu+math", True), ("sdpa:flash_for_cpu x1, math x1", True),
    ],
)  # fmt: skip
def test_a_fused_operator_is_read_from_runs_old_and_new(kernel_ran, fused):
    assert ran_fused(kernel_ran) is fused
