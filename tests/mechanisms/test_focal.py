"""Focal against a loop over queries and keys, its laws, its refusals, and the authors' output."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x, w, e, f, wrap):
    """Query by query; the keys of each are gathered by walking the padded map."""
    p, (B, H0, W0, C) = weights(built), x.shape
    H, W, h, d = -(-H0 // w) * w, -(-W0 // w) * w, built.heads, C // built.heads
    out = np.zeros((B, H0, W0, C))
    for b in range(B):
        big = np.zeros((H, W, C))
        big[:H0, :W0] = x[b].numpy()
        qkv = affine(big, p, "qkv")
        for y, z in np.ndindex(H0, W0):
            top, left, keys = y // w * w, z // w * w, []
            here = (y - top) * w + z - left
            for i, j in np.ndindex(w, w):
                row = (y - top - i + w - 1) * (2 * w - 1) + z - left - j + w - 1
                keys.append((qkv[top + i, left + j], p["relative_position_bias_table"][row]))
            number = 0
            for up, across in ((e, e), (e, -e), (-e, e), (-e, -e)) if e else ():
                for i, j in np.ndindex(w, w):
                    a, c = i + up, j + across
                    if 0 <= a < w and 0 <= c < w:
                        continue
                    if wrap or (0 <= top + a < H and 0 <= left + c < W):
                        bias = p["relative_position_bias_table_to_neighbors"][0, :, here, number]
                        keys.append((qkv[(top + a) % H, (left + c) % W], bias))
                    number += 1
            for i, j in np.ndindex(f, f):
                a, c = top // w + i - f // 2, left // w + j - f // 2
                if 0 <= a < H // w and 0 <= c < W // w:
                    block = big[a * w : a * w + w, c * w : c * w + w].reshape(w * w, C)
                    summary = p["pool_layers.0.weight"][0] @ block + p["pool_layers.0.bias"]
                    row = (y - top - i + f - 1) * (w + f - 1) + z - left - j + f - 1
                    bias = p["relative_position_bias_table_to_windows.0"][:, row]
                    keys.append((affine(summary, p, "qkv"), bias))
            k, bias = np.array([key for key, _ in keys]), np.array([bias for _, bias in keys])
            for n, c in enumerate(slice(n * d, (n + 1) * d) for n in range(h)):
                q = qkv[y, z, :C][c]
                out[b, y, z, c] = attention_of_one(q, k[:, C:][:, c], k[:, 2 * C :][:, c], d**-0.5, bias[:, n])
    return affine(out, p, "proj")


CASES = [(2, 1, 3, 2), (3, 1, 1, 2), (3, 2, 3, 1), (2, 0, 5, 2), (2, 2, 3, 2)]


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grid", GRIDS)
def test_focal_equals_a_loop_over_queries_and_keys(grid, case, wrap):
    w, e, f, level = case
    settings = {"window_size": w, "expand_size": e, "focal_window": f, "focal_level": level, "wrap": wrap}
    built, x = layer("focal", grid, **settings), images(grid, batch=1)
    truth = loop(built, x, w, e, f if level == 2 else 0, wrap)
    assert_close(built(x), truth)
    assert_close(layer("focal", grid, kernel="sdpa", **settings)(x), truth)


def test_an_image_does_not_know_the_rest_of_its_batch():
    built, x = layer("focal[window_size=3,expand_size=1]", (5, 7)), images((5, 7))
    assert torch.allclose(built(x)[1:], built(x[1:]), atol=1e-13)


def test_the_published_ring_has_132_tokens_of_which_12_come_twice():
    built = layer("focal", (7, 7))
    assert built.relative_position_bias_table_to_neighbors.shape == (1, 3, 49, 132)


@pytest.mark.parametrize(("wrap", "moved_rows"), [(True, {0, 1, 6, 7}), (False, {6, 7})])
def test_only_with_wrapping_does_the_last_row_reach_the_first(wrap, moved_rows):
    built = layer("focal[window_size=2,expand_size=1,focal_level=1]", (8, 2), wrap=wrap)
    x = images((8, 2))
    nudged = x.clone()
    nudged[:, 7] += 1
    moved = (built(nudged) - built(x)).abs().amax((0, 2, 3)) > 1e-12
    rows = set(moved.nonzero().flatten().tolist())
    assert rows == moved_rows


def test_without_ring_and_summaries_windows_are_alone():
    built, x = layer("focal[window_size=2,expand_size=0,focal_level=1]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 3, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_focal_gives_what_the_authors_code_gives():
    for case in golden("focal"):
        c = case["config"]
        built = layer(
            "focal",
            (14, 14),
            dim=96,
            heads=c["num_heads"],
            window_size=c["window_size"],
            expand_size=c["expand_size"],
            focal_window=c["focal_window"],
            focal_level=c["focal_level"],
        )
        ours = {k: v for k, v in built.state_dict().items() if not v.is_floating_point()}
        assert all(torch.equal(v, case["state_dict"][k]) for k, v in ours.items())
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"expand_size": 8}, "expand_size must lie between 0 and window_size; got expand_size=8, window_size=7"),
        ({"focal_window": 4}, "focal_window must be odd and positive; got focal_window=4"),
        ({"focal_level": 3}, "focal_level must be 1 or 2; got focal_level=3"),
    ],
)
def test_focal_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("focal", (4, 6), **settings)
