"""LightViT's classifiers against the authors' counts and names; a block and a merge against plain sums."""

from math import erf, exp, sqrt

import numpy as np
import pytest
import torch
from truth import affine, attention_of_one, images, weights
from whole import assert_official_names, counts, declines, formula, model, photos, random_weights

from mechanisms.backbones.lightvit import Block, LightViT, Merge, Shape, grids

# parameters, MACs of convolutions, linear layers and products, fvcore's total
PUBLISHED = {
    "lightvit_t": (9_377_698, 772_183_808, 781_049_600),
    "lightvit_s": (19_200_248, 1_825_346_432, 1_838_978_560),
    "lightvit_b": (35_195_653, 4_106_798_080, 4_128_747_264),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_of_the_authors_model(name):
    seen = counts(name)
    assert (seen.params, seen.macs, seen.macs_fvcore) == PUBLISHED[name]
    assert formula(name) == PUBLISHED[name][1]
    assert not seen.lower_bound


def test_the_papers_count_leaves_out_48_of_49_parts_of_the_windows_products_and_the_second_keys():
    windows, second_keys, gate = 31_309_824, 7_995_392, 345_600  # the formula also counts the gate's products
    assert PUBLISHED["lightvit_t"][1] - windows - second_keys + gate == 733_224_192  # printed as 0.7 G


@pytest.mark.parametrize("resolution", [(1, 1), (61, 131), (300, 224)])
@pytest.mark.parametrize("setting", ["", "[num_tokens=3,window_size=4]"])
def test_the_formula_holds_at_any_size(resolution, setting):
    assert counts(f"lightvit_t{setting}", resolution, fvcore=False).macs == formula(f"lightvit_t{setting}", resolution)


@pytest.mark.parametrize("letter", "tsb")
def test_names_and_shapes_are_the_official_ones(letter):
    assert_official_names(f"lightvit_{letter}", (224, 224), f"lightvit_{letter}")


def normal(x, w, name, eps):
    """LayerNorm of [L,C]."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


gelu = np.vectorize(lambda v: v * (1 + erf(v / sqrt(2))) / 2)
sigmoid = np.vectorize(lambda v: 1 / (1 + exp(-v)))


def three_attentions(u, w, T, grid, s, heads):
    """Global tokens and map [T + H W, C] by plain sums, on a map filled with zeros for the windows."""
    (H, W), C = grid, u.shape[1]
    d = C // heads
    qkv = affine(u, w, "attn.qkv")
    channels = [slice(n * d, (n + 1) * d) for n in range(heads)]

    def read(tokens, part, c):
        return qkv[tokens][..., part * C : (part + 1) * C][..., c]

    everywhere = np.arange(T, T + H * W)
    gathered = np.zeros((T, C))
    for t in range(T):
        for c in channels:
            keys, values = read(everywhere, 1, c), read(everywhere, 2, c)
            gathered[t, c] = attention_of_one(read(t, 0, c), keys, values, d**-0.5)
    kv = affine(gathered, w, "attn.kv_global")
    outside = w["attn.qkv.bias"]  # what a zero token becomes
    out = np.zeros((H, W, C))
    for y in range(H):
        for x in range(W):
            query = T + y * W + x
            for n, c in enumerate(channels):
                keys, values, bias = [], [], []
                for i in range(y // s * s, y // s * s + s):
                    for j in range(x // s * s, x // s * s + s):
                        inside = qkv[T + i * W + j] if i < H and j < W else outside
                        keys.append(inside[C : 2 * C][c])
                        values.append(inside[2 * C :][c])
                        row = (y - i + s - 1) * (2 * s - 1) + x - j + s - 1
                        bias.append(w["attn.relative_position_bias_table"][row, n])
                near = attention_of_one(read(query, 0, c), np.array(keys), np.array(values), d**-0.5, np.array(bias))
                far = attention_of_one(read(query, 0, c), kv[:, :C][:, c], kv[:, C:][:, c], d**-0.5)
                out[y, x, c] = near + far
    return affine(np.concatenate([gathered, out.reshape(H * W, C)]), w, "attn.proj")


def gated_network(u, w):
    """Two linear layers and the gates, [L,C]."""
    y = affine(gelu(affine(u, w, "mlp.fc1")), w, "mlp.fc2")
    v = normal(y, w, "mlp.attn.norm", 1e-5)
    a = gelu(affine(v.mean(0), w, "mlp.attn.global_reduce"))
    local = gelu(affine(v, w, "mlp.attn.local_reduce"))
    out = np.zeros_like(y)
    for t in range(len(y)):
        place = sigmoid(affine(np.concatenate([local[t], a]), w, "mlp.attn.spatial_select"))
        out[t] = y[t] * sigmoid(affine(a, w, "mlp.attn.channel_select")) * place
    return out


@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_block_equals_plain_sums(grid, kernel):
    block, T = random_weights(Block(64, 2, 4, 0.0).eval()), 3
    block.attn.kernel = kernel
    w = weights(block)
    z = images((1, T + grid[0] * grid[1]), dim=64).squeeze(1)
    ours = block(z, grid).detach().numpy()
    for b in range(2):
        x = z[b].numpy()
        x = x + three_attentions(normal(x, w, "norm1", 1e-6), w, T, grid, 4, 2)
        assert np.abs(ours[b] - (x + gated_network(normal(x, w, "norm2", 1e-6), w))).max() <= 1e-11


@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
def test_a_merge_equals_a_loop_over_fours(grid):
    merge, T, (H, W) = random_weights(Merge(6, 10)), 3, grid
    w, z = weights(merge), images((1, T + H * W), dim=6).squeeze(1)
    ours = merge(z, grid).detach().numpy()
    for b in range(2):
        padded = np.zeros((H + H % 2, W + W % 2, 6))
        padded[:H, :W] = z[b, T:].numpy().reshape(H, W, 6)
        expected = list(affine(normal(z[b, :T].numpy(), w, "norm2", 1e-5), w, "proj"))
        for y in range(0, H, 2):
            for x in range(0, W, 2):
                four = [padded[y, x], padded[y + 1, x], padded[y, x + 1], padded[y + 1, x + 1]]
                joined = affine(normal(np.concatenate(four), w, "norm", 1e-5), w, "reduction")
                expected.append(joined + affine(np.max(four, axis=0), w, "res_proj"))
        assert np.abs(ours[b] - np.array(expected)).max() <= 1e-12


def tiny(**settings):
    """LightViT of 32, 64 and 96 channels and four blocks."""
    shape = Shape((32, 64, 96), (1, 1, 2), 3, 0.0, (2, 2, 2))
    rest = {"num_classes": 7, "num_tokens": 3, "window_size": 4, "drop_path_rate": 0.0}
    return random_weights(LightViT(shape, **{**rest, **settings})).eval()


def test_the_whole_is_its_parts_in_turn():
    built, x = tiny(), photos((61, 90))
    first = built.patch_embed(x)
    assert tuple(first.shape[1:3]) == (8, 12) == grids((61, 90))[0]
    z = torch.cat([built.global_token.expand(2, -1, -1), first.reshape(2, 96, 32)], dim=1)
    z = built.stages[0][0](z, (8, 12))
    pyramid = [z[:, 3:]]
    z = built.stages[1][1](built.stages[1][0](z, (8, 12)), (4, 6))
    pyramid.append(z[:, 3:])
    z = built.stages[2][1](built.stages[2][0](z, (4, 6)), (2, 3))
    last = built.stages[2][2]
    without_tokens = last.attend(z, (2, 3))[:, 3:]
    pyramid.append(without_tokens + last.mlp.attn.gated(_network(last, without_tokens)))
    y = torch.nn.functional.gelu(built.neck[1](built.neck[0](built.norm(last(z, (2, 3))))))
    assert torch.allclose(built(x), built.head(y.mean(dim=1)), atol=1e-12)
    for ours, expected, dim in zip(built.features(x), pyramid, (32, 64, 96), strict=True):
        assert ours.shape[1] == dim
        assert torch.allclose(ours.flatten(2).transpose(1, 2), expected, atol=1e-12)


def _network(block, z):
    return block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(z))))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("resolution", [(32, 64), (61, 90)])
def test_it_trains_in_any_precision_at_any_size(dtype, resolution):
    built = tiny(drop_path_rate=0.01).to(dtype).train()
    logits = built(photos(resolution).to(dtype))
    assert logits.shape == (2, 7)
    assert logits.dtype == dtype
    logits.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in built.parameters())


def test_pictures_of_a_batch_do_not_see_each_other():
    built, x = tiny(), photos((64, 64))
    assert torch.allclose(built(x)[1:], built(x[1:]), atol=1e-12)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("[num_tokens=0]", "num_tokens must be at least 1; got num_tokens=0"),
        ("[window_size=0]", "window_size must be at least 1; got window_size=0"),
        ("[num_classes=0]", "num_classes must be at least 1; got num_classes=0"),
        ("[drop_path_rate=-0.5]", "drop_path_rate must lie in [0, 1); got drop_path_rate=-0.5"),
    ],
)
def test_refusals_name_the_rule_and_the_values(setting, message):
    assert declines(f"lightvit_t{setting}") == message
    with pytest.raises(ValueError, match="got"):
        model(f"lightvit_t{setting}")


@pytest.mark.slow
def test_one_graph_holds_the_whole_model():
    built, x = tiny().eval(), photos((61, 96), batch=1)
    compiled = torch.compile(built, fullgraph=True, backend="aot_eager", dynamic=False)
    logits = compiled(x)
    logits.sum().backward()
    assert torch.allclose(logits, built(x), atol=1e-11)
