"""Linear SRA against a loop over queries, its laws, and its refusals."""

from math import erf, sqrt

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def pooled(x, w, p, eps=1e-5):
    """One image's p x p tokens: each cell's mean, 1 x 1 convolution, LayerNorm, exact GELU."""
    H, W, _ = x.shape
    tokens = []
    for i, j in np.ndindex(p, p):
        rows, columns = (range(k * n // p, -(-(k + 1) * n // p)) for k, n in ((i, H), (j, W)))
        mean = np.mean([x[a, b] for a in rows for b in columns], axis=0)
        token = affine(mean, w, "sr")
        token = (token - token.mean()) / np.sqrt(token.var() + eps) * w["norm.weight"] + w["norm.bias"]
        tokens.append([t * (1 + erf(t / sqrt(2))) / 2 for t in token])
    return np.array(tokens)


def loop(built, x):
    """Every query against every pooled token, one head at a time."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros(x.shape)
    for b in range(B):
        kv, q = affine(pooled(x[b].numpy(), w, built.pool_size), w, "kv"), affine(x[b].numpy(), w, "q")
        for y, z in np.ndindex(H, W):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                out[b, y, z, c] = attention_of_one(q[y, z, c], kv[:, c], kv[:, C:][:, c], d**-0.5)
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("pool_size", [1, 3, 7])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_linear_sra_equals_a_loop_over_queries(grid, pool_size, kernel):
    built, x = layer("linear_sra", grid, kernel=kernel, pool_size=pool_size), images(grid)
    assert_close(built(x), loop(built, x))


def test_pooling_to_one_token_gives_every_token_the_same():
    y = layer("linear_sra[pool_size=1]", (4, 6))(images((4, 6)))
    assert (y - y[:, :1, :1]).abs().max() < 1e-12


def test_mirroring_the_map_mirrors_the_result():
    built, x = layer("linear_sra[pool_size=3]", (5, 7)), images((5, 7))
    assert_close(built(x.flip(1, 2)), built(x).flip(1, 2).detach().numpy())


def test_linear_sra_gives_what_the_authors_code_gives():
    for case in golden("linear_sra"):
        config = case["config"]
        built = layer("linear_sra", (14, 14), dim=96, heads=config["num_heads"], pool_size=config["pool"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool_size": 0}, "pool_size must be at least 1; got pool_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_linear_sra_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("linear_sra", (4, 6), **settings)
