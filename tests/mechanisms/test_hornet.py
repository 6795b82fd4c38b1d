"""HorNet against a loop over pixels, its laws, its refusals, and the authors' output."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights


def loop(built, x):
    """Pixel by pixel, with the products written out."""
    w, (H, W, C) = weights(built), x.shape[1:]
    orders = sum(key.startswith("pws.") and key.endswith("weight") for key in w) + 1
    d = [C // 2**i for i in reversed(range(orders))]
    out = np.zeros(x.shape)
    for b, image in enumerate(x.numpy()):
        both = affine(image, w, "proj_in")
        rest = np.zeros((H + 6, W + 6, sum(d)))
        rest[3:-3, 3:-3] = both[..., d[0] :]
        for y in range(H):
            for z in range(W):
                around = np.einsum("ijc,cij->c", rest[y : y + 7, z : z + 7], w["dwconv.weight"][:, 0])
                gate = (around + w["dwconv.bias"]) / 3
                value, start = both[y, z, : d[0]] * gate[: d[0]], d[0]
                for i in range(1, orders):
                    value = affine(value, w, f"pws.{i - 1}") * gate[start : start + d[i]]
                    start += d[i]
                out[b, y, z] = affine(value, w, "proj_out")
    return out


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_hornet_equals_a_loop_over_pixels(grid, order):
    built, x = layer("hornet", grid, order=order), images(grid)
    assert_close(built(x), loop(built, x))


def test_without_biases_the_output_is_of_degree_order_plus_one():
    built, x = layer("hornet", (5, 7)), images((5, 7))
    with torch.no_grad():
        for name, p in built.named_parameters():
            if name.endswith("bias"):
                p.zero_()
    assert torch.allclose(built(2 * x), 2**5 * built(x), rtol=1e-12)


def test_the_order_follows_the_stride():
    assert [len(layer("hornet", (4, 6), dim=48, stride=s).dims) for s in (4, 8, 16, 32)] == [2, 3, 4, 5]


def test_hornet_gives_what_the_authors_code_gives():
    for case in golden("hornet"):
        config = case["config"]
        assert_golden(layer("hornet", (14, 14), dim=96, order=config["order"], s=config["scale"]), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 0}, "order must be at least 1; got order=0"),
        ({"order": 5}, r"2\^\(order-1\) must divide dim; got order=5, dim=24"),
        ({"s": 0.0}, "s must be positive; got s=0.0"),
    ],
)
def test_hornet_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("hornet", (4, 6), **settings)
