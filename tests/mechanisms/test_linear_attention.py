"""Linear attention against a loop over pairs of tokens, and its laws."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, images, layer, weights


def phi(u):
    return np.where(u > 0, u + 1, np.exp(np.minimum(u, 0)))


def loop(built, x):
    """A weighted mean of the values, pair by pair: no sum is shared between queries."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b, tokens in enumerate(x.numpy().reshape(B, H * W, C)):
        q, k, v = (affine(tokens, w, f"{name}_projection") for name in ("query", "key", "value"))
        for i, row in enumerate(q):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                weight = np.array([phi(row[c]) @ phi(key) for key in k[:, c]])
                out[b, i, c] = weight @ v[:, c] / (weight.sum() + 1e-6)
    return affine(out, w, "out_projection").reshape(x.shape)


@pytest.mark.parametrize("grid", GRIDS)
def test_linear_attention_equals_a_loop_over_pairs(grid):
    built, x = layer("linear_attention", grid), images(grid)
    assert_close(built(x), loop(built, x))


@pytest.mark.parametrize("lower", [6.0, 7.0, 9.0])
def test_the_small_constant_weighs_as_much_as_with_the_authors_where_features_vanish(lower):
    built, x = layer("linear_attention", (5, 7)), images((5, 7))
    with torch.no_grad():
        built.query_projection.bias.fill_(-lower)
        built.key_projection.bias.fill_(-lower)  # phi(q) phi(k) is near the constant
    assert_close(built(x), loop(built, x))


def test_the_small_constant_does_not_vanish_in_half_precision():
    built, x = layer("linear_attention", (64, 64)), images((64, 64), batch=1)
    with torch.no_grad():
        built.query_projection.bias.fill_(-40.0)  # features of 0: nothing is read, and nothing is divided by 0
    y = built.half()(x.half())
    assert_close(y.double(), built.out_projection.bias.detach().double().expand(x.shape).numpy())


def test_a_constant_image_stays_what_its_values_are():
    built = layer("linear_attention", (4, 6))
    x = images((1, 1)).expand(2, 4, 6, 24)
    w = weights(built)
    v = affine(x.numpy(), w, "value_projection")
    assert_close(built(x), affine(v, w, "out_projection"), 1e-5)


def test_linear_attention_does_not_know_where_a_token_stands():
    built, x = layer("linear_attention", (4, 6)), images((4, 6))
    assert np.abs((built(x.flip(1, 2)) - built(x).flip(1, 2)).detach().numpy()).max() < 1e-12


def test_a_large_map_stays_finite_in_float16():
    built = layer("linear_attention", (64, 64)).half()
    assert built(images((64, 64)).half() * 4).isfinite().all()


def test_linear_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads must divide dim; got heads=5, dim=24"):
        layer("linear_attention", (4, 6), heads=5)
