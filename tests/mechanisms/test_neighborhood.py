"""Neighborhood attention against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights

from attnbench.registry import build


def line(place, side, k, step):
    """The k places of a line nearest to `place` in its own residue class; earlier ones win where two are as near."""
    k = min(k, max(side // step, 1))
    own = [i for i in range(side) if i % step == place % step]
    return sorted(sorted(own, key=lambda i: (abs(i - place), i))[:k])


def loop(built, x):
    """Every token against the tokens nearest to it, found by sorting distances."""
    w, n, K, step = weights(built), built.heads, built.kernel_size, built.dilation
    B, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    qkv = affine(x.numpy(), w, "qkv").reshape(B, H, W, 3, n, d)
    for b, y, z, head in np.ndindex(B, H, W, n):
        square = [(i, j) for i in line(y, H, K, step) for j in line(z, W, K, step)]
        biases = 0.0
        if "rpb" in w:
            biases = np.array([w["rpb"][head, (i - y) // step + K - 1, (j - z) // step + K - 1] for i, j in square])
        out[b, y, z, head * d : (head + 1) * d] = attention_of_one(
            qkv[b, y, z, 0, head],
            np.array([qkv[b, i, j, 1, head] for i, j in square]),
            np.array([qkv[b, i, j, 2, head] for i, j in square]),
            d**-0.5,
            biases,
        )
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "settings",
    ["", "[kernel_size=3]", "[kernel_size=1]", "[kernel_size=3,dilation=2]", "[kernel_size=5,rel_pos_bias=false]"],
)
@pytest.mark.parametrize("grid", [*GRIDS, (1, 3)])
def test_neighborhood_attention_equals_a_loop_over_tokens(grid, settings, kernel):
    built, x = layer(f"neighborhood{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_at_the_border_the_square_moves_inwards():
    built, x = layer("neighborhood[kernel_size=3]", (5, 7)), images((5, 7)).requires_grad_()
    (grad,) = torch.autograd.grad(built(x)[0, 0, 6].square().sum(), x)
    assert grad[0].abs().sum(-1).nonzero().tolist() == [[i, j] for i in (0, 1, 2) for j in (4, 5, 6)]


def test_a_kernel_as_large_as_the_map_is_plain_attention():
    near, msa = layer("neighborhood[rel_pos_bias=false]", (4, 6)), layer("msa", (4, 6))
    msa.load_state_dict(near.state_dict())
    assert_close(near(images((4, 6))), msa(images((4, 6))).detach().numpy())


def test_no_tensor_of_a_call_is_larger_than_the_queries_keys_and_values():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.numel = max(self.numel, result.numel())
            return result

    with torch.device("meta"):
        built, x = build("neighborhood", dim=24, heads=3, grid=(30, 40)), torch.empty(2, 30, 40, 24)
        with Largest() as largest:
            built(x)
    assert largest.numel == 3 * 2 * 30 * 40 * 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got kernel_size=4"),
        ({"kernel_size": -1}, "kernel_size must be odd and at least 1; got kernel_size=-1"),
        ({"dilation": 0}, "dilation must be at least 1; got dilation=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_neighborhood_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("neighborhood", (4, 6), **settings)
