"""Bi-level routing attention against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def around(v, w):
    """Depthwise 5 x 5, zeros outside."""
    H, W, _ = v.shape
    out = np.zeros(v.shape) + w["lepe.bias"]
    for y, z, i, j in np.ndindex(H, W, 5, 5):
        if 0 <= y + i - 2 < H and 0 <= z + j - 2 < W:
            out[y, z] += w["lepe.weight"][:, 0, i, j] * v[y + i - 2, z + j - 2]
    return out


def loop(built, x):
    """Region by region: which regions it likes, then each of its tokens against all of theirs."""
    w, n, r = weights(built), built.heads, built.n_win
    B, H0, W0, C = x.shape
    h, wide = -(-H0 // r), -(-W0 // r)
    padded = np.zeros((B, r * h, r * wide, C))
    padded[:, :H0, :W0] = x.numpy()
    d, out = C // n, np.zeros(padded.shape)
    places = list(np.ndindex(r, r))
    for b, qkv in enumerate(affine(padded, w, "qkv.qkv")):
        q, k, v = np.split(qkv, 3, axis=-1)

        def of(t, region):
            i, j = region
            return t[i * h : (i + 1) * h, j * wide : (j + 1) * wide].reshape(h * wide, C)

        for i, j in places:
            liking = [of(q, (i, j)).mean(0) @ of(k, other).mean(0) for other in places]
            best = sorted(range(len(places)), key=lambda t: -liking[t])[: built.topk]
            keys = np.concatenate([of(k, places[t]) for t in best])
            values = np.concatenate([of(v, places[t]) for t in best])
            for y, z in np.ndindex(h, wide):
                for c in (slice(m * d, (m + 1) * d) for m in range(n)):
                    out[b, i * h + y, j * wide + z, c] = attention_of_one(
                        q[i * h + y, j * wide + z, c], keys[:, c], values[:, c], C**-0.5
                    )
        out[b] += around(v, w)
    return affine(out, w, "wo")[:, :H0, :W0]


def unrouted(built, x):
    """The authors' last stage: every token against all tokens, and the surroundings of x itself."""
    w, n, (_, H, W, C) = weights(built), built.heads, x.shape
    d, out = C // n, np.zeros(x.shape)
    for b, image in enumerate(x.numpy()):
        q, k, v = np.split((image @ w["qkv.weight"].T).reshape(H * W, 3 * C), 3, axis=-1)
        for i, c in np.ndindex(H * W, n):
            c = slice(c * d, (c + 1) * d)
            out[b, i // W, i % W, c] = attention_of_one(q[i, c], k[:, c], v[:, c], d**-0.5)
        out[b] += around(image, w)
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("grid", GRIDS)
def test_the_last_stage_equals_a_loop_over_all_tokens(grid, kernel):
    built, x = layer("bi_level", grid, stride=32, kernel=kernel), images(grid)
    assert_close(built(x), unrouted(built, x))


def test_the_last_stage_has_the_authors_parameters():
    with torch.device("meta"):
        built = layer("bi_level", (7, 7), dim=512, heads=16, stride=32)
    assert {name: tuple(p.shape) for name, p in built.state_dict().items()} == {
        "qkv.weight": (1536, 512),
        "lepe.weight": (512, 1, 5, 5),
        "lepe.bias": (512,),
        "proj.weight": (512, 512),
        "proj.bias": (512,),
    }
    assert sum(p.numel() for p in built.parameters()) == 1_062_400


def test_the_other_stages_have_the_authors_parameters():
    built = layer("bi_level", (4, 6))
    assert set(built.state_dict()) == {
        f"{name}.{kind}" for name in ("qkv.qkv", "lepe", "wo") for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "settings", ["", "[topk=49]", "[n_win=2,topk=1]", "[n_win=3,topk=4]", "[n_win=1,topk=1]", "[n_win=2,topk=3]"]
)
@pytest.mark.parametrize("grid", GRIDS)
def test_bi_level_routing_equals_a_loop_over_tokens(grid, settings, kernel):
    built, x = layer(f"bi_level{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_a_region_reads_as_many_regions_as_topk_and_its_surroundings():
    built, x = layer("bi_level[n_win=3,topk=2]", (6, 9)), images((6, 9)).requires_grad_()
    with torch.no_grad():
        built.lepe.weight.zero_()
    (grad,) = torch.autograd.grad(built(x)[0, 0, 0].square().sum(), x)
    regions = {(i // 2, j // 3) for i, j in grad[0].abs().sum(-1).nonzero().tolist()}
    assert len(regions - {(0, 0)}) in (1, 2)
    assert len(regions) in (2, 3)


def test_images_of_a_batch_choose_for_themselves():
    built, x = layer("bi_level[n_win=3,topk=2]", (6, 9)), images((6, 9), batch=3)
    assert_close(built(x)[1:2], built(x[1:2]).detach().numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_win": 0}, "n_win must be at least 1; got n_win=0"),
        ({"topk": 50}, r"topk must be -2 .no routing. or lie between 1 and the n_win\^2 regions; got topk=50, n_win=7"),
        ({"topk": 0}, r"topk must be -2 .no routing. or lie between 1 and the n_win\^2 regions; got topk=0, n_win=7"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_bi_level_routing_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("bi_level", (4, 6), **settings)
