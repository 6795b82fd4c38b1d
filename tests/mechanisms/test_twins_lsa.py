"""LSA against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """Every query against the keys of its window that lie on the map."""
    w, s, n = weights(built), built.window_size, built.heads
    B, H, W, C = x.shape
    d, out, qkv = C // n, np.zeros(x.shape), affine(x.numpy(), w, "qkv")
    for b, y, z in np.ndindex(B, H, W):
        top, left = y // s * s, z // s * s
        block = qkv[b, top : top + s, left : left + s].reshape(-1, 3 * C)
        for c in (slice(k * d, (k + 1) * d) for k in range(n)):
            out[b, y, z, c] = attention_of_one(qkv[b, y, z, c], block[:, C:][:, c], block[:, 2 * C :][:, c], d**-0.5)
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("window_size", [1, 2, 3, 7])
@pytest.mark.parametrize("grid", [*GRIDS, (6, 7), (1, 1)])
def test_lsa_equals_a_loop_over_pixels(grid, window_size, kernel):
    built, x = layer("twins_lsa", grid, kernel=kernel, window_size=window_size), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_only_its_own_window():
    built, x = layer("twins_lsa[window_size=3]", (5, 7)), images((5, 7))
    nudged = x.clone()
    nudged[:, 4, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[3, 3], [3, 4], [3, 5], [4, 3], [4, 4], [4, 5]]


def test_one_window_over_a_smaller_map_is_msa():
    lsa, msa, x = layer("twins_lsa", (4, 6)), layer("msa", (4, 6)), images((4, 6))
    msa.load_state_dict(lsa.state_dict())
    assert_close(lsa(x), msa(x).detach().numpy())


def test_lsa_gives_what_the_authors_code_gives():
    for case in golden("twins_lsa"):
        config = case["config"]
        built = layer("twins_lsa", (14, 14), dim=96, heads=config["num_heads"], window_size=config["window_size"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_lsa_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("twins_lsa", (4, 6), **settings)
