"""SW-MSA against a loop over pixels, its laws, and its refusals."""

from itertools import pairwise

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def cuts(length, s, shift):
    """Where the shifted windows cut an axis: before shift, then every s; not shifted when one window covers it."""
    first = shift if length > s else 0
    return [*([0] if first else []), *range(first, length, s), length]


def segment(place, edges):
    """The places of the piece in which `place` lies."""
    return next(range(a, b) for a, b in pairwise(edges) if a <= place < b)


def loop(built, x):
    """Every query against the keys of its own piece of the zero-padded map; nothing is rolled."""
    w, s, n = weights(built), built.window_size, built.heads
    B, H0, W0, C = x.shape
    H, W = -(-H0 // s) * s, -(-W0 // s) * s
    d, out = C // n, np.zeros(x.shape)
    padded = np.zeros((B, H, W, C))
    padded[:, :H0, :W0] = x.numpy()
    qkv = affine(padded, w, "qkv")
    for b, y, z in np.ndindex(B, H0, W0):
        rows, columns = segment(y, cuts(H, s, built.shift_size)), segment(z, cuts(W, s, built.shift_size))
        places = [(i, j) for i in rows for j in columns]
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
@pytest.mark.parametrize(
    "settings",
    [
        "",
        "[window_size=2,shift_size=1]",
        "[window_size=3,shift_size=2,use_rel_pos=true]",
        "[window_size=2,shift_size=0]",
    ],
)
@pytest.mark.parametrize("grid", GRIDS)
def test_shifted_windows_equal_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer(f"shifted_window{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_the_window_around_a_corner_of_four_windows():
    built, x = layer("shifted_window[window_size=2,shift_size=1]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 1, 2] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_opposite_corners_share_a_rolled_window_and_do_not_meet():
    built, x = layer("shifted_window[window_size=2,shift_size=1]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 0, 0] += 1
    assert (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize("grid", [(7, 7), (4, 6)])
def test_one_window_is_not_shifted(grid):
    plain, shifted, x = layer("window", grid), layer("shifted_window", grid), images(grid)
    assert_close(shifted(x), plain(x).detach().numpy())


def test_shifted_windows_give_what_the_authors_code_gives():
    for case in golden("shifted_window"):
        config = case["config"]
        built = layer(
            "shifted_window",
            (14, 14),
            dim=96,
            heads=config["num_heads"],
            window_size=config["window_size"],
            shift_size=config["shift_size"],
            use_rel_pos=config["rel_pos"],
        )
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 2}, "shift_size must lie between 0 and window_size - 1; got shift_size=3, window_size=2"),
        ({"shift_size": -1}, "shift_size must lie between 0 and window_size - 1; got shift_size=-1, window_size=7"),
        ({"window_size": 0, "shift_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_shifted_windows_refuse_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("shifted_window", (4, 6), **settings)
