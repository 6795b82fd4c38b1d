"""The numerical error of layers whose rounding is known, and the distance of approximations from msa."""

from __future__ import annotations

import arms
import pytest
import torch
from torch import nn

from attnbench.machine.devices import open_device
from attnbench.measure.error import copy_projections, in_float64, measure, relative_rms
from attnbench.registry import build
from attnbench.registry.declaration import Declaration


class Line(nn.Module):
    """One linear layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.line = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x)


class Stubborn(nn.Module):
    """Has a constant that is always float32."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.eye(x.shape[-1])


class Square(nn.Module):
    """Overflows in half precision where its input is large."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 60 * x * x


LAYERS = arms.known(line=Line, stubborn=Stubborn, square=Square)
LAYERS.add([Declaration(name="dice", build=Line, random=True, source="dice")])


def errors(variant, precision="fp32", **changes):
    return measure(arms.cell(variant, LAYERS, precision=precision, **changes), open_device("cpu"), LAYERS)


@pytest.mark.parametrize(("precision", "digits"), [("bf16", 9), ("fp16", 12), ("fp32", 25)])
def test_a_linear_layer_errs_by_the_rounding_of_its_precision(precision, digits):
    values, words = errors("line", precision)
    assert words == {}
    for name in (
        "error_rms",
        "error_rms_x8",
        "error_rms_x64",
    ):  # scaling by powers of two changes no rounding but the bias's
        assert 2.0**-digits / 3 < values[name] < 2.0**-digits * 3


def test_a_sharper_softmax_errs_more():
    values, _ = errors("msa", "bf16")
    assert values["error_rms_x64"] > 1.2 * values["error_rms"]


def test_the_batch_and_the_pass_of_the_cell_do_not_matter():
    assert errors("msa", "bf16") == errors("msa", "bf16", batch=4, pass_="train")


def test_an_output_that_overflows_has_no_number_and_says_so():
    values, words = errors("square", "fp16")
    assert set(values) == {"error_rms", "error_rms_x8"}
    assert words["error_notes"] == "error_rms_x64: the output in fp16 is not finite"


def test_a_layer_that_cannot_run_in_float64_says_so():
    values, words = errors("stubborn")
    assert values == {}
    assert words["error_notes"].startswith("it cannot run in float64: RuntimeError: ")


def test_a_random_layer_has_no_error():
    assert errors("dice") == ({}, {"error_notes": "its output is random: two calls on one input differ"})


def test_the_relative_rms_is_that_of_the_difference():
    truth = [torch.tensor([3.0, 4.0], dtype=torch.float64)]
    assert relative_rms([torch.tensor([3.0, 4.5])], truth) == pytest.approx(0.1)
    assert relative_rms([torch.tensor([3.0, float("nan")])], truth) is None
    with pytest.raises(ValueError, match="one shape"):
        relative_rms([torch.zeros(3)], truth)


@pytest.mark.parametrize("variant", ["linformer", "performer", "nystrom[num_landmarks=4]"])
def test_an_approximation_has_a_distance_from_msa_with_its_own_projections(variant):
    values, words = errors(variant)
    assert words == {}
    assert 0 < values["distance_to_msa"] < 2


def test_an_approximation_that_is_exact_has_no_distance():
    assert errors("nystrom[num_landmarks=16]")[0]["distance_to_msa"] < 1e-12  # as many landmarks as tokens: msa
    assert "distance_to_msa" not in errors("hilo")[0]


def test_projections_in_parts_are_joined_in_the_order_of_the_whole():
    few, msa = (build(name, dim=16, heads=2, grid=(4, 4)) for name in ("linformer", "msa"))
    assert copy_projections(few, msa) == []
    assert torch.equal(msa.qkv.weight, torch.cat([few.query.weight, few.kv.weight]))
    assert torch.equal(msa.proj.bias, few.proj.bias)
    assert copy_projections(Line(16, 2), msa) == ["qkv.weight", "qkv.bias", "proj.weight", "proj.bias"]


def test_the_truth_has_the_weights_of_the_arm():
    cell = arms.cell("performer", LAYERS)
    arm, truth = arms.arm(cell, LAYERS), in_float64(cell, LAYERS)
    for (name, mine), (_, true) in zip(arm.module.state_dict().items(), truth.state_dict().items(), strict=True):
        assert torch.equal(mine, true.float()), name
