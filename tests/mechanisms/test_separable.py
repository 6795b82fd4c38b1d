"""Separable attention against a loop over pixels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, images, layer, weights


def loop(built, x):
    """Pixel by pixel: who shares its place in the patch, what they score, what they say."""
    w, p = weights(built), built.patch_size
    B, H, W, C = x.shape
    qkv, out = affine(x.numpy(), w, "qkv_proj.block.conv"), np.zeros(x.shape)
    for b, y, z in np.ndindex(B, H, W):
        others = [(i, j) for i, j in np.ndindex(H, W) if i % p == y % p and j % p == z % p]
        scores = np.exp([qkv[b, i, j, 0] for i, j in others])
        context = sum(s * qkv[b, i, j, 1 : 1 + C] for s, (i, j) in zip(scores, others, strict=True)) / scores.sum()
        out[b, y, z] = np.maximum(qkv[b, y, z, 1 + C :], 0) * context
    return affine(out, w, "out_proj.block.conv")


@pytest.mark.parametrize("patch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("grid", GRIDS)
def test_separable_attention_equals_a_loop_over_pixels(grid, patch_size):
    built, x = layer("separable", grid, patch_size=patch_size), images(grid)
    assert_close(built(x), loop(built, x))


def test_pixels_of_different_places_in_the_patch_do_not_meet():
    built, x = layer("separable", (5, 7)), images((5, 7))
    nudged = x.clone()
    nudged[:, 1, 2] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[i, j] for i in (1, 3) for j in (0, 2, 4, 6)]


def test_separable_attention_gives_what_timm_gives():
    timm = library("timm.models.mobilevit")
    theirs = timm.LinearTransformerBlock(24).double().eval().attn
    built, x = layer("separable[patch_size=2]", (4, 6)), images((4, 6))
    theirs.load_state_dict({k.replace(".block.conv", ""): v for k, v in built.state_dict().items()})
    patches = x.view(2, 2, 2, 3, 2, 24).permute(0, 5, 2, 4, 1, 3).reshape(2, 24, 4, 6)  # b c (p1 p2) (h w)
    with torch.no_grad():
        y = theirs(patches).view(2, 24, 2, 2, 2, 3).permute(0, 4, 2, 5, 3, 1).reshape(x.shape)
        assert_close(built(x), y.numpy())


def test_separable_attention_refuses_with_the_rule_and_the_values():
    with pytest.raises(ValueError, match="patch_size must be at least 1; got patch_size=0"):
        layer("separable", (4, 6), patch_size=0)
