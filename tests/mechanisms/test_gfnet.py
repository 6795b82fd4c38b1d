"""The global filter against a loop over pixels and frequencies, its laws, its counts, and its refusals."""

import copy

import numpy as np
import pytest
import torch
from truth import GRIDS, assert_close, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count


def loop(built, x):
    """Frequency by frequency: how much of the wave is in the map, times the filter, and the wave added up."""
    w, x = weights(built)["complex_weight"], x.numpy()
    _, H, W, _ = x.shape
    rows, columns = np.mgrid[:H, :W]
    out = np.zeros(x.shape)
    for u, v in np.ndindex(H, W // 2 + 1):
        wave = np.exp(2j * np.pi * (u * rows / H + v * columns / W))[None, :, :, None]
        amount = (x * wave.conj()).sum((1, 2), keepdims=True) * (w[u, v, :, 0] + 1j * w[u, v, :, 1])
        twice = 1 if v == 0 or 2 * v == W else 2  # the other half of the plane holds the conjugates
        out += twice * (amount * wave).real / (H * W)
    return out


@pytest.mark.parametrize("grid", [*GRIDS, (7, 5), (1, 1), (1, 6), (3, 1)])
def test_the_filter_equals_a_loop_over_frequencies(grid):
    built, x = layer("gfnet", grid), images(grid)
    assert_close(built(x), loop(built, x))


@pytest.mark.parametrize("grid", [(4, 6), (5, 7)])
def test_a_map_that_is_moved_around_gives_the_output_moved_around(grid):
    built, x = layer("gfnet", grid), images(grid)
    moved = built(x.roll((1, 3), dims=(1, 2)))
    assert_close(moved, built(x).roll((1, 3), dims=(1, 2)).detach().numpy())


def test_a_filter_of_ones_gives_the_map_back():
    built, x = layer("gfnet", (5, 6)), images((5, 6))
    with torch.no_grad():
        built.complex_weight.copy_(torch.tensor([1.0, 0.0]))
    assert_close(built(x), x.numpy())


def test_channels_do_not_meet():
    built, x = layer("gfnet", (4, 6)), images((4, 6))
    nudged = x.clone()
    nudged[..., 5] += images((4, 6), dim=1)[..., 0]
    assert (built(nudged) - built(x)).abs().amax((0, 1, 2)).gt(1e-12).nonzero().tolist() == [[5]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_filtered_in_float32_and_rounded_once(dtype):
    half, x = layer("gfnet", (5, 7)).to(dtype), images((5, 7)).to(dtype)
    y = half(x)
    assert y.dtype == dtype
    assert torch.equal(y, copy.deepcopy(half).float()(x.float()).to(dtype))


def test_sums_that_half_precision_cannot_hold_do_not_overflow():
    built = layer("gfnet", (16, 16)).half()
    with torch.no_grad():
        built.complex_weight.copy_(torch.tensor([1.0, 0.0]))
    x = torch.full((1, 16, 16, 24), 3e4, dtype=torch.float16)  # their sum is 256 times that
    assert torch.allclose(built(x), x)


def test_counts_and_shape_are_those_of_the_authors_code():
    with torch.device("meta"):
        built = layer("gfnet", (14, 14), dim=768, heads=12)
    counts = count(built, torch.empty(1, 14, 14, 768, device="meta", dtype=torch.float64))
    assert (counts.params, counts.macs, counts.macs_fvcore) == (172_032, 0, 0)
    assert {name: tuple(p.shape) for name, p in built.state_dict().items()} == {"complex_weight": (14, 8, 768, 2)}


def test_the_count_is_a_lower_bound_and_the_notes_say_what_is_missing():
    with torch.device("meta"):
        built = layer("gfnet", (14, 14))
    counts = count(built, torch.empty(1, 14, 14, 24, device="meta", dtype=torch.float64))
    assert counts.lower_bound
    assert all("fft" in name for name in counts.unknown)
    assert "5 N log2(N) C" in registry.load(entry_points=False)["gfnet"].notes["macs"]


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="got grid=6x4, built for 4x6"):
        layer("gfnet", (4, 6))(images((6, 4)))


def test_gradients_reach_every_filter_and_a_constant_has_no_imaginary_part():
    built = layer("gfnet", (5, 6))
    built(images((5, 6))).square().sum().backward()
    grad = built.complex_weight.grad
    assert torch.isfinite(grad).all()
    real, imaginary = (grad[..., i].abs().amax(-1) > 1e-12 for i in (0, 1))
    assert real.all()
    assert (~imaginary).nonzero().tolist() == [[0, 0], [0, 3]]
