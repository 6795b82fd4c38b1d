"""MambaVision's mixer against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, silu, weights

from mechanisms.mambavision import scan


def along(t, kernel):
    """Every channel of [N,E] convolved along the sequence, zeros outside; an even kernel looks further ahead."""
    N, k = len(t), kernel.shape[-1]
    out = np.zeros(t.shape)
    for i, j in np.ndindex(N, k):
        if 0 <= i + j - (k - 1) // 2 < N:
            out[i] += kernel[:, 0, j] * t[i + j - (k - 1) // 2]
    return silu(out)


def loop(built, x):
    """Token by token, one state after the other."""
    w, (B, H, W, C), S = weights(built), x.shape, built.d_state
    E, R = w["dt_proj.weight"].shape
    out = np.zeros((B, H * W, 2 * E))
    for b in range(B):
        u, z = np.split(affine(x[b].numpy().reshape(-1, C), w, "in_proj"), 2, axis=-1)
        u, z = along(u, w["conv1d_x.weight"]), along(z, w["conv1d_z.weight"])
        h = np.zeros((E, S))
        for i, token in enumerate(u):
            low, taken, given = np.split(w["x_proj.weight"] @ token, [R, R + S])
            dt = np.log1p(np.exp(w["dt_proj.weight"] @ low + 2 * w["dt_proj.bias"]))
            h = np.exp(-np.exp(w["A_log"]) * dt[:, None]) * h + np.outer(dt * token, taken)
            out[b, i, :E] = h @ given + w["D"] * token
        out[b, :, E:] = z
    return affine(out, w, "out_proj").reshape(x.shape)


@pytest.mark.parametrize(
    ("grid", "settings"),
    [
        *((grid, "") for grid in (*GRIDS, (1, 1), (1, 3))),
        ((5, 7), "[d_state=1,d_conv=4]"),
        ((4, 6), "[expand=2,d_conv=1]"),
    ],
)
def test_mambavision_equals_a_loop_over_tokens(grid, settings):
    built, x = layer(f"mambavision{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_mambavision_gives_what_an_independent_writing_gives():
    for case in golden("mambavision"):
        asked = {key: case["config"][key] for key in ("d_state", "d_conv", "expand")}
        assert_golden(layer("mambavision", (14, 14), dim=96, **asked), case)


def test_a_state_that_forgets_nothing_is_a_cumulative_sum():
    u = images((5, 7)).flatten(1, 2)
    one = torch.ones(2, 35, 1, dtype=u.dtype)
    assert_close(scan(torch.ones_like(u), u, torch.zeros(1, 24, dtype=u.dtype), one, one), u.cumsum(1).numpy())


def test_a_state_that_forgets_all_at_once_holds_the_token_alone_and_stays_finite():
    u = images((5, 7)).flatten(1, 2).float()
    one, dt = torch.ones(2, 35, 1), torch.full_like(u, 100.0)
    assert_close(scan(dt, u, torch.full((1, 24), 1e3), one, one).double(), 100 * u.double().numpy(), 1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_state": 0}, "d_state must be at least 1; got d_state=0"),
        ({"d_conv": 0}, "d_conv must be at least 1; got d_conv=0"),
        ({"expand": 0}, "expand must be at least 1; got expand=0"),
        ({"dim": 25}, "expand times dim must be even; got expand=1, dim=25"),
    ],
)
def test_mambavision_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("mambavision", (4, 6), **settings)
