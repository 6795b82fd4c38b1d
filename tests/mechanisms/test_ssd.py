"""Non-causal state-space duality against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, depthwise, golden, images, layer, silu, weights


def loop(built, x):
    """Every token weighs every other by the product of query and key and by what that token says of itself."""
    w, (B, H, W, _), S = weights(built), x.shape, built.d_state
    n = len(w["D"])
    D = w["out_proj.weight"].shape[1]
    y, places = np.zeros((B, H, W, D)), list(np.ndindex(H, W))
    for b in range(B):
        z, mixed, t = np.split(affine(x[b].numpy(), w, "in_proj"), [D, 2 * D + 2 * S], axis=-1)
        mixed = silu(depthwise(mixed, w["conv2d.weight"][:, 0], w["conv2d.bias"]))
        u, k, q = np.split(mixed, [D, D + S], axis=-1)
        share = np.log1p(np.exp(t + w["dt_bias"])) * np.exp(w["A_log"])
        for p in places:
            for o in places:
                y[b][p] += (q[p] @ k[o]) * np.repeat(share[o], D // n) * u[o]
            y[b][p] += np.repeat(w["D"], D // n) * u[p]
            mean, var = y[b][p].mean(), y[b][p].var()
            y[b][p] = ((y[b][p] - mean) / np.sqrt(var + 1e-5) * w["norm.weight"] + w["norm.bias"]) * z[p]
    return affine(y, w, "out_proj")


@pytest.mark.parametrize(
    ("grid", "settings"),
    [*((grid, "[d_state=8]") for grid in (*GRIDS, (1, 1))), ((4, 6), ""), ((5, 7), "[expand=1,d_state=1]")],
)
def test_ssd_equals_a_loop_over_pairs(grid, settings):
    built, x = layer(f"ssd{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_ssd_gives_what_the_authors_code_gives():
    for case in golden("ssd"):
        heads, expand, S = (case["config"][key] for key in ("num_heads", "expand", "d_state"))
        assert_golden(layer("ssd", (14, 14), dim=96, heads=heads, expand=expand, d_state=S), case)


def test_without_convolution_the_order_of_the_tokens_does_not_matter():
    built, x = layer("ssd", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.conv2d.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    assert_close(built(x.flip(1, 2)), built(x).flip(1, 2).detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_a_large_map_stay_near_float64_in_half_precision(dtype):
    built, x = layer("ssd", (64, 64)), images((64, 64), batch=1)
    with torch.no_grad():
        built.A_log.fill_(0)
        built.conv2d.bias.fill_(2)  # all products of queries and keys are alike: their sum is beyond float16
    truth = built(x)
    error = (built.to(dtype)(x.to(dtype)).double() - truth).norm() / truth.norm()
    assert error < 16 * torch.finfo(dtype).eps


def test_the_first_steps_lie_between_a_thousandth_and_a_tenth():
    from attnbench.registry import build

    step = torch.nn.functional.softplus(build("ssd", dim=768, heads=384, grid=(4, 6)).dt_bias)
    assert 0.000999 <= step.min() < 0.01 < step.max() <= 0.1001


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expand": 0}, "expand must be at least 1; got expand=0"),
        ({"d_state": 0}, "d_state must be at least 1; got d_state=0"),
    ],
)
def test_ssd_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("ssd", (4, 6), **settings)
