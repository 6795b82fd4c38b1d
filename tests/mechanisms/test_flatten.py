"""Focused linear attention against a loop over pairs of tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import parse_variant


def focused(u, w, power):
    """A vector over all heads, made positive, scaled, sharpened, as long as before."""
    s = (np.maximum(u, 0) + 1e-6) / np.log1p(np.exp(w["scale"][0, 0]))
    return s**power * np.sqrt((s**2).sum() / (s ** (2 * power)).sum())


def around(w, v, y, x):
    """What the convolution makes of the values [H,W,C] around (y, x): the same kernel for every head."""
    kernel, d = w["dwc.weight"][:, 0], w["dwc.weight"].shape[0]
    (H, W, C), half = v.shape, kernel.shape[-1] // 2
    total = np.tile(w["dwc.bias"], C // d)
    for i, j in np.ndindex(*kernel.shape[1:]):
        if 0 <= y + i - half < H and 0 <= x + j - half < W:
            total += np.tile(kernel[:, i, j], C // d) * v[y + i - half, x + j - half]
    return total


def loop(built, x):
    """A weighted mean of the values, pair by pair: no sum is shared between queries."""
    w, (B, H, W, C), p = weights(built), x.shape, built.focusing_factor
    d, out = C // built.heads, np.zeros(x.shape)
    for b in range(B):
        q, k, v = np.split(affine(x[b].numpy().reshape(-1, C), w, "qkv"), 3, axis=1)
        q = np.array([focused(row, w, p) for row in q])
        k = np.array([focused(row, w, p) for row in k + w["positional_encoding"][0]])
        for i, (y, z) in enumerate(np.ndindex(H, W)):
            out[b, y, z] = around(w, v.reshape(H, W, C), y, z)
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                weight = np.array([q[i, c] @ key for key in k[:, c]])
                out[b, y, z, c] += weight @ v[:, c] / H / W / (weight.mean() + 1e-6)
    return affine(out, w, "proj")


@pytest.mark.parametrize("settings", ["", "[focusing_factor=1,kernel_size=1]", "[focusing_factor=8,kernel_size=3]"])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_focused_attention_equals_a_loop_over_pairs(grid, settings):
    built, x = layer(f"flatten{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_focusing_keeps_the_length_and_favours_the_largest():
    u = images((4, 6)).flatten(1, 2)
    plain, sharp = (
        layer(f"flatten[focusing_factor={p}]", (4, 6))._focused(u, torch.ones(1, 1, 24, dtype=u.dtype)) for p in (1, 3)
    )
    assert_close(sharp.norm(dim=-1), plain.norm(dim=-1).numpy())
    assert torch.equal(sharp.argsort()[..., -5:], plain.argsort()[..., -5:])
    assert (sharp.amax(-1) > plain.amax(-1)).all()


def test_only_the_table_tells_where_a_key_stands():
    built, x = layer("flatten[kernel_size=1]", (4, 6)), images((4, 6))
    assert not torch.allclose(built(x.flip(1, 2)), built(x).flip(1, 2))
    with torch.no_grad():
        built.positional_encoding.zero_()
    assert_close(built(x.flip(1, 2)), built(x).flip(1, 2).detach().numpy())


def test_high_powers_keep_the_length_of_wide_vectors_in_float32():
    built = layer("flatten[focusing_factor=32]", (4, 6), dim=768)
    u = images((4, 6), dim=768).flatten(1, 2)
    truth, ours = (built._focused(t, torch.ones(1, 1, 768, dtype=t.dtype)) for t in (u, u.float()))
    assert_close(ours.double(), truth.numpy(), 1e-3)
    assert_close(ours.double().norm(dim=-1), u.relu().norm(dim=-1).numpy(), 1e-3)


@pytest.mark.parametrize(
    ("dtype", "focusing_factor"), [(torch.float16, 3), (torch.float16, 8), (torch.bfloat16, 32), (torch.float32, 32)]
)
def test_large_values_and_high_powers_stay_finite(dtype, focusing_factor):
    built = layer("flatten", (4, 6), focusing_factor=focusing_factor).to(dtype)
    x = (images((4, 6)) * 20).to(dtype).requires_grad_()
    y = built(x)
    y.float().square().mean().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


def test_a_query_without_positive_channels_gives_no_nan():
    built, x = layer("flatten[focusing_factor=32]", (4, 6)).half(), images((4, 6)).half()
    with torch.no_grad():
        built.qkv.weight[:24], built.qkv.bias[:24] = 0, -1
    assert built(x).isfinite().all()


@pytest.mark.parametrize(
    ("grid", "params", "macs"), [((14, 14), 2_515_328, 485_603_328), ((24, 24), 2_807_168, 1_427_079_168)]
)
def test_counts_are_those_of_the_authors_code(grid, params, macs):
    known, variant = registry.load(entry_points=False), parse_variant("flatten")
    size = known.size(known.check(variant), grid=grid)
    counts = count(known.build(variant, size), torch.empty(1, *grid, 768))
    assert (counts.params, counts.macs, counts.macs_fvcore, known["flatten"].macs(size)) == (params, macs, macs, macs)


def test_parameters_bear_the_authors_names():
    shapes = {name: tuple(p.shape) for name, p in layer("flatten", (4, 6)).named_parameters()}
    assert shapes == {
        "scale": (1, 1, 24),
        "positional_encoding": (1, 24, 24),
        "qkv.weight": (72, 24),
        "qkv.bias": (72,),
        "proj.weight": (24, 24),
        "proj.bias": (24,),
        "dwc.weight": (8, 1, 5, 5),
        "dwc.bias": (8,),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"focusing_factor": 0}, "focusing_factor must be at least 1; got focusing_factor=0"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got kernel_size=4"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_focused_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("flatten", (4, 6), **settings)


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="got grid=6x4, built for 4x6"):
        layer("flatten", (4, 6))(images((6, 4)))
