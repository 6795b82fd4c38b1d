"""Whether a runtime agrees with eager: at a tolerance from the precision, never for what cannot be compared."""

from __future__ import annotations

import arms
import pytest
import torch

from attnbench import runtimes
from attnbench.machine.devices import open_device
from attnbench.measure.agreement import error_against, expected_output
from attnbench.measure.arm import ContractError, make_inputs
from attnbench.measure.memory import measure_loading

LAYERS = arms.known(lines=arms.Lines)
CELL = arms.cell("lines", LAYERS, runtime="compile")
X = torch.tensor([[1.0, -4.0]])


def test_the_error_is_the_greatest_difference_over_the_greatest_output():
    assert error_against([X], [X + torch.tensor([0.0, 1e-4])], CELL) == pytest.approx(2.5e-5, rel=1e-2)
    assert error_against([0 * X], [0 * X], CELL) == 0.0


@pytest.mark.parametrize("wrong", [X * 1.01, X * float("nan")])
def test_beyond_the_tolerance_both_numbers_are_named(wrong):
    with pytest.raises(ContractError, match=r"compile must agree with eager to 0.0001 in fp32; got an error of"):
        error_against([X], [wrong], CELL)


def test_outputs_of_other_shapes_or_numbers_are_named():
    for wrong in ([X, X], [X[:, :1]]):
        with pytest.raises(ContractError, match="must give outputs of eager's shapes"):
            error_against([X], wrong, CELL)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_lower_precision_has_a_wider_tolerance(precision):
    assert runtimes.TOLERANCES[precision] > 100 * runtimes.TOLERANCES["fp32"]


def expected(**changes):
    device = open_device("cpu")
    cell = arms.cell("lines", LAYERS, **changes)
    inputs = make_inputs(cell, device, torch.float32, 0)
    return expected_output(cell, device, LAYERS, inputs, inference=changes.get("pass_") != "papers", weights="")


def test_a_runtime_is_compared_with_the_cells_own_eager_form_and_int8_with_fp32():
    (truth,) = expected(runtime="compile")
    (of_int8,) = expected(precision="int8")
    assert torch.equal(truth, of_int8)
    assert truth.dtype == torch.float32


@pytest.mark.parametrize("changes", [{}, {"runtime": "compile", "pass_": "train"}])
def test_eager_itself_and_training_are_not_compared(changes):
    assert expected(**changes) == []


def test_loading_counts_in_the_memory_of_an_exported_layer():
    kept = []
    arm = arms.arm(arms.cell("lines", LAYERS), LAYERS)
    load = lambda: kept.append(torch.ones(16 << 20))  # noqa: E731  64 MiB
    values = measure_loading(arm, load, lambda: torch.ones(8 << 20).sum())
    if "loaded_bytes" not in values:
        pytest.skip("this system does not show the resident peak")
    assert values["loaded_bytes"] == pytest.approx(64 << 20, rel=0.05)
    assert values["peak_memory_bytes"] == pytest.approx(96 << 20, rel=0.05)
