"""SRA against a loop over queries, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, attention_of_one, golden, images, layer, weights


def shrink(x, w, r, eps=1e-5):
    """One image's reduced tokens: each r x r block through the convolution's weights, then LayerNorm."""
    H, W, C = x.shape
    whole = np.zeros((max(H, r), max(W, r), C))
    whole[:H, :W] = x
    tokens = []
    for i in range(whole.shape[0] // r):
        for j in range(whole.shape[1] // r):
            token = w["sr.bias"].copy()
            for a, b in np.ndindex(r, r):
                token += w["sr.weight"][:, :, a, b] @ whole[i * r + a, j * r + b]
            token = (token - token.mean()) / np.sqrt(token.var() + eps)
            tokens.append(token * w["norm.weight"] + w["norm.bias"])
    return np.array(tokens)


def loop(built, x):
    """Every query against every reduced token, one head at a time."""
    w, (B, H, W, C) = weights(built), x.shape
    d, out = C // built.heads, np.zeros(x.shape)
    for b in range(B):
        one = x[b].numpy()
        kv = affine(shrink(one, w, built.sr_ratio) if built.sr_ratio > 1 else one.reshape(-1, C), w, "kv")
        q = affine(one, w, "q")
        for y, z in np.ndindex(H, W):
            for c in (slice(n * d, (n + 1) * d) for n in range(built.heads)):
                out[b, y, z, c] = attention_of_one(q[y, z, c], kv[:, c], kv[:, C:][:, c], d**-0.5)
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("ratio", [1, 2, 3, 8])
@pytest.mark.parametrize("grid", GRIDS)
def test_sra_equals_a_loop_over_queries(grid, ratio, kernel):
    built, x = layer("sra", grid, kernel=kernel, sr_ratio=ratio), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_ratio_of_one_is_msa():
    sra, msa, x = layer("sra[sr_ratio=1]", (4, 6)), layer("msa", (4, 6)), images((4, 6))
    w = sra.state_dict()
    joined = {f"qkv.{p}": torch.cat([w[f"q.{p}"], w[f"kv.{p}"]]) for p in ("weight", "bias")}
    msa.load_state_dict({**joined, "proj.weight": w["proj.weight"], "proj.bias": w["proj.bias"]})
    assert_close(sra(x), msa(x).detach().numpy())


def test_a_row_that_the_ratio_leaves_over_gives_no_key():
    built, x = layer("sra", (5, 6)), images((5, 6))
    nudged = x.clone()
    nudged[:, 4, 1] += 1
    assert (built(nudged) != built(x)).any(-1).any(0).nonzero().tolist() == [[4, 1]]


@pytest.mark.parametrize(("stride", "ratio"), [(4, 8), (8, 4), (16, 2), (32, 1)])
def test_the_ratio_follows_the_stride_as_in_pvt(stride, ratio):
    assert layer("sra", (8, 8), stride=stride).sr_ratio == ratio


def test_sra_gives_what_the_authors_code_gives():
    for case in golden("sra"):
        config = case["config"]
        assert_golden(
            layer("sra", (14, 14), dim=96, heads=config["num_heads"], sr_ratio=config["sr_ratio"]),
            case,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sr_ratio": 0}, "sr_ratio must be at least 1; got sr_ratio=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_sra_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("sra", (4, 6), **settings)
