"""Decomposed relative bias against a loop over pairs of tokens, its laws, its refusals, and the authors' outputs."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def stretched(table, length):
    """A table [L,D] read at `length` places: linear between centres, constant beyond the outer ones."""
    old, out = len(table), []
    for i in range(length):
        at = min(max((i + 0.5) * old / length - 0.5, 0), old - 1)
        low = int(at)
        high = min(low + 1, old - 1)
        out.append(table[low] * (low + 1 - at) + table[high] * (at - low))
    return np.array(out)


def attended(w, x, heads):
    """One image or window, every query against every key."""
    (H, W, C), out = x.shape, np.zeros(x.shape)
    qkv, d = affine(x, w, "qkv").reshape(H, W, 3, heads, -1), C // heads
    by_row, by_column = stretched(w["rel_pos_h"], 2 * H - 1), stretched(w["rel_pos_w"], 2 * W - 1)
    for y, z, n in np.ndindex(H, W, heads):
        q, keys, values = qkv[y, z, 0, n], qkv[:, :, 1, n].reshape(-1, d), qkv[:, :, 2, n].reshape(-1, d)
        bias = [q @ by_row[y - i + H - 1] + q @ by_column[z - j + W - 1] for i, j in np.ndindex(H, W)]
        out[y, z, n * d : (n + 1) * d] = attention_of_one(q, keys, values, d**-0.5, np.array(bias))
    return out


def loop(built, x, window):
    w, (B, H, W, C) = weights(built), x.shape
    h, z = (window, window) if window else (H, W)
    padded = np.zeros((B, -(-H // h) * h, -(-W // z) * z, C))
    padded[:, :H, :W] = x.numpy()
    out = np.zeros(padded.shape)
    for b, top, left in np.ndindex(B, padded.shape[1] // h, padded.shape[2] // z):
        place = (b, slice(top * h, top * h + h), slice(left * z, left * z + z))
        out[place] = attended(w, padded[place], built.heads)
    return affine(out[:, :H, :W], w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("window_size", [0, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_decomposed_bias_equals_a_loop_over_pairs(grid, window_size, kernel):
    built, x = layer("decomposed_bias", grid, window_size=window_size, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x, window_size))


def test_a_layer_built_for_one_grid_stretches_its_tables_over_another():
    built, x = layer("decomposed_bias", (4, 6)), images((5, 3), batch=1)
    assert (built.rel_pos_h.shape, built.rel_pos_w.shape) == ((7, 8), (11, 8))
    assert_close(built(x), loop(built, x, 0))


def test_tables_with_one_row_throughout_change_nothing():
    built, msa, x = layer("decomposed_bias", (4, 6)), layer("msa", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.rel_pos_h.copy_(built.rel_pos_h[:1].expand(7, -1))
        built.rel_pos_w.copy_(built.rel_pos_w[:1].expand(11, -1))
    msa.load_state_dict({name: t for name, t in built.state_dict().items() if "rel_pos" not in name})
    assert_close(built(x), msa(x).detach().numpy(), 1e-12)


def test_decomposed_bias_gives_what_the_authors_code_gives():
    for case in golden("decomposed_bias"):
        c = case["config"]
        assert_golden(layer("decomposed_bias", (14, 14), dim=c["dim"], heads=c["num_heads"]), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"window_size": -1}, "window_size must be at least 1, or 0 for the whole map; got window_size=-1"),
    ],
)
def test_decomposed_bias_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("decomposed_bias", (4, 6), **settings)
