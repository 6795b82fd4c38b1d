"""Polarity-aware linear attention against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, depthwise, golden, images, layer, weights


def patches(x, w, r):
    """LayerNorm of the r x r patches' convolution, zeros standing for what a map smaller than r lacks: [M,C]."""
    H, W, C = x.shape
    padded = np.zeros((max(H, r), max(W, r), C))
    padded[:H, :W] = x
    rows = []
    for i, j in np.ndindex(padded.shape[0] // r, padded.shape[1] // r):
        patch = padded[i * r : (i + 1) * r, j * r : (j + 1) * r]
        y = np.einsum("hwc,ochw->o", patch, w["sr.weight"]) + w["sr.bias"]
        rows.append((y - y.mean()) / np.sqrt(y.var() + 1e-5) * w["norm.weight"] + w["norm.bias"])
    return np.array(rows)


def stretched(v, N):
    """M rows spread over N places, linearly, the ends held."""
    M = len(v)
    at = np.clip((np.arange(N) + 0.5) * M / N - 0.5, 0, M - 1)
    low = np.floor(at).astype(int)
    return v[low] + (at - low)[:, None] * (v[np.minimum(low + 1, M - 1)] - v[low])


def loop(built, x):
    """Weights of like and of unlike signs, pair by pair."""
    w, (B, H, W, C), n = weights(built), x.shape, built.heads
    d, out = C // n, np.zeros((B, H * W, C))
    power = 1 + built.alpha / (1 + np.exp(-w["power"][0, :, 0]))
    shrink = np.log1p(np.exp(w["scale"][0, 0]))
    for b in range(B):
        tokens = x[b].numpy().reshape(-1, C)
        q, g = np.split(affine(tokens, w, "qg"), 2, axis=-1)
        small = patches(x[b].numpy(), w, built.sr_ratio) if built.sr_ratio > 1 else tokens
        k, v = np.split(affine(small, w, "kv"), 2, axis=-1)
        q, k = q / shrink, (k + w["positional_encoding"][0]) / shrink
        for head, i in np.ndindex(n, H * W):
            c, middle = slice(head * d, (head + 1) * d), head * d + d // 2
            plus, minus = (np.maximum(sign * q[i, c], 0) ** power[head] for sign in (1, -1))
            like, unlike = np.zeros(len(k)), np.zeros(len(k))
            for j, key in enumerate(k[:, c]):
                kp, km = (np.maximum(sign * key, 0) ** power[head] for sign in (1, -1))
                like[j], unlike[j] = plus @ kp + minus @ km, minus @ kp + plus @ km
            out[b, i, head * d : middle] = like @ v[:, head * d : middle] / len(k) / (like.mean() + 1e-6)
            out[b, i, middle : c.stop] = unlike @ v[:, middle : c.stop] / len(k) / (unlike.mean() + 1e-6)
        kernel = np.tile(w["dwc.weight"][:, 0], (n, 1, 1))
        out[b] += depthwise(stretched(v, H * W).reshape(H, W, C), kernel, np.tile(w["dwc.bias"], n)).reshape(-1, C)
        out[b] *= g
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize(
    ("grid", "settings"),
    [
        *((grid, "[sr_ratio=1]") for grid in GRIDS),
        *((grid, "") for grid in (*GRIDS, (1, 1))),
        ((5, 7), "[sr_ratio=3,kernel_size=3,alpha=2]"),
    ],
)
def test_polaformer_equals_a_loop_over_pairs(grid, settings):
    built, x = layer(f"polaformer{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_polaformer_gives_what_the_authors_code_gives():
    for case in golden("polaformer"):
        heads, r = case["config"]["num_heads"], case["config"]["sr_ratio"]
        assert_golden(layer("polaformer", (14, 14), dim=96, heads=heads, sr_ratio=r), case)


def test_turning_the_sign_of_the_queries_exchanges_the_halves():
    built = layer("polaformer[sr_ratio=1]", (4, 6))
    q, k, v = (images((4, 6), seed=seed).flatten(1, 2) for seed in range(3))
    swapped = torch.cat([v.view(2, 24, 3, 8)[..., 4:], v.view(2, 24, 3, 8)[..., :4]], -1).view_as(v)
    one = built._read(built._signed(q), built._signed(k), v).view(2, 24, 3, 2, 4)
    other = built._read(built._signed(-q), built._signed(k), swapped).view(2, 24, 3, 2, 4)
    assert_close(one, other.flip(-2).detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_powers_that_overflow_half_precision_stay_near_float64(dtype):
    built, x = layer("polaformer[sr_ratio=1]", (16, 32)), images((16, 32), batch=1) * 8
    with torch.no_grad():
        built.power.fill_(4)
    truth = built(x)
    built, x = built.to(dtype), x.to(dtype).requires_grad_()
    y = built(x)
    y.float().square().mean().backward()
    assert (y.double() - truth).norm() / truth.norm() < 16 * torch.finfo(dtype).eps
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 8}, "dim must be a multiple of 2 times heads; got dim=24, heads=8"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got kernel_size=4"),
        ({"alpha": 0}, "alpha must be above 0; got alpha=0"),
        ({"sr_ratio": 0}, "sr_ratio must be at least 1; got sr_ratio=0"),
    ],
)
def test_polaformer_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("polaformer", (4, 6), **settings)


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="got grid=6x4, built for 4x6"):
        layer("polaformer", (4, 6))(images((6, 4)))
