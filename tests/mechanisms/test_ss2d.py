"""SS2D against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, images, layer, weights

from mechanisms.ss2d import scan


def surroundings(u, kernel):
    """Depthwise 3 x 3, zeros outside."""
    H, W, _ = u.shape
    out = np.zeros(u.shape)
    for y, z, i, j in np.ndindex(H, W, 3, 3):
        if 0 <= y + i - 1 < H and 0 <= z + j - 1 < W:
            out[y, z] += kernel[:, 0, i, j] * u[y + i - 1, z + j - 1]
    return out


def loop(built, x):
    """Path by path, token by token, one state after the other."""
    w, S = weights(built), built.d_state
    B, H, W, _ = x.shape
    D, R = w["dt_projs_weight"].shape[1:]
    rows = list(np.ndindex(H, W))
    columns = [(y, z) for z in range(W) for y in range(H)]
    y = np.zeros((B, H, W, D))
    for b in range(B):
        u = surroundings(affine(x[b].numpy(), w, "in_proj"), w["conv2d.weight"])
        u = u / (1 + np.exp(-u))
        for k, path in enumerate([rows, columns, rows[::-1], columns[::-1]]):
            A = -np.exp(w["A_logs"][k * D : (k + 1) * D])
            h = np.zeros((D, S))
            for place in path:
                projected = w["x_proj_weight"][k] @ u[place]
                step = np.log1p(np.exp(w["dt_projs_weight"][k] @ projected[:R] + w["dt_projs_bias"][k]))
                h = np.exp(step[:, None] * A) * h + (step * u[place])[:, None] * projected[R : R + S]
                y[b][place] += h @ projected[R + S :] + w["Ds"][k * D : (k + 1) * D] * u[place]
    mean, var = y.mean(-1, keepdims=True), y.var(-1, keepdims=True)
    return affine((y - mean) / np.sqrt(var + 1e-5) * w["out_norm.weight"] + w["out_norm.bias"], w, "out_proj")


@pytest.mark.parametrize("settings", ["", "[d_state=3]", "[ssm_ratio=1,d_state=2]"])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 6), (6, 1), (1, 1)])
def test_ss2d_equals_a_loop_over_tokens(grid, settings):
    built, x = layer(f"ss2d{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_scan_that_forgets_nothing_is_a_cumulative_sum():
    b = images((5, 7))
    sums = b.flatten(1, 2).cumsum(1).view(b.shape)
    assert_close(scan(torch.ones_like(b), b), sums.numpy())
    assert_close(scan(torch.ones_like(b), b.flip(1, 2), backwards=True), sums.flip(1, 2).numpy())


def test_a_scan_that_forgets_all_changes_nothing():
    b = images((5, 7))
    assert_close(scan(torch.zeros_like(b), b), b.numpy())


def test_turning_the_map_turns_the_result_where_all_paths_are_alike():
    built, x = layer("ss2d", (5, 7)), images((5, 7))
    with torch.no_grad():
        for p in (built.x_proj_weight, built.dt_projs_weight, built.dt_projs_bias):
            p.copy_(p[:1].expand_as(p))
        built.A_logs.view(4, -1).copy_(built.A_logs.view(4, -1)[:1].expand(4, -1))
        built.conv2d.weight.fill_(0.1)
        for turned in (lambda t: t.transpose(1, 2), lambda t: t.flip(1, 2)):
            assert_close(built(turned(x)), turned(built(x)).numpy())


def test_the_first_steps_lie_between_a_thousandth_and_a_tenth():
    from attnbench.registry import build

    step = torch.nn.functional.softplus(build("ss2d", dim=24, heads=3, grid=(4, 6)).dt_projs_bias)
    assert 0.000999 <= step.min() < 0.01 < step.max() <= 0.1001


def test_parameters_are_those_of_the_authors_code():
    with torch.device("meta"):
        built = [layer("ss2d", (14, 14), dim=768, heads=12, ssm_ratio=ratio) for ratio in (2.0, 1.0)]
    assert [sum(p.numel() for p in b.parameters()) for b in built] == [2_996_736, 1_498_368]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ssm_ratio": 0.01}, "ssm_ratio must leave at least one channel; got ssm_ratio=0.01, dim=24"),
        ({"d_state": 0}, "d_state must be at least 1; got d_state=0"),
    ],
)
def test_ss2d_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("ss2d", (4, 6), **settings)
