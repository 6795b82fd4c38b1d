"""Where the time goes, on layers whose answer is known; shares add up, forward and backward."""

from __future__ import annotations

from types import SimpleNamespace

import arms
import pytest
import torch
from torch import nn
from torch._C._autograd import DeviceType

from attnbench.machine.devices import open_device
from attnbench.measure.breakdown import CALL, PROJECTION, measure, profile_calls, projections, sort_out, top


class NoWeights(nn.Module):
    """Products without any projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ x.transpose(-2, -1)).softmax(-1) @ x


LAYERS = arms.known(lines=arms.Lines, bare=NoWeights)


def look(variant, **changes):
    return measure(open_device("cpu"), arms.arm(arms.cell(variant, LAYERS, **changes), LAYERS))


def test_a_layer_of_linears_alone_has_no_core():
    values, words = look("lines")
    assert values["core_share"] == 0
    assert values["projection_share"] == 1
    assert "addmm" in words["top_operators"]


def test_a_layer_without_linears_has_no_projections():
    values, _ = look("bare")
    assert values["projection_share"] == 0
    assert values["core_share"] == 1


@pytest.mark.parametrize("pass_", ["forward", "train"])
def test_the_shares_of_an_attention_layer_add_up(pass_):
    values, words = look("msa", pass_=pass_)
    assert values["projection_share"] + values["core_share"] == pytest.approx(1)
    assert 0 < values["projection_share"] < 1
    assert 0 <= values["host_share"] <= 1
    assert len(words["top_operators"].split(", ")) == 3


def test_the_backward_pass_of_a_projection_is_a_projection_s():
    built = arms.arm(arms.cell("lines", LAYERS, pass_="train"), LAYERS)
    built()
    times = profile_calls(open_device("cpu"), built, 4, projections(built.module))
    assert {"addmm", "AddmmBackward0", "mm"} <= set(times.inside)
    assert not {"addmm", "AddmmBackward0", "mm"} & set(times.outside)
    assert any("AccumulateGrad" in name for name in times.outside)


def test_convolutions_of_one_pixel_are_projections_and_others_are_not():
    module = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, (1, 3)), nn.LayerNorm(4), nn.Linear(4, 4)
    )
    assert projections(module) == [module[0], module[4]]


def test_the_module_is_left_as_it_was():
    built = arms.arm(arms.cell("msa", LAYERS), LAYERS)
    before = [dict(m.__dict__) for m in built.module.modules()]
    profile_calls(open_device("cpu"), built, 1, projections(built.module))
    assert [dict(m.__dict__) for m in built.module.modules()] == before


def test_the_intensity_is_macs_over_weights_input_and_output():
    values, _ = look("lines", batch=2)
    weights, images = 2 * (16 * 16 + 16) * 4, 2 * 16 * 16 * 4
    assert values["least_bytes"] == weights + 2 * images
    assert values["intensity_macs_per_byte"] == 2 * (2 * 16 * 16 * 16) / values["least_bytes"]


def test_events_are_sorted_by_range_and_by_sequence_number():
    def event(name, own, parent=None, number=-1):
        return SimpleNamespace(
            name=name, self_cpu_time_total=own * 1e6, self_device_time_total=own * 2e6, cpu_parent=parent,
            sequence_nr=number, device_type=DeviceType.CPU, time_range=SimpleNamespace(elapsed_us=lambda: 9e6),
        )  # fmt: skip

    call = event(CALL, 0.5)
    projection = event(PROJECTION, 0.5, call)
    engine = event("autograd::engine::evaluate_function: AddmmBackward0", 0.25, None, 7)
    events = [
        call, projection, event("aten::addmm", 1.0, projection, 7), event("aten::bmm", 2.0, call, 8), engine,
        event("aten::mm", 4.0, event("AddmmBackward0", 0.0, engine, 7)),
        event("aten::bmm", 8.0, event("autograd::engine::evaluate_function: BmmBackward0", 0.0, None, 8)),
        event("## Call CompiledFxGraph fabc ##", 16.0, call),
    ]  # fmt: skip
    times = sort_out(events, on_gpu=False)
    assert times.inside == {"addmm": 1.0, "AddmmBackward0": 0.25, "mm": 4.0}
    assert times.outside == {"bmm": 10.0, "compiled code": 16.0}
    assert times.wall == 9.0
    assert sort_out(events, on_gpu=True).outside == {"bmm": 20.0, "compiled code": 32.0}


def test_the_dearest_operators_are_named_with_their_shares():
    assert top({"addmm": 6.0, "bmm": 2.0, "add": 0.5, "mul": 1.5}, 10.0) == "addmm 60 %, bmm 20 %, mul 15 %"
