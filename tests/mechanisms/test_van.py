"""VAN against a loop over pixels and taps, its laws, and the authors' output."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights


def gelu(x):
    return np.vectorize(lambda t: t * 0.5 * (1 + math.erf(t / math.sqrt(2))))(x)


def taps(x, w, name, dilation):
    """One filter per channel, pixel by pixel and tap by tap; zeros beyond the border."""
    (H, W, _), kernel = x.shape, w[f"{name}.weight"]
    middle, out = kernel.shape[-1] // 2, np.zeros_like(x)
    for y in range(H):
        for z in range(W):
            out[y, z] = w[f"{name}.bias"]
            for i in range(kernel.shape[-1]):
                for j in range(kernel.shape[-1]):
                    a, b = y + dilation * (i - middle), z + dilation * (j - middle)
                    if 0 <= a < H and 0 <= b < W:
                        out[y, z] += x[a, b] * kernel[:, 0, i, j]
    return out


def loop(built, x):
    w, out = weights(built), np.zeros(x.shape)
    for b, image in enumerate(x.numpy()):
        g = gelu(affine(image, w, "proj_1"))
        near = taps(g, w, "spatial_gating_unit.conv0", 1)
        far = taps(near, w, "spatial_gating_unit.conv_spatial", 3)
        out[b] = image + affine(g * affine(far, w, "spatial_gating_unit.conv1"), w, "proj_2")
    return out


@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_van_equals_a_loop_over_taps(grid):
    built, x = layer("van", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_pixel_reaches_eleven_rows_and_no_further():
    built, x = layer("van", (15, 2)), images((15, 2))
    nudged = x.clone()
    nudged[:, 0, 0] += 1
    moved = (built(nudged) - built(x)).abs().amax((0, 2, 3)) > 1e-12
    assert moved.tolist() == [True] * 12 + [False] * 3


def test_a_closed_gate_leaves_the_residual():
    built, x = layer("van", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.spatial_gating_unit.conv1.weight.zero_()
        built.spatial_gating_unit.conv1.bias.zero_()
        built.proj_2.bias.zero_()
    assert torch.equal(built(x), x)


def test_van_gives_what_the_authors_code_gives():
    for case in golden("van"):
        assert_golden(layer("van", (14, 14), dim=96), case)
