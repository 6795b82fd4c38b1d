"""Swin V2's cosine attention against a loop over pixels, its laws, and its refusals."""

import math

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights


def bias(w, s, down, right):
    """The network's bias of one offset, for all heads."""
    spaced = [
        math.copysign(math.log2(abs(8 * t / max(s - 1, 1)) + 1) / math.log2(8), t) if t else 0.0 for t in (down, right)
    ]
    hidden = np.maximum(affine(np.array(spaced), w, "cpb_mlp.0"), 0)
    return 16 / (1 + np.exp(-affine(hidden, w, "cpb_mlp.2")))


def loop(built, x):
    """Pixel by pixel on the zero-padded map, cosines by the textbook."""
    w, s, n = weights(built), built.window_size, built.heads
    B, H, W, C = x.shape
    d, out = C // n, np.zeros(x.shape)
    padded = np.zeros((B, -(-H // s) * s, -(-W // s) * s, C))
    padded[:, :H, :W] = x.numpy()
    q, k, v = (padded @ part.T for part in np.split(w["qkv.weight"], 3))
    q, v = q + w["q_bias"], v + w["v_bias"]
    table = {t: bias(w, s, *t) for t in np.ndindex(2 * s - 1, 2 * s - 1) for t in [(t[0] - s + 1, t[1] - s + 1)]}
    for b, y, z, head in np.ndindex(B, H, W, n):
        c = slice(head * d, (head + 1) * d)
        places = [(i, j) for i in range(y // s * s, y // s * s + s) for j in range(z // s * s, z // s * s + s)]
        query = q[b, y, z, c] / np.linalg.norm(q[b, y, z, c])
        keys = [k[b, i, j, c] / max(np.linalg.norm(k[b, i, j, c]), 1e-9) for i, j in places]
        out[b, y, z, c] = attention_of_one(
            query,
            np.array(keys),
            np.array([v[b, i, j, c] for i, j in places]),
            min(math.exp(w["logit_scale"][head, 0, 0]), 100.0),
            np.array([table[y - i, z - j][head] for i, j in places]),
        )
    return affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("window_size", [1, 3, 7])
@pytest.mark.parametrize("grid", GRIDS)
def test_cosine_attention_equals_a_loop_over_pixels(grid, window_size, kernel):
    built, x = layer("swin_v2", grid, window_size=window_size, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


def test_the_scale_of_the_logits_stops_at_one_hundred():
    built, x = layer("swin_v2[window_size=3]", (5, 7)), images((5, 7))
    with torch.no_grad():
        built.logit_scale.fill_(9.0)
        assert_close(built(x), loop(built, x))
        capped = built(x)
        built.logit_scale.fill_(8.0)
    assert_close(built(x), capped.numpy())


def test_the_length_of_queries_does_not_matter():
    built, x = layer("swin_v2[window_size=3]", (5, 7)), images((5, 7))
    before = built(x).detach().numpy()
    with torch.no_grad():
        built.qkv.weight[:24] *= 5
        built.q_bias *= 5
    assert_close(built(x), before)


def test_padding_stays_finite_in_float16():
    built = layer("swin_v2", (5, 7)).half()
    y = built(images((5, 7)).half())
    y.square().sum().backward()
    assert y.isfinite().all()
    assert all(p.grad.isfinite().all() for p in built.parameters())


def test_cosine_attention_gives_what_timm_gives():
    timm = library("timm.models.swin_transformer_v2")
    theirs = timm.WindowAttention(24, (3, 3), 3).eval()
    built, x = layer("swin_v2[window_size=3]", (3, 3)).float(), images((3, 3)).float()
    theirs.load_state_dict(built.state_dict())
    with torch.no_grad():
        assert_close(built(x), theirs(x.view(2, 9, 24)).view(x.shape).numpy(), 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_cosine_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("swin_v2", (4, 6), **settings)
