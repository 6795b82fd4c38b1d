"""MaxViT's grid attention against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def loop(built, x):
    """Pixel by pixel on the zero-padded map; partners are the pixels at the same place of their cells."""
    w, g, n = weights(built), built.grid_size, built.heads
    B, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    cell_h, cell_w = -(-H // g), -(-W // g)
    padded = np.zeros((B, g * cell_h, g * cell_w, C))
    padded[:, :H, :W] = x.numpy()
    qkv = affine(padded, w, "qkv").reshape(*padded.shape[:3], 3, n, d)
    for b, y, z, head in np.ndindex(B, H, W, n):
        keys, values, biases = [], [], []
        for i, j in np.ndindex(*padded.shape[1:3]):
            if (i - y) % cell_h or (j - z) % cell_w:
                continue
            keys.append(qkv[b, i, j, 1, head])
            values.append(qkv[b, i, j, 2, head])
            if built.rel_pos is not None:
                place = (i - y) // cell_h + g - 1, (j - z) // cell_w + g - 1
                biases.append(w["rel_pos.relative_position_bias_table"][head, *place])
        assert len(keys) == g * g
        out[b, y, z, head * d : (head + 1) * d] = attention_of_one(
            qkv[b, y, z, 0, head], np.array(keys), np.array(values), d**-0.5, np.array(biases) if biases else 0.0
        )
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[grid_size=2]", "[grid_size=3,use_rel_pos=false]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_grid_attention_equals_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer(f"maxvit_grid{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_one_token_of_each_cell():
    built, x = layer("maxvit_grid[grid_size=2]", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[:, 3, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[1, 2], [1, 5], [3, 2], [3, 5]]


def test_on_one_cell_per_token_it_is_block_attention():
    grid, block = layer("maxvit_grid[grid_size=4]", (4, 4)), layer("maxvit_block[window_size=4]", (4, 4))
    assert_close(grid(images((4, 4))), block(images((4, 4))).detach().numpy())


def test_grid_attention_gives_what_timm_gives():
    timm = library("timm.models.maxxvit")
    cfg = timm.MaxxVitTransformerCfg(dim_head=8, grid_size=(3, 3), head_first=False, rel_pos_type="bias_tf")
    theirs = timm.PartitionAttentionCl(24, "grid", cfg).double().eval()
    built, x = layer("maxvit_grid[grid_size=3]", (6, 9)), images((6, 9))
    theirs.attn.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert_close(built(x), theirs._partition_attn(x).numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid_size": 0}, "grid_size must be at least 1; got grid_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_grid_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("maxvit_grid", (4, 6), **settings)
