"""W-MSA against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """Window by window on the zero-padded map, one query and one head at a time."""
    w, s, n = weights(built), built.window_size, built.heads
    B, H0, W0, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    padded = np.zeros((B, -(-H0 // s) * s, -(-W0 // s) * s, C))
    padded[:, :H0, :W0] = x.numpy()
    qkv = affine(padded, w, "qkv")
    for b, y, z in np.ndindex(B, H0, W0):
        places = [(i, j) for i in range(y // s * s, y // s * s + s) for j in range(z // s * s, z // s * s + s)]
        block = np.array([qkv[b, i, j] for i, j in places])
        for head in range(n):
            c, bias = slice(head * d, (head + 1) * d), 0.0
            if built.use_rel_pos:
                table = w["relative_position_bias_table"][:, head].reshape(2 * s - 1, 2 * s - 1)
                bias = np.array([table[y - i + s - 1, z - j + s - 1] for i, j in places])
            out[b, y, z, c] = attention_of_one(
                qkv[b, y, z, c], block[:, C:][:, c], block[:, 2 * C :][:, c], d**-0.5, bias
            )
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[window_size=2]", "[window_size=3,use_rel_pos=true]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_window_attention_equals_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer(f"window{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_only_its_own_window():
    built, x = layer("window[window_size=2,use_rel_pos=true]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 3, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_moving_the_map_by_a_window_moves_the_result():
    built, x = layer("window[window_size=2,use_rel_pos=true]", (4, 6)), images((4, 6))
    assert_close(built(x.roll((2, 4), (1, 2))), built(x).roll((2, 4), (1, 2)).detach().numpy())


def test_a_window_of_one_is_two_linear_layers():
    built, x = layer("window[window_size=1]", (5, 7)), images((5, 7))
    w = weights(built)
    assert_close(built(x), affine(affine(x.numpy(), w, "qkv")[..., 48:], w, "proj"))


def test_window_attention_gives_what_the_authors_code_gives():
    for case in golden("window"):
        config = case["config"]
        built = layer(
            "window",
            (14, 14),
            dim=96,
            heads=config["num_heads"],
            window_size=config["window_size"],
            use_rel_pos=config["rel_pos"],
        )
        assert torch.equal(built.relative_position_index, case["state_dict"]["relative_position_index"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_window_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("window", (4, 6), **settings)
