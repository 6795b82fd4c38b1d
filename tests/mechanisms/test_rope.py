"""Attention with rotary positions against a loop over queries, its laws, its refusals, and the authors' outputs."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights

from mechanisms.rope import rotate, rotations


def rotated(vector, y, x, base):
    """One query or key [D], pair by pair, as complex numbers."""
    half, out = len(vector) // 2, np.zeros(len(vector))
    for m in range(half):
        place, k = (y, m) if m < half // 2 else (x, m - half // 2)
        turned = complex(vector[m], vector[m + half]) * np.exp(2j * math.pi * place / base ** (2 * k / half))
        out[m], out[m + half] = turned.real, turned.imag
    return out


def loop(built, x, base, sides):
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    places = [(2 * (i + 0.5) / sides[0] - 1, 2 * (j + 0.5) / sides[1] - 1) for i, j in np.ndindex(H, W)]
    w["qkv.bias"] = np.concatenate([w["qkv.bias"][:C], np.zeros(C), w["qkv.bias"][2 * C :]])
    for b, qkv in enumerate(affine(x.numpy().reshape(B, H * W, C), w, "qkv")):
        for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
            queries, keys = (
                np.array([rotated(t, *place, base) for t, place in zip(part[:, c], places, strict=True)])
                for part in (qkv[:, :C], qkv[:, C : 2 * C])
            )
            for i, q in enumerate(queries):
                out[b, i, c] = attention_of_one(q, keys, qkv[:, 2 * C :][:, c], d**-0.5)
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("grid", GRIDS)
def test_rotary_attention_equals_a_loop_over_queries(grid, kernel):
    built, x = layer("rope", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x, 100.0, grid))


@pytest.mark.parametrize(("normalize_coords", "sides"), [("max", (6, 6)), ("min", (4, 4))])
def test_both_axes_can_be_measured_by_one_side(normalize_coords, sides):
    built, x = layer("rope", (4, 6), base=30.0, normalize_coords=normalize_coords), images((4, 6))
    assert_close(built(x), loop(built, x, 30.0, sides))


def test_a_product_of_query_and_key_depends_on_how_far_apart_they_stand_alone():
    table = rotations(4, 6, 8, 100.0, "separate", torch.device("cpu"), torch.float64)
    q, k = (t.expand(24, 8) for t in images((1, 2), dim=8)[0, 0])
    logits = (rotate(q, table) @ rotate(k, table).T).view(4, 6, 4, 6)
    assert torch.allclose(logits[:-1, :-1, :-1, :-1], logits[1:, 1:, 1:, 1:], atol=1e-12)
    assert not torch.allclose(logits[0, 0], logits[1, 1], atol=1e-3)


def test_the_bias_of_the_keys_changes_nothing():
    built, x = layer("rope", (4, 6)), images((4, 6))
    before = built(x).detach().numpy()
    with torch.no_grad():
        built.qkv.bias[24:48] += 1
    assert_close(built(x), before, 0.0)


def test_rotary_attention_gives_what_the_authors_code_gives():
    for case in golden("rope"):
        c = case["config"]
        settings = {"base": c["base"], "normalize_coords": c["normalize_coords"]}
        assert_golden(layer("rope", (14, 14), dim=c["dim"], heads=c["num_heads"], **settings), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 4}, "dim must be a multiple of 4 times heads; got dim=24, heads=4"),
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"base": 0.0}, "base must be above 0; got base=0.0"),
        ({"normalize_coords": "mean"}, "normalize_coords must be one of separate, max, min; got normalize_coords=mean"),
    ],
)
def test_rotary_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("rope", (4, 6), **settings)
