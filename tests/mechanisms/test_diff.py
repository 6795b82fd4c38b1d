"""Differential attention against a loop over queries, its laws, its refusals, and the published outputs."""

import math

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def normalised(w, y, depth):
    constant = 0.8 - 0.6 * math.exp(-0.3 * depth)
    return (1 - constant) * y / math.sqrt((y**2).mean() + 1e-5) * w["sub_norm.weight"]


def strength(w, depth):
    first, second = (math.exp(w[f"lambda_q{i}"] @ w[f"lambda_k{i}"]) for i in (1, 2))
    return first - second + 0.8 - 0.6 * math.exp(-0.3 * depth)


def loop(built, x, depth):
    w, (B, H, W, C) = weights(built), x.shape
    n, N, out = built.heads, H * W, np.zeros((B, H * W, C))
    d, e = C // n, C // n // 2
    for b, qkv in enumerate(affine(x.numpy().reshape(B, N, C), w, "qkv")):
        for i, m in np.ndindex(N, n):
            c = slice(m * d, (m + 1) * d)
            values = qkv[:, 2 * C :][:, c]
            answers = []
            for one in (slice(2 * m * e, (2 * m + 1) * e), slice((2 * m + 1) * e, (2 * m + 2) * e)):
                answers.append(attention_of_one(qkv[i, :C][one], qkv[:, C : 2 * C][:, one], values, e**-0.5))
            out[b, i, c] = normalised(w, answers[0] - strength(w, depth) * answers[1], depth)
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(("grid", "depth"), list(zip(GRIDS, (0, 5, 11), strict=True)))
def test_differential_attention_equals_a_loop_over_queries(grid, depth, kernel):
    built, x = layer("diff", grid, depth=depth, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x, depth))


def test_the_two_maps_of_a_row_sum_to_one_minus_lambda():
    built, x = layer("diff[depth=5]", (4, 6)), images((4, 6))
    constant, w = x[:, :1, :1].expand_as(x).contiguous(), weights(built)
    v = affine(constant.numpy(), w, "qkv")[..., 48:].reshape(-1, 8) * (1 - strength(w, 5))
    truth = affine(np.array([normalised(w, y, 5) for y in v]).reshape(x.shape), w, "proj")
    assert_close(built(constant), truth)


def test_differential_attention_does_not_know_where_a_token_stands():
    built, x = layer("diff", (4, 6)), images((4, 6))
    assert_close(built(x.flip(1, 2)), built(x).flip(1, 2).detach().numpy())


def test_differential_attention_gives_what_the_published_layer_gives():
    for case in golden("diff"):
        c = case["config"]
        assert_golden(layer("diff", (14, 14), dim=c["dim"], heads=c["num_heads"], depth=c["depth"]), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"heads": 8}, "dim must be a multiple of 2 times heads; got dim=24, heads=8"),
        ({"depth": -1}, "depth must be at least 0, the first layer's; got depth=-1"),
    ],
)
def test_differential_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("diff", (4, 6), **settings)
