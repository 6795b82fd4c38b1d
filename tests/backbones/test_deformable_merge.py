"""The deformable merge against a loop over pixels, textbook cases, and its refusals."""

import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision_stand_in
from whole import random_weights

import attnbench
from mechanisms.backbones.deform import DeformableConv, DeformableMerge, merge_macs, refuses, sample

GRIDS = [(4, 6), (5, 7), (2, 2), (9, 4)]


def tokens(grid, dim=5, batch=2):
    g = torch.Generator().manual_seed(0)
    return torch.randn(batch, *grid, dim, generator=g, dtype=torch.float64)


def bilinear(image, y, x):
    """One position of [H,W,C], zero outside."""
    H, W, C = image.shape
    out = np.zeros(C)
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < H and 0 <= j < W:
                out += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return out


def loop(conv, x):
    """The deformable convolution pixel by pixel, offsets by a loop too."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    ow, ob = conv.conv_offset.weight.detach().numpy(), conv.conv_offset.bias.detach().numpy()
    x = x.numpy()
    B, H, W, _ = x.shape
    out = np.zeros((B, H // 2, W // 2, weight.shape[0]))
    for b in range(B):
        for i in range(H // 2):
            for j in range(W // 2):
                offset = ob.copy()
                for ky in range(2):
                    for kx in range(2):
                        offset += ow[:, :, ky, kx] @ x[b, 2 * i + ky, 2 * j + kx]
                out[b, i, j] = bias
                for tap, (ky, kx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
                    dy, dx = offset[2 * tap], offset[2 * tap + 1]
                    read = bilinear(x[b], 2 * i + ky + dy, 2 * j + kx + dx)
                    out[b, i, j] += weight[:, :, ky, kx] @ read
    return out


@pytest.mark.parametrize("grid", GRIDS)
def test_the_convolution_equals_a_loop_over_pixels(grid):
    conv, x = random_weights(DeformableConv(5, deform="torch")), tokens(grid)
    assert np.abs(conv(x).detach().numpy() - loop(conv, x)).max() <= 1e-12


@pytest.mark.parametrize("far", [-1.0, -0.25, 0.0, 2.75, 3.0, 3.5, 4.0, 40.0, -1e30])
def test_a_position_at_or_beyond_the_border_blends_with_zero(far):
    x = tokens((4, 4), batch=1)
    places = torch.tensor([far, 1.5], dtype=torch.float64).view(1, 1, 1, 1, 2)
    assert np.allclose(sample(x, places).numpy().ravel(), bilinear(x[0].numpy(), far, 1.5), atol=1e-13)


def test_a_fresh_merge_is_a_plain_strided_convolution():
    merge, x = DeformableMerge(5, deform="torch").double().eval(), tokens((5, 7))
    plain = F.conv2d(x.permute(0, 3, 1, 2), merge.dconv.weight, merge.dconv.bias, stride=2)
    assert torch.allclose(merge(x).permute(0, 3, 1, 2), F.gelu(plain / (1 + merge.norm_layer.eps) ** 0.5), atol=1e-13)


def test_offsets_of_whole_tokens_shift_what_is_read():
    conv, x = random_weights(DeformableConv(5, deform="torch")), tokens((6, 8))
    torch.nn.init.zeros_(conv.conv_offset.weight)
    with torch.no_grad():
        conv.conv_offset.bias.copy_(torch.tensor([1.0, -2.0] * 4))  # one row down, two columns left
    shifted = F.pad(x, (0, 0, 2, 0, 0, 1))[:, 1:, :8]
    plain = F.conv2d(shifted.permute(0, 3, 1, 2), conv.weight, conv.bias, stride=2).permute(0, 2, 3, 1)
    assert torch.allclose(conv(x), plain, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reads_the_right_token_of_a_wide_map(dtype):
    conv = DeformableConv(1, deform="torch").to(dtype)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2).expand(2, 1, 2, 2))
        conv.bias.zero_()
        conv.conv_offset.bias.fill_(0.25)  # bfloat16 has no 602.25
    x = torch.zeros(1, 2, 1204, 1, dtype=dtype)
    x[0, 0, 602] = 1
    assert conv(x)[0, 0, 301, 0].item() == 0.5625
    assert conv(x)[0, 0, 300, 0].item() == 0


def test_gradients_of_offsets_and_kernel_are_right():
    conv, x = random_weights(DeformableConv(2, deform="torch")), tokens((4, 5), dim=2, batch=1).requires_grad_()
    names = [name for name, _ in conv.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in conv.parameters())

    def call(x, *values):
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))


def test_the_kernel_as_a_matrix_is_a_view():
    weight = DeformableConv(4, deform="torch").half().float().weight
    assert weight.permute(0, 2, 3, 1).flatten(1).data_ptr() == weight.data_ptr()


def test_a_merge_costs_its_kernel_and_its_offsets():
    # 2x3 outputs, each 4 taps x 5 channels -> 10, and 4 x 5 -> 8 offsets
    assert merge_macs(5, 5, 7) == 2 * 3 * (4 * 5 * 10 + 4 * 5 * 8)


def test_the_operator_of_torchvision_serves_where_it_is_chosen(monkeypatch):
    given = {}

    def deform_conv2d(image, offset, weight, bias, stride):
        given.update(image=image, offset=offset, stride=stride)
        return F.conv2d(image, weight, bias, stride=stride)

    ops = types.ModuleType("torchvision.ops")
    ops.deform_conv2d = deform_conv2d
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    x = tokens((4, 6))
    conv = DeformableConv(5, deform="torchvision").double()
    assert torch.allclose(conv(x), DeformableConv.forward(_as_torch(conv), x))
    assert given["image"].shape == (2, 5, 4, 6)
    assert given["offset"].shape == (2, 8, 2, 3)
    assert given["stride"] == 2


def _as_torch(conv):
    twin = DeformableConv(5, deform="torch").double()
    twin.load_state_dict(conv.state_dict())
    return twin


def test_torchvision_itself_agrees():
    reason = torchvision_stand_in.declared() or refuses("torchvision")
    if reason:
        pytest.skip(reason)
    import torchvision.ops as ops

    conv, x = random_weights(DeformableConv(5, deform="torch")), tokens((5, 7))
    offset = conv.conv_offset(x.permute(0, 3, 1, 2))
    theirs = ops.deform_conv2d(x.permute(0, 3, 1, 2), offset, conv.weight, conv.bias, stride=2)
    assert torch.allclose(conv(x), theirs.permute(0, 2, 3, 1), atol=1e-12)


def test_without_torchvision_its_operator_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ValueError, match="deform=torchvision needs torchvision; got ModuleNotFoundError"):
        attnbench.build("litv2_s", deform="torchvision")


def test_an_unknown_operator_is_refused():
    with pytest.raises(ValueError, match="deform must be torch or torchvision; got deform=cuda"):
        attnbench.build("litv2_s", deform="cuda")
