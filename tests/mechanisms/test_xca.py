"""XCA against a loop over channels, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """Every channel against the channels of its head."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b in range(B):
        qkv = affine(x[b].numpy().reshape(-1, C), w, "qkv")
        q, k = (part / np.sqrt((part**2).sum(0)) for part in (qkv[:, :C], qkv[:, C : 2 * C]))
        for channel in range(C):
            head = channel // d
            others = range(head * d, (head + 1) * d)
            keys, values = np.array([k[:, c] for c in others]), np.array([qkv[:, 2 * C + c] for c in others])
            out[b, :, channel] = attention_of_one(q[:, channel], keys, values, w["temperature"][head, 0, 0])
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("heads", [1, 3, 24])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_xca_equals_a_loop_over_channels(grid, heads, kernel):
    built, x = layer("xca", grid, heads=heads, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_xca_does_not_know_where_a_token_stands():
    built, x = layer("xca", (4, 6)), images((4, 6))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))

    def shuffled(image):
        return image.flatten(1, 2)[:, order].view_as(image)

    assert_close(built(shuffled(x)), shuffled(built(x)).detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_channel_of_zeros_gives_no_nan_in_half_precision(dtype):
    built, x = layer("xca", (4, 6)), images((4, 6)).to(dtype)
    with torch.no_grad():
        built.qkv.weight[0] = built.qkv.bias[0] = 0
    assert built.to(dtype)(x).isfinite().all()


def test_xca_gives_what_the_authors_code_gives():
    for case in golden("xca"):
        assert_golden(layer("xca", (14, 14), dim=96, heads=case["config"]["num_heads"]), case)


def test_xca_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads must divide dim; got heads=5, dim=24"):
        layer("xca", (4, 6), heads=5)
