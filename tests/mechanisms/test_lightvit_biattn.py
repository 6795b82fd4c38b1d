"""LightViT's bi-dimensional attention against a loop over tokens, its laws, refusals, and the authors' output."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, golden, images, layer, weights

from mechanisms.lightvit_biattn import BiAttentionFFN

gelu = np.vectorize(lambda t: t * 0.5 * (1 + math.erf(t / math.sqrt(2))))


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def loop(w, tokens):
    """Tokens [L,C] of one image, global ones included, one after the other."""
    u = np.array([(t - t.mean()) / np.sqrt(t.var() + 1e-5) * w["norm.weight"] + w["norm.bias"] for t in tokens])
    g = gelu(affine(sum(u) / len(u), w, "global_reduce"))
    channel, out = sigmoid(affine(g, w, "channel_select")), np.zeros(tokens.shape)
    for i, t in enumerate(tokens):
        both = np.concatenate([gelu(affine(u[i], w, "local_reduce")), g])
        out[i] = t * channel * sigmoid(affine(both, w, "spatial_select"))
    return out


@pytest.mark.parametrize("settings", ["", "[num_tokens=1,act_ratio=0.1]"])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_the_gate_equals_a_loop_over_tokens(grid, settings):
    built, x = layer(f"lightvit_biattn{settings}", grid), images(grid)
    w = weights(built)
    own = built.global_token.numpy()[0]
    truth = [loop(w, np.concatenate([own, image.reshape(-1, 24)]))[len(own) :] for image in x.numpy()]
    assert_close(built(x), np.array(truth).reshape(x.shape))


def test_the_gate_does_not_know_where_a_token_stands_and_only_weakens():
    built, x = layer("lightvit_biattn", (4, 6)), images((4, 6))
    assert torch.allclose(built(x.flip(1, 2)), built(x).flip(1, 2), atol=1e-12)
    assert (built(x).abs() < x.abs()).all()
    assert (built(x) * x > 0).all()


def test_the_whole_ffn_gives_what_the_authors_code_gives():
    for case in golden("lightvit_biattn_ffn"):
        config, T = case["config"], case["x"].shape[1] - 14 * 14
        for dtype, tolerance in ((torch.float64, 2e-6), (torch.float32, 2e-5)):
            built = BiAttentionFFN(96, config["hidden"], act_ratio=config["act_ratio"])
            built.load_state_dict(case["state_dict"])
            x = case["x"].to(dtype)
            tokens, image = built.to(dtype).exchange(x[:, :T], x[:, T:].view(2, 14, 14, 96))
            ours = torch.cat([tokens, image.flatten(1, 2)], dim=1)
            assert (ours.double() - case["y"].double()).abs().max() <= tolerance


def test_the_layer_has_the_names_of_the_authors_gate():
    built = layer("lightvit_biattn", (4, 6))
    parts = ("norm", "global_reduce", "local_reduce", "channel_select", "spatial_select")
    assert set(built.state_dict()) == {f"{p}.{end}" for p in parts for end in ("weight", "bias")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_tokens": 0}, "num_tokens must be at least 1; got num_tokens=0"),
        ({"act_ratio": 0.01}, "act_ratio must leave at least one channel; got act_ratio=0.01, dim=24"),
    ],
)
def test_the_gate_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("lightvit_biattn", (4, 6), **settings)
