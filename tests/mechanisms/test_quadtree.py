"""QuadTree attention against a recursive loop, its laws, its refusals, and the authors' output."""

import math

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, assert_golden, golden, images, layer, weights

gelu = np.vectorize(lambda t: t * 0.5 * (1 + math.erf(t / math.sqrt(2))))


def one_group(x, w, name):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def halve(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3))


def halve_values(v, w, name):
    u, kernel = gelu(one_group(v, w, f"{name}.0")), w[f"{name}.2.weight"]
    small = np.zeros((v.shape[0] // 2, v.shape[1] // 2, v.shape[2]))
    for y, x in np.ndindex(small.shape[:2]):
        small[y, x] = w[f"{name}.2.bias"]
        for i, j in np.ndindex(2, 2):
            small[y, x] += kernel[:, :, i, j] @ u[2 * y + i, 2 * x + j]
    return affine(gelu(one_group(small, w, f"{name}.3")), w, f"{name}.5")


def beside(v, w, name):
    out, (H, W, _) = np.zeros_like(v), v.shape
    for y, x in np.ndindex(H, W):
        out[y, x] = w[f"{name}.bias"]
        for i, j in np.ndindex(3, 3):
            if 0 <= y + i - 1 < H and 0 <= x + j - 1 < W:
                out[y, x] += w[f"{name}.weight"][:, 0, i, j] * v[y + i - 1, x + j - 1]
    return out


def loop(w, image, heads, levels, topk):
    """One image: per level, head and query, the set of places that it may look at."""
    H, W, C = image.shape
    block, d = 2 ** (levels - 1), C // heads
    big = np.zeros((-(-H // block) * block, -(-W // block) * block, C))
    big[:H, :W] = image
    maps = [tuple(affine(big, w, f"{name}_proj") for name in "qkv")]
    for i in range(levels - 1):
        q, k, v = maps[-1]
        maps.append((halve(q), halve(k), halve_values(v, w, f"value_branchs.{i}")))
    share = np.exp(w["py_att.weight"]) / np.exp(w["py_att.weight"]).sum()
    out, seen = np.zeros(big.shape), {}
    for depth, (q, k, v) in enumerate(reversed(maps)):
        total, best = beside(v, w, f"py_att.get_vs.{depth}"), {}
        for y, x in np.ndindex(q.shape[:2]):
            for n in range(heads):
                c = slice(n * d, (n + 1) * d)
                if depth == 0:
                    places = list(np.ndindex(q.shape[:2]))
                else:
                    parents = seen[y // 2, x // 2, n]
                    places = [(2 * a + i, 2 * b + j) for a, b in parents for i in (0, 1) for j in (0, 1)]
                logits = np.array([q[y, x, c] @ k[p][c] for p in places]) / math.sqrt(d)
                weight = np.exp(logits - logits.max())
                total[y, x, c] += sum(s * v[p][c] for s, p in zip(weight / weight.sum(), places, strict=True))
                best[y, x, n] = [places[m] for m in np.argsort(-logits)[:topk]]
        size = 2 ** (levels - 1 - depth)
        out += share[depth] * np.kron(total, np.ones((size, size, 1)))
        seen = best
    return affine(out, w, "proj")[:H, :W]


@pytest.mark.parametrize("settings", [(1, 8), (2, 3), (2, 8), (3, 2), (3, 5)])
@pytest.mark.parametrize("grid", GRIDS)
def test_quadtree_equals_a_recursive_loop(grid, settings):
    built, x = layer("quadtree", grid, sr_ratio=settings[0], topk=settings[1]), images(grid, batch=1)
    w = weights(built)
    assert_close(built(x), np.array([loop(w, image, 3, *settings) for image in x.numpy()]))


def test_an_image_does_not_know_the_rest_of_its_batch():
    built, x = layer("quadtree[topk=2]", (5, 7)), images((5, 7))
    assert torch.allclose(built(x)[1:], built(x[1:]), atol=1e-13)


def test_with_enough_keys_the_fine_level_is_plain_attention():
    built, x = layer("quadtree[topk=1000]", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.py_att.weight.copy_(torch.tensor([-1e4, 0.0]))  # the finest level alone
        built.py_att.get_vs[1].weight.zero_()
        built.py_att.get_vs[1].bias.zero_()
    msa = layer("msa", (4, 6))
    with torch.no_grad():
        parts = (built.q_proj, built.k_proj, built.v_proj)
        msa.qkv.weight.copy_(torch.cat([p.weight.flatten(1) for p in parts]))
        msa.qkv.bias.copy_(torch.cat([p.bias for p in parts]))
    msa.proj.load_state_dict(built.proj.state_dict())
    assert torch.allclose(built(x), msa(x), atol=1e-12)


def test_the_levels_follow_the_stride():
    assert [len(layer("quadtree", (8, 8), stride=s).py_att.get_vs) for s in (4, 8, 16, 32)] == [4, 3, 2, 1]


def test_quadtree_gives_what_the_authors_code_gives():
    for case in golden("quadtree"):
        c = case["config"]
        built = layer("quadtree", (14, 14), dim=96, heads=c["num_heads"], sr_ratio=c["levels"], topk=c["topk"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
        ({"sr_ratio": 0}, "sr_ratio must be from 1 to 16; got sr_ratio=0"),
        ({"topk": 0}, "topk must be at least 1; got topk=0"),
    ],
)
def test_quadtree_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("quadtree", (4, 6), **settings)
