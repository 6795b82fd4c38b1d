"""Linear attention against a loop over pairs of tokens, and its laws."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, images, layer, weights


def phi(u):
    return np.where(u > 0, u + 1, np.exp(np.minimum(u, 0)))


def loop(built, x):
    """A weighted mean of the values, pair by pair: no sum is shared between queries."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b, qkv in enumerate(affine(x.numpy().reshape(B, H * W, C), w, "qkv")):
        for i, row in enumerate(qkv):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                weight = np.array([phi(row[c]) @ phi(key) for key in qkv[:, C : 2 * C][:, c]])
                out[b, i, c] = weight @ qkv[:, 2 * C :][:, c] / weight.sum()
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("grid", GRIDS)
def test_linear_attention_equals_a_loop_over_pairs(grid):
    built, x = layer("linear_attention", grid), images(grid)
    assert_close(built(x), loop(built, x), 1e-5)  # the loop divides without the small constant


def test_a_constant_image_stays_what_its_values_are():
    built = layer("linear_attention", (4, 6))
    x = images((1, 1)).expand(2, 4, 6, 24)
    w = weights(built)
    v = affine(x.numpy(), w, "qkv")[..., 48:]
    assert_close(built(x), affine(v, w, "proj"), 1e-5)


def test_linear_attention_does_not_know_where_a_token_stands():
    built, x = layer("linear_attention", (4, 6)), images((4, 6))
    assert np.abs((built(x.flip(1, 2)) - built(x).flip(1, 2)).detach().numpy()).max() < 1e-12


def test_a_large_map_stays_finite_in_float16():
    built = layer("linear_attention", (64, 64)).half()
    assert built(images((64, 64)).half() * 4).isfinite().all()


def test_linear_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads must divide dim; got heads=5, dim=24"):
        layer("linear_attention", (4, 6), heads=5)
