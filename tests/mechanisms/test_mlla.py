"""Mamba-like linear attention against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import (
    GRIDS,
    affine,
    assert_close,
    assert_golden,
    depthwise,
    golden,
    images,
    layer,
    silu,
    weights,
)


def turned(u, y, x):
    """A vector over all heads as complex numbers: the first half turned by the row, the second by the column."""
    C = len(u)
    speed = np.array([10000.0 ** (-4 * k / C) for k in range(C // 4)])
    return (u[::2] + 1j * u[1::2]) * np.exp(1j * np.concatenate([y * speed, x * speed]))


def loop(built, x):
    """Values weighted pair by pair, the weight being the real part of a product of turned vectors."""
    w, (B, H, W, C), n = weights(built), x.shape, built.attn.heads
    d, out, places = C // n, np.zeros(x.shape), list(np.ndindex(H, W))
    for b in range(B):
        u = affine(x[b].numpy(), w, "in_proj")
        u = silu(depthwise(u, w["dwc.weight"][:, 0], w["dwc.bias"]))
        qk = affine(u, w, "attn.qk")
        q, k = np.split(np.where(qk > 0, qk + 1, np.exp(np.minimum(qk, 0))), 2, axis=-1)
        Q, K = ({p: turned(t[p], *p) for p in places} for t in (q, k))
        for p in places:
            for head in range(n):
                c, pairs = slice(head * d, (head + 1) * d), slice(head * d // 2, (head + 1) * d // 2)
                weight = [(Q[p][pairs] * K[o][pairs].conj()).sum().real for o in places]
                total = sum(q[p][c] @ k[o][c] for o in places) / len(places) + 1e-6
                out[b][p][c] = sum(a * u[o][c] for a, o in zip(weight, places, strict=True)) / len(places) / total
        out[b] += depthwise(u, w["attn.lepe.weight"][:, 0], w["attn.lepe.bias"])
        out[b] *= silu(affine(x[b].numpy(), w, "act_proj"))
    return affine(out, w, "out_proj")


@pytest.mark.parametrize(("grid", "heads"), [*((grid, 3) for grid in GRIDS), ((1, 1), 1), ((4, 6), 6)])
def test_mlla_equals_a_loop_over_pairs(grid, heads):
    built, x = layer("mlla", grid, heads=heads), images(grid)
    assert_close(built(x), loop(built, x))


def test_mlla_gives_what_the_authors_code_gives():
    for case in golden("mlla"):
        assert_golden(layer("mlla", (14, 14), dim=96, heads=case["config"]["num_heads"]), case)


def test_the_first_half_of_the_heads_knows_rows_and_the_second_columns():
    built, x = layer("mlla", (4, 6), heads=2).attn, images((4, 6))
    with torch.no_grad():
        built.lepe.weight.zero_()
        flips = [(built(x.flip(side)) - built(x).flip(side)).abs().amax((0, 1, 2)).view(2, -1) for side in (1, 2)]
    moved = [[bool(head.max() > 1e-9) for head in flip] for flip in flips]
    assert moved == [[True, False], [False, True]]


def test_a_closed_gate_leaves_the_bias_alone():
    built, x = layer("mlla", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.act_proj.weight.zero_(), built.act_proj.bias.zero_()
    assert_close(built(x), built.out_proj.bias.expand_as(x).detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_large_map_stays_near_float64_in_half_precision(dtype):
    built, x = layer("mlla", (64, 64)), images((64, 64), batch=1)
    truth = built(x)
    error = (built.to(dtype)(x.to(dtype)).double() - truth).norm() / truth.norm()
    assert error < 8 * torch.finfo(dtype).eps


def test_mlla_refuses_channels_that_cannot_be_turned():
    with pytest.raises(ValueError, match="dim must be a multiple of 4; got dim=30"):
        layer("mlla", (4, 6), dim=30)
