"""Aggregated attention against a loop over tokens, its laws, and its refusals."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights

from attnbench import registry
from attnbench.registry.variant import parse_variant


def unit(u):
    return u / np.sqrt((u**2).sum(-1, keepdims=True))


def gelu(u):
    return u * np.vectorize(lambda t: (1 + math.erf(t / math.sqrt(2))) / 2)(u)


def cells(side, count):
    """The places that each cell of an axis covers."""
    return [range(i * side // count, math.ceil((i + 1) * side / count)) for i in range(count)]


def bias(w, token, centers, H, W):
    """The network's answer for one token and one cell, for all heads."""

    def log(t):
        return math.copysign(math.log2(abs(t) + 1) / 3, t)

    u = [log(8 * (token[a] - centers[a]) / max(side - 1, 1)) for a, side in enumerate((H, W))]
    hidden = np.maximum(w["cpb_fc1.weight"] @ u + w["cpb_fc1.bias"], 0)
    return w["cpb_fc2.weight"] @ hidden + w["cpb_fc2.bias"]


def loop(built, x):
    """One token after the other: its neighbors and the pooled cells in one softmax."""
    w, (B, H, W, C), n, r = weights(built), x.shape, built.heads, built.sr_ratio
    d, half, out = C // n, built.window_size // 2, np.zeros(x.shape)
    softplus = np.log1p(np.exp(w["temperature"][:, 0, 0]))
    rows, columns = (cells(side, max(side // r, 1)) for side in (H, W))
    for b in range(B):
        image = x[b].numpy()
        if r == 1:
            q, k, v = np.split(affine(image, w, "qkv"), 3, axis=-1)
            far = [(k[p], v[p], p) for p in np.ndindex(H, W)]
        else:
            q, (k, v) = affine(image, w, "q"), np.split(affine(image, w, "kv"), 2, axis=-1)
            wide, far = gelu(affine(image, w, "sr")), []
            for ys, xs in ((ys, xs) for ys in rows for xs in columns):
                mean = np.mean([wide[i, j] for i in ys for j in xs], axis=0)
                mean = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5) * w["norm.weight"] + w["norm.bias"]
                far.append((*np.split(affine(mean, w, "kv"), 2), (np.mean(ys), np.mean(xs))))
        for y, z in np.ndindex(H, W):
            near = []
            if r > 1:
                square = [(y + i, z + j) for i in range(-half, half + 1) for j in range(-half, half + 1)]
                near = [(o, p) for o, p in enumerate(square) if 0 <= p[0] < H and 0 <= p[1] < W]
            biases = [bias(w, (y, z), center, H, W) for *_, center in far]
            for head in range(n):
                c = slice(head * d, (head + 1) * d)
                plain = unit(q[y, z, c])
                asked = (plain + w["query_embedding"][head, 0]) * softplus[head] * math.log(len(near) + len(far))
                logits = [asked @ unit(k[p][c]) + w["relative_pos_bias_local"][head, o] for o, p in near]
                logits += [asked @ unit(key[c]) + of[head] for (key, *_), of in zip(far, biases, strict=True)]
                share = np.exp(np.array(logits) - max(logits))
                share /= share.sum()
                values = [v[p][c] for _, p in near] + [value[c] for _, value, _ in far]
                for i, (o, _) in enumerate(near):
                    share[i] += plain @ w["learnable_tokens"][head, :, o] + w["learnable_bias"][head, 0, o]
                out[b, y, z, c] = share @ np.array(values)
    return affine(out, w, "proj")


@pytest.mark.parametrize(
    ("grid", "settings", "kernel"),
    [
        *((grid, "", "eager") for grid in (*GRIDS, (1, 1), (1, 5))),
        ((5, 7), "[sr_ratio=4,window_size=5]", "eager"),
        ((11, 4), "[sr_ratio=3]", "eager"),
        ((5, 7), "[sr_ratio=1]", "eager"),
        ((5, 7), "[sr_ratio=1]", "sdpa"),
    ],
)
def test_transnext_equals_a_loop_over_tokens(grid, settings, kernel):
    built, x = layer(f"transnext{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_transnext_gives_what_the_authors_code_gives():
    for case in golden("transnext"):
        heads, r = case["config"]["num_heads"], case["config"]["sr_ratio"]
        assert_golden(layer("transnext", (14, 14), dim=96, heads=heads, sr_ratio=r), case)


def test_the_length_of_queries_and_keys_does_not_matter():
    built, x = layer("transnext", (4, 6)), images((4, 6))
    with torch.no_grad():
        before = built(x)
        built.q.weight *= 3
        built.q.bias *= 3
        built.kv.weight[:24] *= 5
        built.kv.bias[:24] *= 5
    assert_close(built(x), before.numpy())


def test_parameters_of_the_last_stage_bear_the_authors_names():
    names = dict(layer("transnext[sr_ratio=1]", (4, 6)).named_parameters())
    assert set(names) == {
        "temperature", "query_embedding", "qkv.weight", "qkv.bias", "proj.weight", "proj.bias",
        "cpb_fc1.weight", "cpb_fc1.bias", "cpb_fc2.weight", "cpb_fc2.bias",
    }  # fmt: skip


@pytest.mark.parametrize(("side", "params", "macs"), [(14, 2_370_840, 526_654_464), (64, 2_370_840, 35_549_092_864)])
def test_counts_of_the_last_stage_are_those_of_the_authors_code(side, params, macs):
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant("transnext[sr_ratio=1]"))
    size = known.size(variant, grid=(side, side))
    with torch.device("meta"):
        built = known.build(variant, size)
    assert (sum(p.numel() for p in built.parameters()), known["transnext"].macs(size)) == (params, macs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 2}, "window_size must be odd and at least 1; got window_size=2"),
        ({"sr_ratio": 0}, "sr_ratio must be at least 1; got sr_ratio=0"),
    ],
)
def test_transnext_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("transnext", (4, 6), **settings)
