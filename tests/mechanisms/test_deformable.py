"""Deformable attention against a loop over points, its laws, its refusals, and the authors' outputs."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights

from mechanisms.deformable import ring


def read(image, y, x):
    """Bilinear value of [H,W,D] at row y and column x; what lies outside is zero."""
    total = np.zeros(image.shape[-1])
    for i, j in ((i, j) for i in (math.floor(y), math.floor(y) + 1) for j in (math.floor(x), math.floor(x) + 1)):
        if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
            total += (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return total


def loop(built, x, n_points):
    w, n, out = weights(built), built.heads, np.zeros(x.shape)
    H, W, C = x.shape[1:]
    d = C // n
    for b, image in enumerate(x.numpy()):
        value = affine(image, w, "value_proj")
        offsets = affine(image, w, "sampling_offsets").reshape(H, W, n, n_points, 2)
        chosen = np.exp(affine(image, w, "attention_weights").reshape(H, W, n, n_points))
        for i, j, head in np.ndindex(H, W, n):
            c = slice(head * d, (head + 1) * d)
            for p, (right, down) in enumerate(offsets[i, j, head]):
                share = chosen[i, j, head, p] / chosen[i, j, head].sum()
                out[b, i, j, c] += share * read(value[..., c], i + down, j + right)
    return affine(out, w, "output_proj")


@pytest.mark.parametrize("n_points", [1, 4])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 5)])
def test_deformable_attention_equals_a_loop_over_points(grid, n_points):
    built, x = layer("deformable", grid, n_points=n_points), images(grid)
    assert_close(built(x), loop(built, x, n_points))


def test_offsets_of_whole_tokens_move_the_map():
    built, x = layer("deformable[n_points=1]", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.sampling_offsets.weight.zero_()
        built.sampling_offsets.bias.copy_(torch.tensor([2.0, -1.0]).repeat(3))  # two to the right, one up
        moved, still = built(x), built.output_proj(built.value_proj(x))
    assert_close(moved[:, 1:, :-2], still[:, :-1, 2:].numpy())
    assert_close(moved[:, 0, 0], built.output_proj.bias.detach().expand(2, -1).numpy())


def test_the_first_offsets_are_a_ring_around_the_token():
    first = ring(8, 4).view(8, 4, 2)
    assert torch.allclose(first.abs().amax(-1), torch.arange(1.0, 5.0).expand(8, -1))
    assert torch.allclose(first[[0, 1, 2], 0], torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), atol=1e-6)


def test_deformable_attention_gives_what_the_authors_code_gives():
    for case in golden("deformable"):
        c = case["config"]
        assert_golden(layer("deformable", (14, 14), dim=c["dim"], heads=c["num_heads"], n_points=c["n_points"]), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"n_points": 0}, "n_points must be at least 1; got n_points=0"),
    ],
)
def test_deformable_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("deformable", (4, 6), **settings)
