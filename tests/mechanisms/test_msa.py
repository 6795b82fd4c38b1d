"""MSA against a loop over queries."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """Every query against every key, one head at a time."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b, qkv in enumerate(affine(x.numpy().reshape(B, H * W, C), w, "qkv")):
        for i, row in enumerate(qkv):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                out[b, i, c] = attention_of_one(row[c], qkv[:, C:][:, c], qkv[:, 2 * C :][:, c], d**-0.5)
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("grid", GRIDS)
def test_msa_equals_a_loop_over_queries(grid, kernel):
    built, x = layer("msa", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_msa_does_not_know_where_a_token_stands():
    built, x = layer("msa", (4, 6)), images((4, 6))
    assert np.abs((built(x.flip(1, 2)) - built(x).flip(1, 2)).detach().numpy()).max() < 1e-12


def test_msa_gives_what_the_authors_code_gives():
    for case in golden("msa"):
        assert_golden(layer("msa", (14, 14), dim=96, heads=case["config"]["num_heads"]), case)


def test_msa_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads must divide dim; got heads=5, dim=24"):
        layer("msa", (4, 6), heads=5)
