"""LiteMLA against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, images, layer, weights


def mixed(built, w, qkv):
    """The second branch: each channel over its surroundings, then each head's q, k and v on its own."""
    H, W, wide = qkv.shape
    spread, kernel = np.zeros(qkv.shape), w["aggreg.0.0.weight"][:, 0]
    half, d = kernel.shape[-1] // 2, built.dim_head
    for y, z, i, j in np.ndindex(H, W, *kernel.shape[1:]):
        if 0 <= y + i - half < H and 0 <= z + j - half < W:
            spread[y, z] += kernel[:, i, j] * qkv[y + i - half, z + j - half]
    point = w["aggreg.0.1.weight"][:, :, 0, 0]
    parts = [spread[..., t : t + d] @ point[t : t + d].T for t in range(0, wide, d)]
    return np.concatenate(parts, -1)


def loop(built, x):
    """A weighted mean of the values, pair by pair: no sum is shared between queries."""
    w, d, (B, H, W, _) = weights(built), built.dim_head, x.shape
    out = np.zeros((B, H * W, w["proj.conv.weight"].shape[1]))
    for b in range(B):
        qkv = affine(x[b].numpy(), w, "qkv.conv")
        heads = np.concatenate([qkv, mixed(built, w, qkv)], -1).reshape(H * W, -1, 3, d)
        for i, head in np.ndindex(*heads.shape[:2]):
            weight = np.maximum(heads[:, head, 1], 0) @ np.maximum(heads[i, head, 0], 0)
            out[b, i, head * d : (head + 1) * d] = weight @ heads[:, head, 2] / (weight.sum() + 1e-15)
    y = affine(out, w, "proj.conv").reshape(x.shape)
    mean, var = w["proj.norm.running_mean"], w["proj.norm.running_var"]
    return (y - mean) / np.sqrt(var + 1e-5) * w["proj.norm.weight"] + w["proj.norm.bias"]


@pytest.mark.parametrize("settings", ["[dim_head=8]", "[dim_head=12,scales=3]", "[dim_head=7]", ""])
@pytest.mark.parametrize("grid", GRIDS)
def test_lite_mla_equals_a_loop_over_pairs(grid, settings):
    built, x = layer(f"lite_mla{settings}", grid), images(grid)
    built.proj.norm.running_mean.normal_()
    built.proj.norm.running_var.uniform_(0.5, 2)
    assert_close(built(x), loop(built, x))


def test_small_inputs_are_divided_by_their_features_and_not_by_the_constant():
    built, x = layer("lite_mla[dim_head=8]", (5, 7)), images((5, 7)) * 1e-3
    assert_close(built(x), loop(built, x))


def test_a_query_without_features_gets_the_bias_alone():
    built, x = layer("lite_mla[dim_head=8]", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.qkv.conv.weight.view(3, 3, 8, 24)[:, 0] = 0  # the queries of all heads
    w = weights(built)
    alone = w["proj.norm.bias"] - 0 * x.numpy()
    assert_close(built(x), alone)


def test_lite_mla_gives_what_timm_gives():
    timm = library("timm.models.efficientvit_mit")
    theirs = timm.LiteMLA(24, 24, dim=8, eps=1e-15).eval()
    built, x = layer("lite_mla[dim_head=8]", (5, 7)).float(), images((5, 7)).float()
    theirs.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert_close(built(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy(), 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim_head": 0}, "dim_head must be at least 1; got dim_head=0"),
        ({"scales": 4}, "scales must be odd and at least 1; got scales=4"),
    ],
)
def test_lite_mla_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("lite_mla", (4, 6), **settings)
