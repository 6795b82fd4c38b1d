"""Linformer against a loop over queries, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def loop(built, x):
    """Every query against the k projected tokens, one head at a time."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros((B, H * W, C))
    for b in range(B):
        tokens = x[b].numpy().reshape(-1, C)
        q, kv = affine(tokens, w, "query"), affine(tokens, w, "kv")
        few = w["proj_k"].shape[1]
        keys = np.array([sum(w["proj_k"][i, j] * kv[i, :C] for i in range(H * W)) for j in range(few)])
        values = np.array([sum(w["proj_v"][i, j] * kv[i, C:] for i in range(H * W)) for j in range(few)])
        for i in range(H * W):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                out[b, i, c] = attention_of_one(q[i, c], keys[:, c], values[:, c], d**-0.5)
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_linformer_equals_a_loop_over_queries(grid, k, kernel):
    built, x = layer("linformer", grid, kernel=kernel, k=k), images(grid)
    assert_close(built(x), loop(built, x))


def test_projections_that_keep_every_token_make_it_msa():
    linformer, msa, x = layer("linformer[k=24]", (4, 6)), layer("msa", (4, 6)), images((4, 6))
    w = linformer.state_dict()
    eye = torch.eye(24, dtype=torch.float64)
    linformer.load_state_dict({**w, "proj_k": eye, "proj_v": eye})
    joined = {f"qkv.{p}": torch.cat([w[f"query.{p}"], w[f"kv.{p}"]]) for p in ("weight", "bias")}
    msa.load_state_dict({**joined, "proj.weight": w["proj.weight"], "proj.bias": w["proj.bias"]})
    assert_close(linformer(x), msa(x).detach().numpy())


def test_linformer_gives_what_the_benchmarks_code_gives():
    for case in golden("linformer"):
        config = case["config"]
        assert_golden(layer("linformer", (14, 14), dim=96, heads=config["num_heads"], k=config["k"]), case)


def test_linformer_gives_what_lucidrains_code_gives():
    for case in golden("linformer_lucidrains"):
        w, config = case["state_dict"], case["config"]
        none = torch.zeros(2 * 96)
        ours = {
            "query.weight": w["to_q.weight"],
            "query.bias": none[:96],
            "kv.weight": torch.cat([w["to_k.weight"], w["to_v.weight"]]),
            "kv.bias": none,
            "proj.weight": w["to_out.weight"],
            "proj.bias": w["to_out.bias"],
            "proj_k": w["proj_k"],
            "proj_v": w["proj_v"],
        }
        built = layer("linformer", (14, 14), dim=96, heads=config["num_heads"], k=config["k"])
        assert_golden(built, {**case, "state_dict": ours})


def test_linformer_serves_only_the_grid_it_was_built_for():
    built = layer("linformer", (4, 6))
    with pytest.raises(ValueError, match=r"the grid must be the one .* got grid=6x4, built for 4x6"):
        built(images((6, 4)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be at least 1; got k=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_linformer_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("linformer", (4, 6), **settings)
