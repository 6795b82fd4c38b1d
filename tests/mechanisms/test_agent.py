"""Agent attention against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def stretched(table, H, W):
    """A 7 x 7 table read at H x W places: bilinear between centres, constant beyond the outer ones."""
    out = np.zeros((*table.shape[:-2], H, W))
    for y, x in np.ndindex(H, W):
        i, j = (max((t + 0.5) * 7 / side - 0.5, 0) for t, side in ((y, H), (x, W)))
        i, j = min(i, 6), min(j, 6)
        top, left = int(i), int(j)
        below, right = min(top + 1, 6), min(left + 1, 6)
        upper = table[..., top, left] * (left + 1 - j) + table[..., top, right] * (j - left)
        lower = table[..., below, left] * (left + 1 - j) + table[..., below, right] * (j - left)
        out[..., y, x] = upper * (top + 1 - i) + lower * (i - top)
    return out


def pooled(q, side):
    """Means of side x side cells that overlap where the map does not divide."""
    H, W, C = q.shape
    cells = []
    for i, j in np.ndindex(side, side):
        rows = slice(i * H // side, -(-(i + 1) * H // side))
        columns = slice(j * W // side, -(-(j + 1) * W // side))
        cells.append(q[rows, columns].reshape(-1, C).mean(0))
    return np.array(cells)


def loop(built, x):
    """Agent by agent, then token by token."""
    w, n, a = weights(built), built.heads, built.agent_num
    _, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    gather, ask = stretched(w["an_bias"], H, W), stretched(w["na_bias"], H, W)  # each n a h w
    for b, qkv in enumerate(affine(x.numpy(), w, "qkv")):
        q, k, v = np.split(qkv, 3, axis=-1)
        agents = pooled(q, int(a**0.5))
        for head in range(n):
            c = slice(head * d, (head + 1) * d)
            keys, values = k[..., c].reshape(-1, d), v[..., c].reshape(-1, d)
            means = []
            for i in range(a):
                bias = gather[head, i] + w["ah_bias"][0, head, i] + w["aw_bias"][0, head, i]
                means.append(attention_of_one(agents[i, c], keys, values, d**-0.5, bias.ravel()))
            for y, z in np.ndindex(H, W):
                bias = ask[head, :, y, z] + w["ha_bias"][0, head, y, 0] + w["wa_bias"][0, head, 0, z]
                out[b, y, z, c] = attention_of_one(q[y, z, c], agents[:, c], np.array(means), d**-0.5, bias)
        for y, z, i, j in np.ndindex(H, W, 3, 3):
            if 0 <= y + i - 1 < H and 0 <= z + j - 1 < W:
                out[b, y, z] += w["dwc.weight"][:, 0, i, j] * v[y + i - 1, z + j - 1]
        out[b] += w["dwc.bias"]
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("agent_num", [4, 9, 49])
@pytest.mark.parametrize("grid", [*GRIDS, (10, 8)])
def test_agent_attention_equals_a_loop_over_tokens(grid, agent_num, kernel):
    built, x = layer("agent", grid, agent_num=agent_num, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_one_agent_tells_every_token_the_same():
    built, x = layer("agent[agent_num=1]", (4, 6)), images((4, 6))
    with torch.no_grad():
        built.dwc.weight.zero_()
    y = built(x)
    assert_close(y, y[:, :1, :1].expand_as(y).detach().numpy())


def test_parameters_are_those_of_the_authors_code():
    with torch.device("meta"):
        built = layer("agent", (14, 14), dim=768, heads=12)
    assert sum(p.numel() for p in built.parameters()) == 2_460_600


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agent_num": 50}, "agent_num must be the square of a whole number; got agent_num=50"),
        ({"agent_num": 0}, "agent_num must be the square of a whole number; got agent_num=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_agent_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("agent", (4, 6), **settings)


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"got \(6, 4\), built for \(4, 6\)"):
        layer("agent", (4, 6))(images((6, 4)))
