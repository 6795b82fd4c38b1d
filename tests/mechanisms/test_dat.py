"""DAT against a loop over samples and queries, its laws, its refusals, and the authors' outputs."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def read(image, y, x):
    """Bilinear value of [H,W,...] at (y, x) in [-1, 1], where the outermost pixels are -1 and 1; zeros outside."""
    H, W = image.shape[:2]
    py, px, value = (y + 1) / 2 * (H - 1), (x + 1) / 2 * (W - 1), 0.0
    for i in (math.floor(py), math.floor(py) + 1):
        for j in (math.floor(px), math.floor(px) + 1):
            if 0 <= i < H and 0 <= j < W:
                value = value + (1 - abs(py - i)) * (1 - abs(px - j)) * image[i, j]
    return np.zeros(image.shape[2:]) + value


def offset(w, image, y, x, stride):
    """The two numbers of one group at one sample, before they are bounded."""
    kernel = w["conv_offset.0.weight"][:, 0]
    k, total = kernel.shape[-1], w["conv_offset.0.bias"].copy()
    for i in range(k):
        for j in range(k):
            a, b = y * stride + i - k // 2, x * stride + j - k // 2
            if 0 <= a < image.shape[0] and 0 <= b < image.shape[1]:
                total += kernel[:, i, j] * image[a, b]
    total = (total - total.mean()) / np.sqrt(total.var() + 1e-5)
    total = total * w["conv_offset.1.norm.weight"] + w["conv_offset.1.norm.bias"]
    gelu = np.array([t * 0.5 * (1 + math.erf(t / math.sqrt(2))) for t in total])
    return w["conv_offset.3.weight"][:, :, 0, 0] @ gelu


def loop(w, x, heads, groups, stride, factor, year):
    H, W, C = x.shape
    h, z, d, part = -(-H // stride), -(-W // stride), C // heads, C // groups
    less, half = (1, 0.0) if year == 2023 else (0, 0.5)
    q, samples, places = affine(x, w, "proj_q"), np.zeros((h * z, C)), np.zeros((groups, h * z, 2))
    for g in range(groups):
        c = slice(g * part, (g + 1) * part)
        for m, (i, j) in enumerate(np.ndindex(h, z)):
            even = np.array([(i + 0.5) / (h - less), (j + 0.5) / (z - less)]) * 2 - 1
            move = offset(w, q[..., c], i, j, stride)
            if factor > 0:
                at = even + np.tanh(move) * factor / np.array([h - less, z - less])
            else:
                at = np.clip(even + move, -1, 1) if year == 2023 else np.tanh(even + move)
            places[g, m], samples[m, c] = at, read(x[..., c], *at)
    k, v, out = affine(samples, w, "proj_k"), affine(samples, w, "proj_v"), np.zeros(x.shape)
    for y, a in np.ndindex(H, W):
        here = np.array([(y + half) / (H - less), (a + half) / (W - less)]) * 2 - 1
        for n in range(heads):
            c = slice(n * d, (n + 1) * d)
            apart = (here - places[n // (heads // groups)]) / 2
            bias = np.array([float(read(w["rpe_table"][n], *p)) for p in apart])
            out[y, a, c] = attention_of_one(q[y, a, c], k[:, c], v[:, c], d**-0.5, bias)
    return affine(out, w, "proj_out")


CASES = [
    {},
    {"geometry": 2023},
    {"offset_stride": 2, "ksize": 3, "n_groups": 1},
    {"offset_stride": 2, "geometry": 2023, "offset_range_factor": -1.0},
    {"offset_range_factor": -1.0},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grid", GRIDS)
def test_dat_equals_a_loop_over_samples_and_queries(grid, case):
    built, x = layer("dat", grid, heads=6, **case), images(grid)
    s = {"n_groups": 3, "offset_stride": 1, "offset_range_factor": 2.0, "geometry": 2022, **case}
    w = weights(built)
    settings = (s["n_groups"], s["offset_stride"], s["offset_range_factor"], s["geometry"])
    truth = np.array([loop(w, image, 6, *settings) for image in x.numpy()])
    assert_close(built(x), truth)
    assert_close(layer("dat", grid, heads=6, kernel="sdpa", **case)(x), truth)


def test_a_layer_built_for_one_grid_stretches_its_table_over_another():
    built, x = layer("dat", (4, 6)), images((5, 7), batch=1)
    assert built.rpe_table.shape == (3, 7, 11)
    assert_close(built(x)[0], loop(weights(built), x[0].numpy(), 3, 3, 1, 2.0, 2022))


@pytest.mark.parametrize(("geometry", "shape"), [(2022, (12, 11, 17)), (2023, (12, 23, 35))])
def test_the_table_is_of_the_samples_map_in_2022_and_of_the_queries_map_in_2023(geometry, shape):
    built = layer("dat", (12, 18), heads=12, offset_stride=2, geometry=geometry)
    assert built.rpe_table.shape == shape


def test_without_offsets_and_bias_it_is_plain_attention_to_the_map_read_on_an_even_grid():
    built, x = layer("dat", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.conv_offset[3].weight.zero_()
        built.rpe_table.zero_()
    msa = layer("msa", (4, 6))
    with torch.no_grad():
        parts = (built.proj_q, built.proj_k, built.proj_v)
        msa.qkv.weight.copy_(torch.cat([p.weight.flatten(1) for p in parts]))
        msa.qkv.bias.copy_(torch.cat([p.bias for p in parts]))
        msa.proj.weight.copy_(built.proj_out.weight.flatten(1))
        msa.proj.bias.copy_(built.proj_out.bias)
    constant = x[:, :1, :1].expand_as(x).contiguous()  # where the grid stands does not matter then
    assert torch.allclose(built(constant), msa(constant), atol=1e-12)


@pytest.mark.parametrize(("name", "geometry"), [("dat", 2022), ("dat_2023", 2023)])
def test_dat_gives_what_the_authors_code_gives(name, geometry):
    for case in golden(name):
        c = case["config"]
        built = layer(
            "dat",
            (14, 14),
            dim=96,
            heads=c["num_heads"],
            n_groups=c["n_groups"],
            ksize=c["ksize"],
            offset_stride=c["stride"],
            offset_range_factor=float(c["offset_range_factor"]),
            geometry=geometry,
        )
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
        ({"n_groups": 2}, "n_groups must divide heads; got n_groups=2, heads=3"),
        ({"ksize": 4}, "ksize must be odd and positive; got ksize=4"),
        ({"offset_stride": 0}, "offset_stride must be at least 1; got offset_stride=0"),
        ({"offset_range_factor": 0.0}, "offset_range_factor must not be 0; got offset_range_factor=0.0"),
        ({"geometry": 2024}, "geometry must be 2022 or 2023; got geometry=2024"),
        ({"geometry": 2023, "offset_stride": 4}, "geometry=2023 needs a sampling map of at least 2x2; got 1x2 of"),
    ],
)
def test_dat_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("dat", (4, 6), **settings)


def test_the_geometry_of_2023_refuses_a_map_with_one_row():
    built = layer("dat[geometry=2023]", (4, 6))
    with pytest.raises(ValueError, match="needs a sampling map of at least 2x2; got 1x6 of the grid 1x6"):
        built(images((1, 6)))
