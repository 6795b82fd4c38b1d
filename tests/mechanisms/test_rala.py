"""Rank-augmented linear attention against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import Variant
from mechanisms.rala import turned


def phi(u):
    return np.where(u > 0, u + 1, np.exp(np.minimum(u, 0)))


def placed(u, y, x):
    """A vector as complex numbers, each turned by an angle: the first half by the row, the others by the column."""
    d = len(u)
    speed = np.array([10000.0 ** -(i / max(d // 4 - 1, 1)) for i in range(d // 4)])
    return (u[::2] + 1j * u[1::2]) * np.exp(1j * np.concatenate([y * speed, x * speed]))


def around(w, v, y, x):
    """What the convolution makes of the values [H,W,C] around (y, x)."""
    H, W, _ = v.shape
    total = w["lepe.bias"].copy()
    for i, j in np.ndindex(5, 5):
        if 0 <= y + i - 2 < H and 0 <= x + j - 2 < W:
            total += w["lepe.weight"][:, 0, i, j] * v[y + i - 2, x + j - 2]
    return total


def loop(built, x):
    """Values weighted pair by pair, the weight being the real part of a product of turned vectors."""
    w, (B, H, W, C), n = weights(built), x.shape, built.heads
    d, out = C // n, np.zeros(x.shape)
    places = list(np.ndindex(H, W))
    for b in range(B):
        q, k, v, gate = np.split(affine(x[b].numpy(), w, "qkvo"), 4, axis=-1)
        q, k = phi(q), phi(k)
        for c in (slice(head * d, (head + 1) * d) for head in range(n)):
            asked = q[..., c].mean((0, 1))
            share = np.exp([asked @ k[p][c] / d**0.5 for p in places])
            share /= share.sum()
            for p in places:
                mine = placed(q[p][c], *p)
                weight = [(mine * placed(k[o][c], *o).conj()).sum().real for o in places]
                plain = [q[p][c] @ k[o][c] for o in places]
                out[b][p][c] = sum(s * t * v[o][c] for s, t, o in zip(share, weight, places, strict=True))
                out[b][p][c] /= share @ plain + 1e-6
        for p in places:
            out[b][p] = (out[b][p] + around(w, v, *p)) * gate[p]
    return affine(out, w, "proj")


@pytest.mark.parametrize("heads", [1, 3, 6])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_rala_equals_a_loop_over_pairs(grid, heads):
    built, x = layer("rala", grid, heads=heads), images(grid)
    assert_close(built(x), loop(built, x))


def test_turning_tells_only_how_far_apart_two_tokens_are():
    u, v = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    u, v = (turned(t.expand(1, 1, 7 * 9, 16), 7, 9).view(7, 9, 16) for t in (u, v))
    assert torch.allclose(u[1, 2] @ v[3, 7], u[4, 0] @ v[6, 5])
    assert not torch.allclose(u[1, 2] @ v[3, 7], u[1, 2] @ v[3, 6])
    assert torch.allclose(u.norm(dim=-1), u[0, 0].norm())


def test_a_closed_gate_leaves_the_bias_alone():
    built, x = layer("rala", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.qkvo.weight[72:], built.qkvo.bias[72:] = 0, 0
    assert_close(built(x), built.proj.bias.expand_as(x).detach().numpy())


def test_one_table_of_angles_serves_every_grid():
    built = layer("rala", (4, 6))
    for grid in ((4, 6), (9, 4), (1, 5)):
        assert_close(built(images(grid)), loop(built, images(grid)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_large_map_stays_near_float64_in_half_precision(dtype):
    built, x = layer("rala", (64, 64)), images((64, 64), batch=1)
    truth = built(x)
    error = (built.to(dtype)(x.to(dtype)).double() - truth).norm() / truth.norm()
    assert error < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize(("grid", "macs"), [((14, 14), 601_359_360), ((24, 24), 1_767_260_160)])
def test_counts_are_those_of_the_authors_code(grid, macs):
    known, variant = registry.load(entry_points=False), Variant("rala")
    size = known.size(variant, grid=grid)
    counts = count(known.build(variant, size), torch.empty(1, *grid, 768))
    assert (counts.params, counts.macs, counts.macs_fvcore, known["rala"].macs(size)) == (2_972_928, macs, macs, macs)


def test_parameters_bear_the_authors_names():
    shapes = {name: tuple(p.shape) for name, p in layer("rala", (4, 6)).state_dict().items()}
    assert shapes == {
        "qkvo.weight": (96, 24, 1, 1),
        "qkvo.bias": (96,),
        "lepe.weight": (24, 1, 5, 5),
        "lepe.bias": (24,),
        "proj.weight": (24, 24, 1, 1),
        "proj.bias": (24,),
    }


def test_rala_refuses_heads_that_cannot_be_turned():
    with pytest.raises(ValueError, match="dim must be a multiple of 4 times heads; got dim=24, heads=4"):
        layer("rala", (4, 6), heads=4, dim=24)
