"""LightViT's attention against a loop over tokens, its laws, its refusals, and the authors' output."""

import numpy as np
import pytest
import torch
from truth import GRIDS, affine, assert_close, attention_of_one, golden, images, layer, weights


def loop(w, heads, s, tokens, x):
    """One image: tokens [T,C], x [H,W,C]; query by query."""
    (H, W, C), (T, _), d = x.shape, tokens.shape, x.shape[-1] // heads
    big = np.zeros((-(-H // s) * s, -(-W // s) * s, C))
    big[:H, :W] = x
    image, own = affine(big, w, "qkv"), affine(tokens, w, "qkv")
    flat = image[:H, :W].reshape(H * W, -1)
    parts = [slice(n * d, (n + 1) * d) for n in range(heads)]
    gathered = np.zeros((T, C))
    for t in range(T):
        for c in parts:
            gathered[t, c] = attention_of_one(own[t, c], flat[:, C:][:, c], flat[:, 2 * C :][:, c], d**-0.5)
    back, out = affine(gathered, w, "kv_global"), np.zeros((H, W, C))
    for y in range(H):
        for z in range(W):
            places = [(i, j) for i in range(y // s * s, y // s * s + s) for j in range(z // s * s, z // s * s + s)]
            block = np.array([image[p] for p in places])
            rows = [(y - i + s - 1) * (2 * s - 1) + z - j + s - 1 for i, j in places]
            for n, c in enumerate(parts):
                q, bias = image[y, z, c], w["relative_position_bias_table"][rows, n]
                near = attention_of_one(q, block[:, C:][:, c], block[:, 2 * C :][:, c], d**-0.5, bias)
                out[y, z, c] = near + attention_of_one(q, back[:, c], back[:, C:][:, c], d**-0.5)
    return affine(gathered, w, "proj"), affine(out, w, "proj")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[window_size=2,num_tokens=3]", "[window_size=1,num_tokens=1]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_lightvit_equals_a_loop_over_tokens(grid, settings, kernel):
    built, x = layer(f"lightvit{settings}", grid, kernel=kernel), images(grid)
    w = weights(built)
    assert_close(
        built(x),
        np.array([loop(w, 3, built.window_size, built.global_token.numpy()[0], image)[1] for image in x.numpy()]),
    )


def test_a_caller_may_hand_in_tokens_of_its_own_and_gets_them_back():
    built, x = layer("lightvit[window_size=2]", (5, 7)), images((5, 7))
    tokens = images((1, 4), seed=3)[:, 0]
    ours, w = built.exchange(tokens, x), weights(built)
    for b in range(2):
        truth = loop(w, 3, 2, tokens[b].numpy(), x[b].numpy())
        assert_close(ours[0][b], truth[0])
        assert_close(ours[1][b], truth[1])


def test_one_global_token_adds_the_same_to_every_place():
    built, x = layer("lightvit[window_size=2,num_tokens=1]", (4, 6)), images((4, 6))
    with_token = built(x)
    with torch.no_grad():
        built.kv_global.weight.zero_()
        built.kv_global.bias.zero_()
    added = with_token - built(x)
    assert (added - added[:, :1, :1]).abs().max() < 1e-12
    assert added.abs().max() > 1e-3


def test_lightvit_gives_what_the_authors_code_gives():
    for case in golden("lightvit"):
        config = case["config"]
        for dtype, tolerance in ((torch.float64, 2e-6), (torch.float32, 2e-5)):
            built = layer("lightvit", (14, 14), dim=96, heads=config["num_heads"])
            built.load_state_dict(case["state_dict"])
            x, T = case["x"].to(dtype), config["num_tokens"]
            tokens, image = built.to(dtype).exchange(x[:, :T], x[:, T:].view(2, 14, 14, 96))
            ours = torch.cat([tokens, image.flatten(1, 2)], dim=1)
            assert (ours.double() - case["y"].double()).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_tokens": 0}, "num_tokens must be at least 1; got num_tokens=0"),
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_lightvit_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("lightvit", (4, 6), **settings)
