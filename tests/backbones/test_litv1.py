"""LITv1 against the authors' counts and names; its attention against a loop over tokens."""

import numpy as np
import pytest
import torch
from truth import affine, attention_of_one, images, weights
from whole import assert_official_names, counts, declines, formula, model, photos, random_weights

from mechanisms.backbones.lit import Shape, grids
from mechanisms.backbones.litv1 import BiasedAttention, litv1

# parameters; MACs of convolutions (deformable ones too), linear layers and products; fvcore's total with the
# deformable ones; fvcore's total for the authors' code, which leaves them out
PUBLISHED = {
    "litv1_s": (27_973_720, 4_076_614_656, 4_088_619_264, 3_915_211_008),
    "litv1_m": (49_372_264, 8_592_454_656, 8_613_490_944, 8_440_082_688),
    "litv1_b": (87_292_384, 15_027_531_776, 15_055_580_160, 14_747_298_816),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_of_the_authors_model(name):
    params, macs, fvcore, without = PUBLISHED[name]
    seen = counts(name)
    assert (seen.params, seen.macs, seen.macs_fvcore) == (params, macs, fvcore)
    assert formula(name) == macs
    dim = 128 if name == "litv1_b" else 96
    assert fvcore - without == sum(8 * (dim * 2**i) ** 2 * side**2 for i, side in enumerate((28, 14, 7)))


@pytest.mark.parametrize("resolution", [(29, 29), (61, 131), (300, 224)])
@pytest.mark.parametrize("setting", ["", "[ffn=conv]"])
def test_the_formula_holds_at_any_size(resolution, setting):
    assert counts(f"litv1_s{setting}", resolution, fvcore=False).macs == formula(f"litv1_s{setting}", resolution)


def test_convolutional_networks_are_the_only_difference_but_the_bias_to_litv2_with_plain_attention():
    tables = 6 * 729 * 12 + 2 * 169 * 24
    assert counts("litv1_s[ffn=conv]", fvcore=False).params == 28_089_760 - 0 + tables
    assert formula("litv1_s[ffn=conv]") == formula("litv2_s[attention=msa]")


@pytest.mark.parametrize("letter", "smb")
def test_names_and_shapes_are_the_official_ones(letter):
    assert_official_names(f"litv1_{letter}", (224, 224), f"litv1_{letter}")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("grid", [(3, 4), (5, 2), (1, 1)])
def test_attention_equals_a_loop_over_tokens(grid, kernel):
    built, x = random_weights(BiasedAttention(12, 3, grid=grid)), images(grid, dim=12)
    built.kernel = kernel
    (H, W), w = grid, weights(built)
    table = w["relative_position_bias_table"]
    out = np.zeros(x.shape)
    for b in range(2):
        qkv = affine(x[b].numpy().reshape(H * W, 12), w, "qkv")
        for t in range(H * W):
            heads = []
            for n in range(3):
                c = slice(4 * n, 4 * n + 4)
                bias = [table[(t // W - u // W + H - 1) * (2 * W - 1) + t % W - u % W + W - 1, n] for u in range(H * W)]
                heads.append(attention_of_one(qkv[t, c], qkv[:, 12:][:, c], qkv[:, 24:][:, c], 4**-0.5, np.array(bias)))
            out[b, t // W, t % W] = affine(np.concatenate(heads), w, "proj")
    assert np.abs(built(x).detach().numpy() - out).max() <= 1e-12


def bicubic(length, wanted):
    """The matrix of Keys' cubic convolution (a = -0.75) from `length` to `wanted` samples, the rim repeated."""
    a, matrix = -0.75, np.zeros((wanted, length))
    for o in range(wanted):
        at = (o + 0.5) * length / wanted - 0.5
        for i in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            t = abs(at - i)
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            matrix[o, min(max(i, 0), length - 1)] += near if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4)
    return matrix


@pytest.mark.parametrize("other", [(6, 8), (2, 3), (3, 5)])
def test_on_another_map_the_table_is_resized_bicubically(other):
    built, (H, W) = random_weights(BiasedAttention(12, 3, grid=(3, 4))), other
    table = weights(built)["relative_position_bias_table"].reshape(5, 7, 3)
    wide = np.einsum("yi,xj,ijn->nyx", bicubic(5, 2 * H - 1), bicubic(7, 2 * W - 1), table)
    bias = built.bias(H, W).detach().numpy().reshape(3, H, W, H, W)
    for y, x, v, u in np.ndindex(H, W, H, W):
        assert np.allclose(bias[:, y, x, v, u], wide[:, y - v + H - 1, x - u + W - 1], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_any_image_size_runs_whatever_the_model_was_built_for(dtype):
    shape = Shape(32, (1, 1, 2, 1), 0.1)
    built = litv1(shape, (64, 64), num_classes=7, ffn="mlp", deform="torch", drop_path_rate=0.0)
    built = random_weights(built).to(dtype).train()
    for resolution in ((64, 64), (29, 29), (61, 131)):
        maps = built.features(photos(resolution).to(dtype))
        assert [tuple(m.shape[2:]) for m in maps] == grids(resolution)
        logits = built(photos(resolution).to(dtype))
        assert logits.shape == (2, 7)
        assert logits.dtype == dtype
        logits.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in built.parameters())


@pytest.mark.parametrize(
    ("setting", "resolution", "message"),
    [
        ("[ffn=wide]", (64, 64), "ffn must be mlp or conv; got ffn=wide"),
        ("", (64, 28), "resolution must be at least 29x29 for four stages; got 64x28"),
        ("[num_classes=-1]", (64, 64), "num_classes must be at least 1; got num_classes=-1"),
    ],
)
def test_refusals_name_the_rule_and_the_values(setting, resolution, message):
    assert declines(f"litv1_s{setting}", resolution) == message
    with pytest.raises(ValueError, match="got"):
        model(f"litv1_s{setting}", resolution)


@pytest.mark.slow
def test_one_graph_holds_the_whole_model():
    built, x = (
        random_weights(
            litv1(Shape(32, (1, 1, 1, 1), 0.1), (64, 64), num_classes=7, ffn="mlp", deform="torch", drop_path_rate=0.0)
        ).eval(),
        photos((61, 96), batch=1),
    )
    compiled = torch.compile(built, fullgraph=True, backend="aot_eager", dynamic=False)
    logits = compiled(x)
    logits.sum().backward()
    assert torch.allclose(logits, built(x), atol=1e-11)
