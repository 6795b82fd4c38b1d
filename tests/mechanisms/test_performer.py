"""Performer against a loop over queries, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights

from mechanisms.performer import random_features


def loop(built, x):
    """Every query against every key by the kernel of the features, never joining keys and values first."""
    w, n, (B, H, W, C) = weights(built), built.heads, x.shape
    P, d, N = w["fast_attention.projection_matrix"], C // n, H * W
    qkv = affine(x.numpy().reshape(B, N, C), w, "qkv").reshape(B, N, 3, n, d)

    def seen(u):
        return P @ u / d**0.25

    def feature(u, top):
        return np.exp(seen(u) - (u**2).sum() / (2 * np.sqrt(d)) - top) + 1e-4

    out = np.zeros((B, N, n, d))
    tops = {(b, a): max(seen(u).max() for u in qkv[b, :, 1, a]) for b in range(B) for a in range(n)}
    for b, a in np.ndindex(B, n):
        top = tops[b, a] if built.stabiliser == "sample" else max(tops.values())
        keys = [feature(u, top) for u in qkv[b, :, 1, a]]
        for i in range(N):
            query = qkv[b, i, 0, a]
            weight = np.array([np.dot(feature(query, seen(query).max()), key) for key in keys])
            out[b, i, a] = (weight[:, None] * qkv[b, :, 2, a]).sum(0) / weight.sum()
    return affine(out.reshape(B, N, C), w, "proj").reshape(x.shape)


@pytest.mark.parametrize("settings", ["[nb_features=1]", "[nb_features=20]", "[nb_features=20,stabiliser=batch]"])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_performer_equals_a_loop_over_queries(grid, settings):
    built, x = layer(f"performer{settings}", grid), images(grid)
    assert_close(built(x), loop(built, x))


@pytest.mark.parametrize(("stabiliser", "coupled"), [("sample", False), ("batch", True)])
def test_an_image_depends_on_its_batch_only_by_the_batchs_stabiliser(stabiliser, coupled):
    built, x = layer("performer", (4, 6), stabiliser=stabiliser), images((4, 6))
    x[1] *= 5
    assert bool((built(x)[:1] - built(x[:1])).abs().max() > 1e-9) == coupled


def test_with_more_features_the_weights_come_nearer_to_softmax():
    torch.manual_seed(0)
    q, k = (images((3, 8), dim=8) / 2).view(2, 1, 1, 24, 8)  # each b n (h w) d
    exact = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(dim=-1)

    def error(nb_features):
        built = layer("performer", (4, 6), nb_features=nb_features)
        fq, fk = (built._features(u, over) - 1e-4 for u, over in ((q, (-1,)), (k, (-2, -1))))
        weight = fq @ fk.transpose(-2, -1)
        return (weight / weight.sum(-1, keepdim=True) - exact).abs().sum(-1).mean()

    # a mean of 256 times as many has a sixteenth of the error; a few large features take some of that back
    assert error(64 * 256) < error(64) / 4


def test_features_are_orthogonal_in_blocks():
    P = random_features(20, 8).double()
    for block in (P[:8], P[8:16], P[16:]):
        gram = block @ block.t()
        assert (gram - gram.diagonal().diag()).abs().max() < 1e-4
    assert P.shape == (20, 8)


def test_performer_gives_what_the_benchmarks_code_gives():
    for case in golden("performer"):
        config = case["config"]
        settings = {"nb_features": config["nb_features"], "stabiliser": "batch"}
        assert_golden(layer("performer", (14, 14), dim=96, heads=config["num_heads"], **settings), case)


def test_performer_gives_what_lucidrains_code_gives():
    for case in golden("performer_lucidrains"):
        w, config = case["state_dict"], case["config"]
        parts = ("weight", "bias")
        ours = {
            "fast_attention.projection_matrix": w["fast_attention.projection_matrix"],
            **{f"qkv.{p}": torch.cat([w[f"to_{name}.{p}"] for name in "qkv"]) for p in parts},
            **{f"proj.{p}": w[f"to_out.{p}"] for p in parts},
        }
        built = layer("performer", (14, 14), dim=96, heads=config["num_heads"], nb_features=config["nb_features"])
        assert_golden(built, {**case, "state_dict": ours})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_queries_and_keys_stay_finite_in_half_precision(dtype):
    built, x = layer("performer[nb_features=8]", (4, 6)), images((4, 6)) * 20
    assert built.to(dtype)(x.to(dtype)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nb_features": 0}, "nb_features must be at least 1; got nb_features=0"),
        ({"stabiliser": "none"}, "stabiliser must be sample or batch; got stabiliser=none"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_performer_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("performer", (4, 6), **settings)
