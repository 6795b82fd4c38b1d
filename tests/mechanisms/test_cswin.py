"""CSWin against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def branch(qkv, w, name, heads, h, w_):
    """One image, one branch: [H,W,3,c] and a stripe's height and width to [H,W,c], pixel by pixel."""
    H, W, _, c = qkv.shape
    top, left = -H % h // 2, -W % w_ // 2
    padded = np.zeros((H + -H % h, W + -W % w_, 3, c))
    padded[top : top + H, left : left + W] = qkv
    d, out, kernel = c // heads, np.zeros((H, W, c)), w[f"{name}.get_v.weight"][:, 0]
    for y, z in np.ndindex(H, W):
        i, j = y + top, z + left
        first, start = i // h * h, j // w_ * w_
        stripe = padded[first : first + h, start : start + w_].reshape(-1, 3, c)
        for a in (slice(n * d, (n + 1) * d) for n in range(heads)):
            out[y, z, a] = attention_of_one(qkv[y, z, 0, a], stripe[:, 1, a], stripe[:, 2, a], d**-0.5)
        out[y, z] += w[f"{name}.get_v.bias"]
        for a, b in np.ndindex(3, 3):
            k, m = i + a - 1, j + b - 1
            if first <= k < first + h and start <= m < start + w_:
                out[y, z] += kernel[:, a, b] * padded[k, m, 2]
    return out


def loop(built, x, s, full):
    """Both branches, or the one with all heads."""
    w, heads, (B, H, W, C) = weights(built), built.attns[0].heads, x.shape
    qkv = affine(x.numpy(), w, "qkv").reshape(B, H, W, 3, C)
    if full:
        out = [branch(one, w, "attns.0", heads, H, W) for one in qkv]
    else:
        c = C // 2
        out = [
            np.concatenate(
                [
                    branch(one[..., :c], w, "attns.0", heads, H, s),
                    branch(one[..., c:], w, "attns.1", heads, s, W),
                ],
                axis=-1,
            )
            for one in qkv
        ]
    return affine(np.array(out), w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("split_size", [1, 2, 3, 7])
@pytest.mark.parametrize("grid", GRIDS)
def test_cswin_equals_a_loop_over_pixels(grid, split_size, kernel):
    built, x = layer("cswin", grid, heads=4, kernel=kernel, split_size=split_size), images(grid)
    assert_close(built(x), loop(built, x, split_size, full=max(grid) <= split_size))


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_at_stride_32_all_heads_attend_to_the_whole_map(kernel):
    built, x = layer("cswin", (9, 4), stride=32, kernel=kernel), images((9, 4))
    assert (len(built.attns), built.attns[0].heads) == (1, 3)
    assert_close(built(x), loop(built, x, 7, full=True))


@pytest.mark.parametrize(("stride", "split_size"), [(4, 1), (8, 2), (16, 7)])
def test_the_split_follows_the_stride_as_in_cswin(stride, split_size):
    vertical, horizontal = layer("cswin", (8, 10), heads=4, stride=stride).attns
    assert (vertical.width, horizontal.height) == (split_size, split_size)


def test_a_pixel_reaches_a_cross():
    built, x = layer("cswin[split_size=2]", (4, 6), heads=4), images((4, 6))
    nudged = x.clone()
    nudged[:, 3, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[y, z] for y in range(4) for z in range(6) if y >= 2 or z >= 4]


def test_a_layer_serves_other_grids_than_the_one_it_was_built_for():
    built, x = layer("cswin[split_size=3]", (4, 6), heads=4), images((5, 7))
    assert_close(built(x), loop(built, x, 3, full=False))


def test_cswin_gives_what_the_authors_code_gives():
    for case in golden("cswin"):
        config = case["config"]
        built = layer("cswin", (14, 14), dim=96, heads=config["num_heads"], split_size=config["split_size"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_size": 0}, "split_size must be at least 1; got split_size=0"),
        ({"split_size": 2}, "heads must be even for two branches of stripes; got heads=3, split_size=2, grid=4x6"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_cswin_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("cswin", (4, 6), **settings)
