"""Neighborhood attention with a stride against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import parse_variant


def line(place, side, k, s, step):
    """The keys of a token along an axis, by the published rule; a run that k does not fit into is its own kernel."""
    k = min(k, max(side // step, 1))
    s = min(s, k)
    run = [i for i in range(side) if i % step == place % step]
    leader = min(s * (place // step // s) + s // 2, len(run) - 1)
    low, high = k // 2, len(run) - 1 - k // 2 + (k % 2 == 0)
    center = min(max(leader, low), high)
    return run[center - k // 2 : center + (k - 1) // 2 + 1]


def loop(built, x):
    """Every token against the square of its block."""
    w, n = weights(built), built.heads
    settings = built.kernel_size, built.window_stride, built.dilation
    B, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    qkv = affine(x.numpy(), w, "qkv").reshape(B, H, W, 3, n, d)
    for b, y, z, head in np.ndindex(B, H, W, n):
        square = [(i, j) for i in line(y, H, *settings) for j in line(z, W, *settings)]
        k, v = (np.array([qkv[b, i, j, which, head] for i, j in square]) for which in (1, 2))
        out[b, y, z, head * d : (head + 1) * d] = attention_of_one(qkv[b, y, z, 0, head], k, v, d**-0.5)
    return affine(out, w, "proj")


@pytest.mark.parametrize(
    ("grid", "settings", "kernel"),
    [
        *((grid, "[kernel_size=3]", "eager") for grid in (*GRIDS, (1, 1))),
        ((9, 8), "", "sdpa"),
        ((9, 10), "[kernel_size=4,window_stride=3]", "eager"),
        ((11, 7), "[kernel_size=3,window_stride=2,dilation=2]", "eager"),
        ((5, 7), "[kernel_size=5,window_stride=5,dilation=3]", "eager"),
    ],
)
def test_neighborhood_attention_with_a_stride_equals_a_loop_over_tokens(grid, settings, kernel):
    built, x = layer(f"neighborhood_stride{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_neighborhood_stride_gives_what_the_authors_code_gives():
    for case in golden("neighborhood_stride"):
        c = case["config"]
        settings = {"kernel_size": c["kernel_size"][0], "window_stride": c["stride"][0], "dilation": c["dilation"][0]}
        assert_golden(layer("neighborhood_stride", (14, 14), dim=96, heads=c["num_heads"], **settings), case)


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ("[kernel_size=3,window_stride=1]", "neighborhood[kernel_size=3,rel_pos_bias=false]"),
        ("[kernel_size=3,window_stride=3]", "window[window_size=3]"),
    ],
)
def test_a_stride_of_one_slides_and_a_stride_of_the_kernel_makes_windows(settings, same):
    built, other, x = layer(f"neighborhood_stride{settings}", (6, 9)), layer(same, (6, 9)), images((6, 9))
    other.load_state_dict(built.state_dict())
    assert_close(built(x), other(x).detach().numpy())


def test_a_block_shares_its_square_which_moves_inwards_at_the_border():
    built, x = layer("neighborhood_stride[kernel_size=4]", (6, 8)), images((6, 8)).requires_grad_()
    for place in ((4, 6), (5, 7)):
        (grad,) = torch.autograd.grad(built(x)[0][place].square().sum(), x)
        assert grad[0].abs().sum(-1).nonzero().tolist() == [[i, j] for i in range(2, 6) for j in range(4, 8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be at least 1; got kernel_size=0"),
        ({"window_stride": 0}, "window_stride must be from 1 to kernel_size; got window_stride=0, kernel_size=7"),
        ({"window_stride": 8}, "window_stride must be from 1 to kernel_size; got window_stride=8, kernel_size=7"),
        ({"dilation": 0}, "dilation must be at least 1; got dilation=0"),
    ],
)
def test_neighborhood_stride_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("neighborhood_stride", (4, 6), **settings)


@pytest.mark.parametrize(("side", "expected"), [(14, 477_173_760), (24, 1_402_306_560), (64, 9_971_957_760)])
def test_the_stride_changes_no_count_where_it_divides_the_map(side, expected):
    known = registry.load(entry_points=False)
    for stride in (1, 2):
        variant = known.check(parse_variant("neighborhood_stride").having(window_stride=stride))
        size = known.size(variant, grid=(side, side))
        with torch.device("meta"):
            built = known.build(variant, size)
            counts = count(built, torch.empty(1, side, side, 768))
        formula = known["neighborhood_stride"].macs(size)
        assert (counts.params, counts.macs, formula) == (2_362_368, expected, expected)
