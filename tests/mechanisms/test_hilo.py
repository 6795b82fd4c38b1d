"""HiLo against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """HiLo pixel by pixel on the zero-padded map."""
    w, s, x = weights(built), built.window_size, x.numpy()
    B, H0, W0, C = x.shape
    H, W = -(-H0 // s) * s, -(-W0 // s) * s
    padded = np.zeros((B, H, W, C))
    padded[:, :H0, :W0] = x
    out = np.zeros((B, H0, W0, C))
    d = C // (built.low_heads + built.high_heads)
    Ch = built.high_heads * d
    for b in range(B):
        means = [padded[b, i : i + s, j : j + s].mean((0, 1)) for i in range(0, H, s) for j in range(0, W, s)]
        for y in range(H0):
            for z in range(W0):
                if built.high_heads:
                    qkv = affine(padded[b], w, "h_qkv")
                    top, left = y // s * s, z // s * s
                    block = qkv[top : top + s, left : left + s].reshape(s * s, -1)
                    heads = [
                        attention_of_one(qkv[y, z, c], block[:, Ch:][:, c], block[:, 2 * Ch :][:, c], d**-0.5)
                        for c in (slice(n * d, (n + 1) * d) for n in range(built.high_heads))
                    ]
                    out[b, y, z, :Ch] = affine(np.concatenate(heads), w, "h_proj")
                if built.low_heads:
                    q, kv = affine(padded[b, y, z], w, "l_q"), affine(np.array(means), w, "l_kv")
                    heads = [
                        attention_of_one(q[c], kv[:, c], kv[:, C - Ch :][:, c], d**-0.5)
                        for c in (slice(n * d, (n + 1) * d) for n in range(built.low_heads))
                    ]
                    out[b, y, z, Ch:] = affine(np.concatenate(heads), w, "l_proj")
    return out


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[alpha=0]", "[alpha=1]", "[window_size=1]", "[window_size=4,alpha=0.5]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_hilo_equals_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer(f"hilo{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_only_its_own_window_through_the_fine_heads():
    built, x = layer("hilo[alpha=0]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 3, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_a_window_of_one_ignores_alpha():
    assert layer("hilo[window_size=1,alpha=0.2]", (4, 6)).high_heads == 0


def test_hilo_gives_what_the_authors_code_gives():
    for case in golden("hilo"):
        config = case["config"]
        built = layer(
            "hilo",
            (14, 14),
            dim=96,
            heads=config["num_heads"],
            window_size=config["window_size"],
            alpha=config["alpha"],
        )
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie between 0 and 1; got alpha=1.5"),
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_hilo_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("hilo", (4, 6), **settings)
