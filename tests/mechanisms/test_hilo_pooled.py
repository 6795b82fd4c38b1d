"""HiLo with pooled queries against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def between(at, s, count):
    """The two means and their weights that make pixel `at` of an axis with `count` means, one per s pixels."""
    place = min(max((at + 0.5) / s - 0.5, 0), count - 1)
    first = int(place)
    return ((first, 1 - place + first), (min(first + 1, count - 1), place - first))


def loop(built, x, projection):
    w, s, x = weights(built), built.window_size, x.numpy()
    B, H0, W0, C = x.shape
    h, z = -(-H0 // s), -(-W0 // s)
    padded, out = np.zeros((B, h * s, z * s, C)), np.zeros((B, H0, W0, C))
    padded[:, :H0, :W0] = x
    d = C // (built.low_heads + built.high_heads)
    Ch = built.high_heads * d
    for b in range(B):
        if built.high_heads:
            qkv = affine(padded[b], w, "h_qkv")
            for y, c in np.ndindex(H0, W0):
                block = qkv[y // s * s : y // s * s + s, c // s * s : c // s * s + s].reshape(s * s, -1)
                parts = (slice(n * d, (n + 1) * d) for n in range(built.high_heads))
                heads = [
                    attention_of_one(qkv[y, c, p], block[:, Ch:][:, p], block[:, 2 * Ch :][:, p], d**-0.5)
                    for p in parts
                ]
                out[b, y, c, :Ch] = affine(np.concatenate(heads), w, "h_proj")
        if built.low_heads:
            means = padded[b].reshape(h, s, z, s, C).mean((1, 3))
            q, kv = affine(means, w, "l_q"), affine(means.reshape(h * z, C), w, "l_kv")
            low = np.zeros((h, z, C - Ch))
            for y, c in np.ndindex(h, z):
                for p in (slice(n * d, (n + 1) * d) for n in range(built.low_heads)):
                    low[y, c, p] = attention_of_one(q[y, c, p], kv[:, p], kv[:, C - Ch :][:, p], d**-0.5)
            low = affine(low, w, "l_proj") if projection == "before" else low
            for y, c in np.ndindex(H0, W0):
                around = [share * part * low[i, j] for i, share in between(y, s, h) for j, part in between(c, s, z)]
                out[b, y, c, Ch:] = sum(around)
            if projection == "after":
                out[b, :, :, Ch:] = affine(out[b, :, :, Ch:], w, "l_proj")
    return out


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", [{}, {"alpha": 0.0}, {"window_size": 3, "alpha": 1.0}, {"projection": "after"}])
@pytest.mark.parametrize("grid", GRIDS)
def test_pooled_hilo_equals_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer("hilo_pooled", grid, kernel=kernel, **settings), images(grid)
    assert_close(built(x), loop(built, x, settings.get("projection", "before")))


def test_where_the_projection_stands_changes_the_cost_and_not_the_result():
    x = images((5, 7))
    first, last = (layer("hilo_pooled", (5, 7), projection=p)(x) for p in ("before", "after"))
    assert torch.allclose(first, last, atol=1e-12)


def test_with_a_window_of_one_it_is_hilo():
    x = images((4, 6))
    assert torch.equal(layer("hilo_pooled[window_size=1]", (4, 6))(x), layer("hilo[window_size=1]", (4, 6))(x))


def test_the_low_heads_see_window_means_alone():
    built, x = layer("hilo_pooled[alpha=1]", (4, 6)), images((4, 6))
    moved = x.clone()
    moved[:, 2, 4] += 1
    moved[:, 3, 5] -= 1
    assert torch.allclose(built(moved), built(x), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.5}, "alpha must lie between 0 and 1; got alpha=-0.5"),
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
        ({"projection": "never"}, r"projection must be before or after \(the enlargement\); got projection=never"),
    ],
)
def test_pooled_hilo_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("hilo_pooled", (4, 6), **settings)
