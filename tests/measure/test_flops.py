"""The counters against hand arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.errors import AttnbenchError
from attnbench.measure.flops import count


class Call(nn.Module):
    """A module from a function of the image and one weight."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.ones(*(shape or (1,))))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.w)


def test_a_linear_layer_costs_in_times_out_per_token():
    counts = count(nn.Linear(24, 36), torch.empty(1, 5, 7, 24))
    assert (counts.params, counts.macs, counts.macs_fvcore) == (24 * 36 + 36, 35 * 24 * 36, 35 * 24 * 36)
    assert not counts.lower_bound
    assert counts.notes == ""


def test_a_depthwise_convolution_costs_its_window_per_element():
    counts = count(nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.empty(1, 8, 5, 7))
    assert (counts.macs, counts.macs_fvcore) == (9 * 8 * 35, 9 * 8 * 35)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(8, 6, 3, padding="same"), 9 * 8 * 6 * 35),
        (nn.Conv2d(8, 6, (3, 1), stride=2, padding=(1, 0), dilation=1), 3 * 8 * 6 * 3 * 4),
        (nn.ConvTranspose2d(8, 6, 2, stride=2), 4 * 8 * 6 * 35),
    ],
    ids=str,
)
def test_fvcore_sees_convolutions_on_meta(layer, macs):
    counts = count(layer, torch.empty(1, 8, 5, 7))
    assert (counts.macs, counts.macs_fvcore) == (macs, macs)


def test_counts_are_per_image_and_leave_the_module_where_it_is():
    module = nn.Linear(24, 36).train()
    weight = module.weight
    assert count(module, torch.empty(16, 35, 24)).macs == 35 * 24 * 36
    assert module.weight is weight
    assert weight.device.type == "cpu"
    assert module.training


def test_fused_attention_is_seen_on_meta_where_fvcore_sees_nothing():
    counts = count(Call(lambda x, w: F.scaled_dot_product_attention(x, x, x)), torch.empty(1, 3, 35, 8))
    assert counts.macs == 2 * 3 * 35 * 35 * 8
    assert counts.macs_fvcore == 0
    assert not counts.lower_bound
    assert "does not see" in counts.notes


def test_an_einsum_is_exact_here_and_rounded_by_fvcore():
    counts = count(Call(lambda x, w: torch.einsum("bnc,ck->bnk", x, w), 768, 256), torch.empty(1, 196, 768))
    assert counts.macs == 196 * 768 * 256 == 38_535_168
    assert counts.macs_fvcore == 38_535_000
    assert "-168" in counts.notes


def test_fvcore_counts_layer_norm_with_five_per_element():
    counts = count(nn.Sequential(nn.Linear(24, 24), nn.LayerNorm(24)), torch.empty(1, 35, 24))
    assert counts.macs == 35 * 24 * 24
    assert counts.fvcore_extra == {"layer_norm": 5 * 35 * 24}
    assert counts.macs_fvcore == counts.macs + 5 * 35 * 24
    assert "4,200 for layer_norm" in counts.notes


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        ("aten::_fft_r2c", lambda x, w: torch.fft.rfft2(x).abs()),
        ("aten::linalg_inv_ex", lambda x, w: torch.linalg.inv(x @ x.transpose(-1, -2))),
        ("aten::linalg_qr", lambda x, w: torch.linalg.qr(x).Q),
        ("aten::_linalg_svd", lambda x, w: torch.linalg.svdvals(x)),
        ("aten::_cdist_forward", lambda x, w: torch.cdist(x, x)),
        ("aten::dot", lambda x, w: x + torch.dot(x[0, 0], x[0, 1])),
    ],
)
def test_an_operator_without_a_formula_makes_a_lower_bound(operator, function):
    counts = count(Call(function), torch.empty(1, 5, 6))
    assert counts.lower_bound
    assert operator in counts.unknown
    assert operator in counts.notes


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x.softmax(-1) * w + x.exp().sum(-1, keepdim=True) / x.norm(dim=-1, keepdim=True),
        lambda x, w: F.layer_norm(x, x.shape[-1:]).roll((1, 1), (1, 2)).flip(1),
        lambda x, w: F.group_norm(x, 1).clamp(min=0).cumsum(1),
        lambda x, w: F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) + F.adaptive_avg_pool2d(x, 1) + F.max_pool2d(x, 1),
        lambda x, w: F.adaptive_avg_pool2d(x.contiguous(memory_format=torch.channels_last), 1),
        lambda x, w: F.interpolate(F.unfold(x, 3).unflatten(1, (-1, 1))[:, :4], size=(4, 4), mode="bilinear"),
        lambda x, w: torch.cat([x, x], 1).topk(2, dim=1)[0].gather(1, torch.zeros_like(x[:, :2], dtype=torch.long)),
        lambda x, w: F.elu(F.softplus(x)) + F.leaky_relu(x, inplace=True) + F.mish(F.hardtanh(x)) + x.isfinite(),
        lambda x, w: torch.stack([F.dropout(x), F.gelu(x)], 1).mean(1).masked_fill(x > 0, 0.0).to(torch.bfloat16),
    ],
)
def test_an_operator_without_products_is_negligible(function):
    counts = count(Call(function), torch.empty(1, 4, 6, 6))
    assert (counts.macs, counts.unknown) == (0, {})


def test_a_formula_for_a_custom_operator_counts():
    with torch.library._scoped_library("attnbench_test", "FRAGMENT") as library:
        library.define("scan(Tensor x) -> Tensor")
        library.impl("scan", lambda x: torch.empty_like(x), "Meta")
        operator = torch.ops.attnbench_test.scan
        module, x = Call(lambda x, w: operator(x)), torch.empty(1, 35, 24)
        assert count(module, x).unknown == {"attnbench_test::scan": 1}
        counts = count(module, x, extra={operator: lambda shape, out_shape=None, **_: 2 * 9 * shape[1] * shape[2]})
        assert (counts.macs, counts.unknown) == (9 * 35 * 24, {})


def test_the_fast_path_that_hides_attention_is_a_lower_bound():
    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(24, 3, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    counts = count(Torch(), torch.empty(1, 35, 24))
    assert counts.macs == 4 * 35 * 24**2 + 2 * 35**2 * 24 or counts.lower_bound


def test_a_module_that_needs_values_is_refused_with_the_reason():
    with pytest.raises(AttnbenchError, match="meta device"):
        count(Call(lambda x, w: x * x.max().item()), torch.empty(1, 3, 4))


def test_fvcore_may_be_absent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fvcore.nn", None)
    counts = count(nn.Linear(4, 4), torch.empty(1, 2, 4))
    assert (counts.macs, counts.macs_fvcore) == (32, None)
    assert "fvcore is not installed" in counts.notes
