"""PoolFormer's pooling against a loop over tokens, its laws, its counts, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, assert_close, images, layer

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import Variant


def loop(built, x):
    """Token by token: add up the neighbours that exist, divide by how many they are, take the token away."""
    x, r = x.numpy(), built.pool_size // 2
    _, H, W, _ = x.shape
    out = np.zeros(x.shape)
    for y, z in np.ndindex(H, W):
        near = [(i, j) for i in range(y - r, y + r + 1) for j in range(z - r, z + r + 1) if 0 <= i < H and 0 <= j < W]
        out[:, y, z] = sum(x[:, i, j] for i, j in near) / len(near) - x[:, y, z]
    return out


@pytest.mark.parametrize("pool_size", [3, 5, 9])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1), (1, 5)])
def test_pooling_equals_a_loop_over_tokens(grid, pool_size):
    built, x = layer("poolformer", grid, pool_size=pool_size), images(grid)
    assert_close(built(x), loop(built, x))


def test_an_even_map_gives_nothing_to_its_borders():
    x = torch.full((1, 5, 7, 24), 3.0, dtype=torch.float64)
    assert_close(layer("poolformer", (5, 7))(x), np.zeros((1, 5, 7, 24)))


def test_a_pixel_reaches_the_nine_around_it_and_a_corner_has_four():
    built, x = layer("poolformer", (5, 7)), images((5, 7))
    nudged = x.clone()
    nudged[:, 0, 3] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[i, j] for i in (0, 1) for j in (2, 3, 4)]


@pytest.mark.parametrize(("grid", "tokens"), [((1, 1), 0), ((1, 2), 2), ((5, 7), 4)])
def test_the_declared_reach_of_a_corner_is_what_lies_on_the_map(grid, tokens):
    known, variant = registry.load(entry_points=False), Variant("poolformer")
    reach = known["poolformer"].reach
    assert callable(reach)
    assert len(list(reach(known.size(variant, grid=grid), 0, 0))) == tokens


def test_pooling_gives_what_timm_gives():
    timm = library("timm.models.metaformer")
    built, x = layer("poolformer", (5, 7)), images((5, 7))
    assert_close(built(x), timm.Pooling(3)(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy())


def test_it_has_neither_parameters_nor_products():
    with torch.device("meta"):
        built = layer("poolformer", (14, 14), dim=768, heads=12)
    counts = count(built, torch.empty(1, 14, 14, 768, device="meta", dtype=torch.float64))
    assert (counts.params, counts.macs, counts.macs_fvcore, counts.lower_bound) == (0, 0, 0, False)
    assert not built.state_dict()


@pytest.mark.parametrize("pool_size", [-3, 0, 1, 4])
def test_pooling_refuses_with_the_rule_and_the_values(pool_size):
    with pytest.raises(ValueError, match=f"pool_size must be odd and at least 3; got pool_size={pool_size}"):
        layer("poolformer", (4, 6), pool_size=pool_size)
