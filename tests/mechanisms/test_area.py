"""Area attention against a loop over tokens, its laws, its refusals, and the outputs of the published layer."""

import numpy as np
import pytest
import torch
from truth import GRIDS, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def area_layer(grid, **settings):
    """A layer whose batch statistics are random too."""
    built = layer("area", grid, **settings)
    g = torch.Generator().manual_seed(2)
    for name, buffer in built.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=g) + 0.5)
    return built


def normalised(w, name, y):
    spread = np.sqrt(w[f"{name}.bn.running_var"] + 1e-3)
    return (y - w[f"{name}.bn.running_mean"]) / spread * w[f"{name}.bn.weight"] + w[f"{name}.bn.bias"]


def loop(built, x, area):
    """Token by token; areas are runs in reading order."""
    w, (B, H, W, C) = weights(built), x.shape
    n, N, out = built.heads, H * W, np.zeros(x.shape)
    d, m, kernel = C // n, -(-N // area), w["pe.conv.weight"][:, 0]
    k = kernel.shape[-1]
    for b, image in enumerate(x.numpy().reshape(B, N, C)):
        qkv = normalised(w, "qkv", image @ w["qkv.conv.weight"][:, :, 0, 0].T).reshape(N, n, 3, d)
        v = qkv[:, :, 2].reshape(H, W, C)
        for t, head in np.ndindex(N, n):
            run = [u for u in range(N) if u // m == t // m]
            c, (q, keys, values) = slice(head * d, (head + 1) * d), (qkv[:, head, i] for i in range(3))
            out[b, t // W, t % W, c] = attention_of_one(q[t], keys[run], values[run], d**-0.5)
        for y, z in np.ndindex(H, W):
            near = np.zeros(C)
            for i, j in np.ndindex(k, k):
                if 0 <= y + i - k // 2 < H and 0 <= z + j - k // 2 < W:
                    near += kernel[:, i, j] * v[y + i - k // 2, z + j - k // 2]
            out[b, y, z] += normalised(w, "pe", near)
    return normalised(w, "proj", out @ w["proj.conv.weight"][:, :, 0, 0].T)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("grid", "area", "kernel_size"),
    [(GRIDS[0], 4, 7), (GRIDS[1], 4, 7), (GRIDS[2], 1, 5), (GRIDS[2], 8, 3)],
    ids=["runs of equal length", "a shorter run", "one run", "fewer runs than areas"],
)
def test_area_attention_equals_a_loop_over_tokens(grid, area, kernel_size, kernel):
    built, x = area_layer(grid, area=area, kernel_size=kernel_size, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x, area))


def test_without_the_convolution_areas_of_whole_rows_know_nothing_of_each_other():
    built, x = area_layer((4, 6)), images((4, 6))
    with torch.no_grad():
        built.pe.conv.weight.zero_()
    moved = x.clone()
    moved[:, 1] += 1
    changed = (built(moved) != built(x)).flatten(2).any(-1).any(0)
    assert changed.tolist() == [False, True, False, False]


def test_area_attention_gives_what_the_published_layer_gives():
    for case in golden("area"):
        c = case["config"]
        settings = {"area": c["area"], "kernel_size": c["pe_kernel"]}
        assert_golden(layer("area", (14, 14), dim=c["dim"], heads=c["num_heads"], **settings), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads must divide dim; got heads=5, dim=24"),
        ({"area": 0}, "area must be at least 1; got area=0"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got kernel_size=4"),
    ],
)
def test_area_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("area", (4, 6), **settings)
