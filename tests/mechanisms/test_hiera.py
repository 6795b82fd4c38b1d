"""Mask-unit attention against a loop over tokens, its laws, its refusals, and the authors' outputs."""

import numpy as np
import pytest
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights

from attnbench import registry
from attnbench.registry.variant import Variant


def loop(built, x, unit):
    """Token by token on the map padded with zeros; a unit of 0 is the map."""
    w, (B, H, W, C) = weights(built), x.shape
    height, width = (-(-side // unit) * unit if unit else side for side in (H, W))
    padded, d = np.zeros((B, height, width, C)), C // built.heads
    padded[:, :H, :W] = x.numpy()
    qkv, out = affine(padded, w, "qkv"), np.zeros(x.shape)
    for b, y, z, n in np.ndindex(B, H, W, built.heads):
        rows, columns = (slice(t // unit * unit, t // unit * unit + unit) if unit else slice(None) for t in (y, z))
        q, k, v = (qkv[b, ..., part * C + n * d : part * C + (n + 1) * d] for part in range(3))
        keys, values = (t[rows, columns].reshape(-1, d) for t in (k, v))
        out[b, y, z, n * d : (n + 1) * d] = attention_of_one(q[y, z], keys, values, d**-0.5)
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("mask_unit", [0, 2, 4])
@pytest.mark.parametrize("grid", GRIDS[:2])
def test_mask_unit_attention_equals_a_loop_over_tokens(grid, mask_unit, kernel):
    built, x = layer("hiera", grid, mask_unit=mask_unit, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x, mask_unit))


def test_units_cover_the_same_pixels_at_both_strides_and_then_everything():
    declaration = registry.load()["hiera"]
    assert [declaration.settings_at(stride)["mask_unit"] for stride in (4, 8, 16, 32)] == [8, 4, 0, 0]
    known = registry.load()
    for stride, extent in ((4, "local"), (8, "local"), (16, "global"), (32, "global")):
        assert declaration.extent(known.size(Variant("hiera"), grid=(24, 32), stride=stride)) == extent


def test_the_whole_map_as_a_unit_is_plain_self_attention():
    built, msa, x = layer("hiera", (4, 6)), layer("msa", (4, 6)), images((4, 6))
    msa.load_state_dict(built.state_dict())
    assert_close(built(x), msa(x).detach().numpy(), 0.0)


def test_mask_unit_attention_gives_what_the_authors_code_gives():
    for case in golden("hiera"):
        c = case["config"]
        built = layer("hiera", (16, 16), dim=c["dim"], heads=c["num_heads"], mask_unit=c["mask_unit"])
        assert_golden(built, case, grid=(16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"mask_unit": -1}, "mask_unit must be at least 1, or 0 for the whole map; got mask_unit=-1"),
    ],
)
def test_mask_unit_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("hiera", (4, 6), **settings)
