"""DaViT's channel attention against a loop over channels and timm, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import Variant


def loop(built, x):
    """Every channel of the keys against the values of its group, then a mean of the queries."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b in range(B):
        q, k, v = np.split(affine(x[b].numpy().reshape(-1, C), w, "qkv"), 3, axis=1)
        for channel in range(C):
            group = slice(channel // d * d, channel // d * d + d)
            out[b, :, channel] = attention_of_one(k[:, channel], v[:, group].T, q[:, group].T, d**-0.5)
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("heads", [1, 3, 24])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_channel_attention_equals_a_loop_over_channels(grid, heads, kernel):
    built, x = layer("davit_channel", grid, heads=heads, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_channel_attention_does_not_know_where_a_token_stands():
    built, x = layer("davit_channel", (4, 6)), images((4, 6))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))

    def shuffled(image):
        return image.flatten(1, 2)[:, order].view_as(image)

    assert_close(built(shuffled(x)), shuffled(built(x)).detach().numpy())


def test_groups_do_not_meet_before_the_projection():
    built, x = layer("davit_channel", (5, 7)), images((5, 7))
    with torch.no_grad():
        built.proj.weight.copy_(torch.eye(24))
    before = built(x)
    with torch.no_grad():
        built.qkv.bias.view(3, 3, 8)[:, 1] += 1
    moved = (built(x) != before).flatten(0, 2).any(0)
    assert moved.tolist() == [False] * 8 + [True] * 8 + [False] * 8


def test_channel_attention_gives_what_timm_gives():
    timm = library("timm.models.davit")
    theirs = timm.ChannelAttention(24, num_heads=3, qkv_bias=True).double().eval()
    built, x = layer("davit_channel", (5, 7)), images((5, 7))
    theirs.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert_close(built(x), theirs(x.flatten(1, 2)).view_as(x).numpy())


@pytest.mark.parametrize(("grid", "macs"), [((14, 14), 481_689_600), ((24, 24), 1_415_577_600)])
def test_counts_are_those_of_the_authors_code(grid, macs):
    known, variant = registry.load(entry_points=False), Variant("davit_channel")
    size = known.size(variant, grid=grid)
    counts = count(known.build(variant, size), torch.empty(1, *grid, 768))
    assert (counts.params, counts.macs, counts.macs_fvcore, known["davit_channel"].macs(size)) == (
        2_362_368,
        macs,
        macs,
        macs,
    )


def test_channel_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads must divide dim; got heads=5, dim=24"):
        layer("davit_channel", (4, 6), heads=5)
