"""MaxViT's block attention against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def loop(built, x):
    """Pixel by pixel on the zero-padded map; the window of a pixel is found by asking every other pixel."""
    w, s, n = weights(built), built.window_size, built.heads
    B, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    padded = np.zeros((B, -(-H // s) * s, -(-W // s) * s, C))
    padded[:, :H, :W] = x.numpy()
    qkv = affine(padded, w, "qkv").reshape(*padded.shape[:3], 3, n, d)
    for b, y, z, head in np.ndindex(B, H, W, n):
        keys, values, biases = [], [], []
        for i, j in np.ndindex(*padded.shape[1:3]):
            if i // s != y // s or j // s != z // s:
                continue
            keys.append(qkv[b, i, j, 1, head])
            values.append(qkv[b, i, j, 2, head])
            if built.rel_pos is not None:
                biases.append(w["rel_pos.relative_position_bias_table"][head, i - y + s - 1, j - z + s - 1])
        out[b, y, z, head * d : (head + 1) * d] = attention_of_one(
            qkv[b, y, z, 0, head], np.array(keys), np.array(values), d**-0.5, np.array(biases) if biases else 0.0
        )
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[window_size=2]", "[window_size=3,use_rel_pos=false]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_block_attention_equals_a_loop_over_pixels(grid, settings, kernel):
    built, x = layer(f"maxvit_block{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_without_its_table_it_is_window_attention():
    block, window = (layer(f"{name}[window_size=3]", (5, 7), use_rel_pos=False) for name in ("maxvit_block", "window"))
    window.load_state_dict(block.state_dict())
    assert_close(block(images((5, 7))), window(images((5, 7))).detach().numpy())


def test_block_attention_gives_what_timm_gives():
    timm = library("timm.models.maxxvit")
    cfg = timm.MaxxVitTransformerCfg(dim_head=8, window_size=(3, 3), head_first=False, rel_pos_type="bias_tf")
    theirs = timm.PartitionAttentionCl(24, "block", cfg).double().eval()
    built, x = layer("maxvit_block[window_size=3]", (6, 9)), images((6, 9))
    theirs.attn.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert_close(built(x), theirs._partition_attn(x).numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_block_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("maxvit_block", (4, 6), **settings)
