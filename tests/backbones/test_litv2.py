"""LITv2 against the authors' logits, their counts and names; its settings and refusals."""

import importlib.util
from itertools import pairwise

import pytest
import torch
from whole import (
    assert_official_names,
    counts,
    declines,
    formula,
    golden_folder,
    manifest,
    model,
    photos,
    random_weights,
)

from attnbench.errors import AttnbenchError
from mechanisms.backbones.lit import Shape, grids
from mechanisms.backbones.litv2 import litv2
from mechanisms.backbones.swap import HILO

# model, resolution: parameters; MACs of convolutions (deformable ones too), linear layers and products; fvcore's
# total with the deformable ones; how far the figures lie from the paper's is told in the reports
PUBLISHED = {
    ("litv2_s", 224): (27_844_000, 3_723_626_496, 3_735_631_104),
    ("litv2_m", 224): (48_830_368, 7_463_043_072, 7_484_079_360),
    ("litv2_b", 224): (86_520_704, 13_171_973_120, 13_200_021_504),
    ("litv2_b", 384): (86_520_704, 39_646_044_160, 39_728_472_064),
}
# the merges' kernels, which fvcore leaves out of the authors' code
MERGES = {("litv2_s", 224): 173_408_256, ("litv2_m", 224): 173_408_256, ("litv2_b", 224): 308_281_344}
# setting: parameters, fvcore's total
SETTINGS = {
    "alpha=0": (28_089_760, 3_966_691_584),
    "alpha=0.2": (27_844_000, 3_881_944_320),
    "alpha=0.4": (27_696_544, 3_816_464_640),
    "alpha=0.5": (27_647_392, 3_770_252_544),
    "alpha=0.7": (27_696_544, 3_743_308_032),
    "alpha=0.9": (27_844_000, 3_735_631_104),
    "alpha=1": (28_089_760, 3_747_221_760),
    "attention=hilo[alpha=0.5]": (27_647_392, 3_770_252_544),
    "window_size=2,num_classes=100": (27_151_900, 3_734_939_904),
    "window_size=7,num_classes=100": (27_151_900, 3_641_489_664),
    "pooled=true": (27_844_000, 3_510_779_904),
    "attention=hilo_pooled[projection=after]": (27_844_000, 3_601_096_704),  # 3.6 G, where the paper has 3.5
    "attention=msa": (28_089_760, 4_140_099_840),
    "attention=sra": (31_635_616, 3_921_194_496),
    "attention=window": (28_089_760, 4_007_334_144),
    "attention=tmsa": (29_862_688, 3_964_264_320),
}


@pytest.mark.parametrize(("name", "side"), PUBLISHED)
def test_counts_are_those_of_the_authors_model(name, side):
    params, macs, fvcore = PUBLISHED[name, side]
    seen = counts(name, (side, side))
    assert (seen.params, seen.macs, seen.macs_fvcore) == (params, macs, fvcore)
    assert formula(name, (side, side)) == macs
    assert not seen.lower_bound


@pytest.mark.parametrize(("name", "side"), MERGES)
def test_without_the_merges_kernels_the_count_is_what_fvcore_prints_for_the_authors_code(name, side):
    without = {"litv2_s": 3_562_222_848, "litv2_m": 7_310_671_104, "litv2_b": 12_891_740_160}
    assert PUBLISHED[name, side][2] - MERGES[name, side] == without[name]
    maps = grids((side, side))
    dim = 128 if name == "litv2_b" else 96
    assert MERGES[name, side] == sum(8 * (dim * 2**i) ** 2 * (maps[i + 1][0] * maps[i + 1][1]) for i in range(3))


@pytest.mark.parametrize("setting", SETTINGS)
def test_counts_of_the_papers_ablations(setting):
    params, fvcore = SETTINGS[setting]
    through_hilo = setting.startswith(("alpha", "attention=hilo[", "window_size"))
    seen = counts(f"litv2_s[{setting}]", fvcore=not through_hilo)
    if through_hilo:  # what fvcore adds for norms does not change: 5 per element of LayerNorm, 2 of BatchNorm
        assert (seen.params, seen.macs) == (params, fvcore - 11_477_760 - 526_848)
    else:
        assert (seen.params, seen.macs_fvcore) == (params, fvcore)
        assert seen.macs == fvcore - sum(seen.fvcore_extra.values())
    assert seen.macs == formula(f"litv2_s[{setting}]")


@pytest.mark.parametrize("window_size", [3, 4, 5, 6])
def test_a_window_that_does_not_divide_the_map_has_the_same_parameters(window_size):
    seen = counts(f"litv2_s[window_size={window_size},num_classes=100]", fvcore=False)
    assert seen.params == 27_151_900
    assert seen.macs == formula(f"litv2_s[window_size={window_size},num_classes=100]")


@pytest.mark.parametrize("resolution", [(29, 29), (64, 96), (61, 131), (300, 224)])
@pytest.mark.parametrize("setting", ["", "[attention=msa]", "[pooled=true]", "[attention=tmsa]"])
def test_the_formula_holds_at_any_size(resolution, setting):
    assert counts(f"litv2_s{setting}", resolution, fvcore=False).macs == formula(f"litv2_s{setting}", resolution)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_logits_are_the_authors(dtype):
    folder = golden_folder()
    spec = importlib.util.spec_from_file_location("regenerate", folder / "regenerate.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    golden = torch.load(folder / "model_litv2_s.pt", weights_only=True)
    state = made.state_dict(manifest("litv2_s"), golden["seed"])
    built = model("litv2_s", (224, 224))
    counters = {k: v for k, v in built.state_dict().items() if k.endswith("num_batches_tracked")}
    built.load_state_dict({**state, **counters}, strict=True)
    with torch.no_grad():
        logits = built.to(dtype)(made.image(golden["seed"]).to(dtype))
    wanted, tolerance = (golden["logits_float64"], 1e-7) if dtype == torch.float64 else (golden["logits"], 1e-4)
    assert (logits - wanted).abs().max() <= tolerance


@pytest.mark.parametrize("letter", "smb")
def test_names_and_shapes_are_the_official_ones(letter):
    assert_official_names(f"litv2_{letter}", (224, 224), f"litv2_{letter}")


def tiny(**settings):
    """LITv2 with 32 channels and five blocks."""
    shape = Shape(32, (1, 1, 2, 1), 0.1)
    rest = {"num_classes": 7, "attention": "hilo", **HILO, "deform": "torch", "drop_path_rate": 0.0}
    return litv2(shape, (64, 96), **{**rest, **settings}).eval()


@pytest.mark.parametrize("resolution", [(29, 29), (64, 96), (61, 131)])
@pytest.mark.parametrize("pooled", [False, True])
def test_any_image_size_runs_whatever_the_model_was_built_for(resolution, pooled):
    built, x = random_weights(tiny(pooled=pooled)), photos(resolution)
    maps = built.features(x)
    assert [tuple(m.shape) for m in maps] == [
        (2, dim, *grid) for dim, grid in zip((32, 64, 128, 256), grids(resolution), strict=True)
    ]
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)
    last = maps[-1].permute(0, 2, 3, 1)
    assert torch.equal(built.head(built.norm(last).mean(dim=(1, 2))), built(x))


def by_hand(built, x):
    """The classifier in [B,C,H,W], from its weights; attention and merges are tested elsewhere."""
    w, F = dict(built.named_parameters()), torch.nn.functional

    def norm(y, name):
        return F.layer_norm(y.movedim(1, -1), y.shape[1:2], w[f"{name}.weight"], w[f"{name}.bias"]).movedim(-1, 1)

    def dense(y, name):
        return F.conv2d(y, w[f"{name}.weight"][:, :, None, None], w[f"{name}.bias"])

    y = norm(F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=4), "patch_embed.norm")
    for i, depth in enumerate((1, 1, 2, 1)):
        for j in range(depth):
            at = f"layers.{i}.blocks.{j}"
            if i > 1:
                attention = built.layers[i].blocks[j].attn
                y = y + attention(norm(y, f"{at}.norm1").movedim(1, -1)).movedim(-1, 1)
            hidden = dense(norm(y, f"{at}.norm2"), f"{at}.mlp.fc1")
            kernel, bias = (w[f"{at}.mlp.dwconv.dwconv.{part}"] for part in ("weight", "bias"))
            hidden = F.gelu(F.conv2d(hidden, kernel, bias, padding=1, groups=len(bias)))
            y = y + dense(hidden, f"{at}.mlp.fc2")
        if i < 3:
            y = built.layers[i].downsample(y.movedim(1, -1)).movedim(-1, 1)
    return F.linear(norm(y, "norm").flatten(2).mean(-1), w["head.weight"], w["head.bias"])


@pytest.mark.parametrize("resolution", [(64, 96), (36, 44)])
def test_the_classifier_is_its_parts_in_turn(resolution):
    built, x = random_weights(tiny()), photos(resolution)
    assert torch.allclose(built(x), by_hand(built, x), atol=1e-11)


def test_a_broken_patch_is_one_filled_with_zeros():
    built, x = random_weights(tiny()), photos((61, 94))
    assert torch.equal(built(x), built(torch.nn.functional.pad(x, (0, 2, 0, 3))))


def test_pictures_of_a_batch_do_not_see_each_other():
    built, x = random_weights(tiny()), photos((64, 64))
    assert torch.allclose(built(x)[1:], built(x[1:]), atol=1e-12)


def test_the_fused_kernel_reaches_every_layer_and_gives_the_same():
    built, x = random_weights(tiny()), photos((64, 96))
    eager = built(x)
    for part in built.modules():
        if hasattr(part, "kernel"):
            part.kernel = "sdpa"
    assert torch.allclose(built(x), eager, atol=1e-12)
    fused = model("litv2_s", kernel="sdpa", device="meta")
    assert {part.kernel for part in fused.modules() if hasattr(part, "kernel")} == {"sdpa"}


def test_in_training_gradients_reach_every_parameter():
    built = random_weights(tiny(drop_path_rate=0.5)).train()
    for block in (block for stage in built.layers for block in stage.blocks):
        block.drop_path.rate *= 0.01  # so that no branch is left out
    built(photos((64, 64))).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in built.parameters())
    assert all(p.grad.any() for p in built.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_forward_and_backward(dtype):
    built = random_weights(tiny(deform="torch")).to(dtype).train()
    logits = built(photos((61, 64)).to(dtype))
    logits.float().square().sum().backward()
    assert logits.dtype == dtype
    assert all(torch.isfinite(p.grad).all() for p in built.parameters())


def test_stochastic_depth_grows_from_block_to_block_and_rests_in_eval():
    built = model("litv2_m", (64, 64), device="meta")
    rates = [block.drop_path.rate for stage in built.layers for block in stage.blocks]
    assert len(rates) == 24
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.3)
    assert all(b > a for a, b in pairwise(rates))
    drop = built.layers[3].blocks[1].drop_path
    x = torch.ones(400, 1, 1, 1)
    assert drop.eval()(x) is x
    kept = drop.train()(x)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert 0.55 < (kept > 0).float().mean() < 0.85


def test_t_msa_attends_locally_and_globally_in_turn():
    built = model("litv2_s[attention=tmsa[window_size=4,sr_ratio=3]]", device="meta")
    layers = [block.attn for block in built.layers[2].blocks]
    assert [layer.sr.kernel_size for layer in layers[1::2]] == [(3, 3)] * 3
    assert [layer.window_size for layer in layers[::2]] == [4] * 3


def test_a_plugins_mechanism_can_stand_in_the_third_stage(tmp_path):
    from attnbench import registry

    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "from attnbench import mechanism\n"
        "@mechanism(name='passes_on', defaults={'times': 2.0}, layout='tokens')\n"
        "class PassesOn(nn.Module):\n"
        "    def __init__(self, dim, heads, *, times):\n"
        "        super().__init__()\n"
        "        self.times = times\n"
        "    def forward(self, x, H, W):\n"
        "        return self.times * x\n"
    )
    registry.load([str(file)])
    built = tiny(attention="passes_on[times=3]")
    assert [block.attn.layer.times for block in built.layers[2].blocks] == [3.0] * 2
    assert built(photos((64, 96)).float()).shape == (2, 7)
    with pytest.raises(AttnbenchError, match=r"needs its attention's formula; passes_on\[times=3.0\] declares none"):
        formula("litv2_s[attention=passes_on[times=3]]")


@pytest.mark.parametrize(
    ("setting", "resolution", "message"),
    [
        ("", (28, 224), "resolution must be at least 29x29 for four stages; got 28x224"),
        ("[num_classes=0]", (64, 64), "num_classes must be at least 1; got num_classes=0"),
        ("[drop_path_rate=1]", (64, 64), "drop_path_rate must lie in [0, 1); got drop_path_rate=1.0"),
        ("[deform=cuda]", (64, 64), "deform must be torch or torchvision; got deform=cuda"),
        ("[alpha=1.5]", (64, 96), "stage 3 with hilo[window_size=2,alpha=1.5] (4x6 tokens): alpha must lie between"),
        ("[attention=nilo]", (64, 64), "no mechanism is registered under this name; got 'nilo'; nearest: hilo"),
        ("[attention=msa,alpha=0.5]", (64, 64), "belong to attention=hilo; got msa and alpha=0.5"),
        ("[attention=litv2_s]", (64, 64), "attention must be a layer; got litv2_s, which is a backbone"),
        ("[attention=hilo[beta=1]]", (64, 64), "hilo has no setting 'beta'"),
    ],
)
def test_refusals_name_the_rule_and_the_values(setting, resolution, message):
    reason = declines(f"litv2_s{setting}", resolution)
    assert reason is not None
    assert message in reason
    with pytest.raises(ValueError, match=r"got|has no setting"):
        model(f"litv2_s{setting}", resolution)


def test_a_kernel_that_the_swapped_attention_lacks_is_refused():
    with pytest.raises(ValueError, match="runs with kernel eager; got kernel=sdpa"):
        model("litv2_s[attention=van]", kernel="sdpa", device="meta")


@pytest.mark.slow
def test_one_graph_holds_the_whole_model():
    built, x = random_weights(tiny()).eval(), photos((61, 96), batch=1)
    compiled = torch.compile(built, fullgraph=True, backend="aot_eager", dynamic=False)
    logits = compiled(x)
    logits.sum().backward()
    assert torch.allclose(logits, built(x), atol=1e-11)
