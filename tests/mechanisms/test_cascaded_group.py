"""Cascaded group attention against a loop over heads and pairs of tokens, its laws, its counts, and its refusals."""

from importlib.metadata import version

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights

from attnbench.measure.flops import count


def built_with_statistics(variant, grid, **settings):
    """A layer whose batch normalisations have seen something."""
    built = layer(variant, grid, **settings)
    g = torch.Generator().manual_seed(2)
    for name, buffer in built.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=g)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2, generator=g)
    return built


def normal(x, w, name):
    """Batch normalisation of [..., C] by what was seen in training."""
    mean, var, scale, shift = (w[f"{name}.bn.{t}"] for t in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + shift


def spread(x, kernel):
    """One filter per channel over a window [h, w, C], zeros around it."""
    half, out = kernel.shape[-1] // 2, np.zeros(x.shape)
    for y, z, i, j in np.ndindex(*x.shape[:2], *kernel.shape[-2:]):
        if 0 <= y + i - half < x.shape[0] and 0 <= z + j - half < x.shape[1]:
            out[y, z] += kernel[:, 0, i, j] * x[y + i - half, z + j - half]
    return out


def cascade(built, w, x):
    """One window [h, w, C], head after head."""
    (H, W, C), n, k = x.shape, built.heads, built.key_dim
    said = []
    for i, share in enumerate(np.split(x, n, axis=-1)):
        qkv = normal(affine(share + said[-1] if i else share, w, f"qkvs.{i}.c"), w, f"qkvs.{i}")
        q = normal(spread(qkv[..., :k], w[f"dws.{i}.c.weight"]), w, f"dws.{i}")
        keys, values = (t.reshape(H * W, -1) for t in np.split(qkv[..., k:], [k], axis=-1))
        y = np.zeros((H, W, C // n))
        for a, b in np.ndindex(H, W):
            apart = [abs(a - row) * W + abs(b - column) for row, column in np.ndindex(H, W)]
            y[a, b] = attention_of_one(q[a, b], keys, values, k**-0.5, w["attention_biases"][i, apart])
        said.append(y)
    return normal(affine(np.maximum(np.concatenate(said, -1), 0), w, "proj.1.c"), w, "proj.1")


def loop(built, x):
    """Window by window."""
    w, (B, H, W, _), (h, v) = weights(built), x.shape, built.window
    padded = np.pad(x.numpy(), ((0, 0), (0, -H % h), (0, -W % v), (0, 0)))
    for b, top, left in np.ndindex(B, padded.shape[1] // h, padded.shape[2] // v):
        here = b, slice(top * h, top * h + h), slice(left * v, left * v + v)
        padded[here] = cascade(built, w, padded[here])
    return padded[:, :H, :W]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[window_size=3,key_dim=4]", "[window_size=7,kernel_size=3]"])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_cascaded_group_attention_equals_a_loop_over_heads_and_pairs(grid, settings, kernel):
    built, x = built_with_statistics(f"cascaded_group{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_head_hears_the_heads_before_it_and_none_after():
    built, x = layer("cascaded_group", (4, 6)), images((4, 6))
    with torch.no_grad():  # one output channel for each head
        built.proj[1].c.weight.zero_()
        built.proj[1].c.weight[torch.arange(24), torch.arange(24)] = 1
    before = built(x)
    for head in range(3):
        nudged = x.clone()
        nudged[..., 8 * head : 8 * head + 8] += 1 + images((4, 6), dim=8, seed=5)
        moved = (built(nudged) - before).abs().amax((0, 1, 2)).view(3, 8).amax(-1) > 1e-12
        assert moved.tolist() == [other >= head for other in range(3)]


def test_a_window_as_large_as_a_square_map_is_the_whole_map():
    whole = built_with_statistics("cascaded_group", (7, 7))
    cut = layer("cascaded_group[window_size=7]", (7, 7))
    cut.load_state_dict(whole.state_dict())
    x = images((7, 7))
    assert_close(cut(x), whole(x).detach().numpy())


def test_a_pixel_reaches_only_its_own_window():
    built, x = layer("cascaded_group[window_size=3]", (5, 7)), images((5, 7))
    nudged = x.clone()
    nudged[:, 4, 5] += 1
    moved = (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist()
    assert moved == [[i, j] for i in (3, 4) for j in (3, 4, 5)]


def test_tokens_equally_far_apart_share_a_bias():
    built = layer("cascaded_group", (2, 3))
    row = built.attention_bias_idxs[4].tolist()  # of the middle token of the lower row
    assert row == [4, 3, 4, 1, 0, 1]


@pytest.mark.parametrize(("grid", "window"), [((5, 5), 5), ((8, 8), 5), ((10, 15), 5), ((9, 8), 5)])
def test_cascaded_group_attention_gives_what_timm_gives(grid, window):
    timm = library("timm.models.efficientvit_msra")
    if grid[0] != grid[1] and version("timm") == "1.0.30":
        pytest.skip("timm 1.0.30 computes this layer on square maps only; newer versions on any")
    theirs = timm.LocalWindowAttention(24, 16, 3, 8 / 16, grid[0], window, (5, 5, 5)).double()
    theirs.eval()
    built, x = built_with_statistics(f"cascaded_group[window_size={window}]", grid), images(grid)
    state = {name.replace(".c.", ".conv."): v for name, v in built.state_dict().items() if "idxs" not in name}
    theirs.attn.load_state_dict(state)
    with torch.no_grad():
        assert_close(built(x), theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy())


def test_counts_and_names_are_those_of_the_authors_code():
    with torch.device("meta"):
        built = layer("cascaded_group", (14, 14), dim=768, heads=12)
    counts = count(built, torch.empty(1, 14, 14, 768, device="meta", dtype=torch.float64))
    assert (counts.params, counts.macs) == (674_928, 167_876_352)
    norm = ("c.weight", *(f"bn.{t}" for t in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")))
    places = [f"{name}.{head}" for name in ("qkvs", "dws") for head in range(12)] + ["proj.1"]
    names = {f"{place}.{part}" for place in places for part in norm}
    assert set(built.state_dict()) == {*names, "attention_biases", "attention_bias_idxs"}
    shapes = {name: tuple(t.shape) for name, t in built.state_dict().items()}
    assert shapes["attention_biases"] == (12, 196)
    assert shapes["attention_bias_idxs"] == (196, 196)
    assert shapes["qkvs.0.c.weight"] == (96, 64, 1, 1)
    assert shapes["dws.11.c.weight"] == (16, 1, 5, 5)
    assert shapes["proj.1.c.weight"] == (768, 768, 1, 1)


def test_the_counts_of_windows_are_those_of_the_padded_map():
    with torch.device("meta"):
        built = layer("cascaded_group[window_size=7]", (13, 11), dim=768, heads=12)
    counts = count(built, torch.empty(1, 13, 11, 768, device="meta", dtype=torch.float64))
    assert counts.params == 674_928 - 12 * (196 - 49)
    assert counts.macs == 167_876_352 - 12 * 80 * 196 * (196 - 49)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
        ({"key_dim": 0}, "key_dim must be at least 1; got key_dim=0"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1; got kernel_size=4"),
        ({"kernel_size": -1}, "kernel_size must be odd and at least 1; got kernel_size=-1"),
        ({"window_size": -1}, "window_size must be at least 1, or 0 for the whole map; got window_size=-1"),
    ],
)
def test_cascaded_group_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("cascaded_group", (4, 6), **settings)


def test_a_map_of_another_grid_is_refused_without_windows_alone():
    with pytest.raises(ValueError, match="got grid=6x4, built for 4x6"):
        layer("cascaded_group", (4, 6))(images((6, 4)))
    built, x = built_with_statistics("cascaded_group[window_size=3]", (4, 6)), images((6, 4))
    assert_close(built(x), loop(built, x))


def test_gradients_reach_every_offset_of_the_bias():
    built = layer("cascaded_group", (5, 7)).train()
    built(images((5, 7))).square().sum().backward()
    assert built.attention_biases.grad.abs().gt(0).all()
