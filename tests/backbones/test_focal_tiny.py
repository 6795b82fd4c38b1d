"""Focal-Tiny against the authors' counts, formula and names; its merge against a loop; any image."""

import numpy as np
import pytest
import torch
from whole import counts, declines, formula, model, photos, random_weights

from mechanisms.backbones import focal_tiny
from mechanisms.backbones.focal_tiny import DEPTHS, DIMS, Merge, grids

PARAMS, MACS, FVCORE = 28_880_380, 4_953_223_680, 4_970_534_400
FORMULA = 4_924_284_672  # what the authors' own function prints, 4.9 G
STAGES = list(zip(DIMS, DEPTHS, (3136, 784, 196, 49), strict=True))  # tokens at 224x224


def test_counts_are_those_of_the_authors_model():
    seen = counts("focal_tiny")
    assert (seen.params, seen.macs, seen.macs_fvcore) == (PARAMS, MACS, FVCORE)
    assert formula("focal_tiny") == MACS


def test_the_authors_formula_leaves_twelve_tokens_of_the_ring_out_and_counts_norms():
    twelve = sum(2 * 12 * depth * tokens * dim for dim, depth, tokens in STAGES[:3])
    norms = sum((2 * depth + 1) * tokens * dim for dim, depth, tokens in STAGES)  # of blocks, patches and merges
    last = 768 * 56 * 56 // 2**4  # it takes 196 tokens for the last norm, which sees 49
    assert MACS - twelve + norms + last == FORMULA


@pytest.mark.parametrize("resolution", [(1, 1), (61, 131), (300, 224), (384, 384)])
def test_the_formula_holds_at_any_size(resolution):
    assert counts("focal_tiny", resolution, fvcore=False).macs == formula("focal_tiny", resolution)


def test_the_ring_of_the_last_stage_comes_with_maps_larger_than_a_window():
    ring = 2 * 24 * 49 * 132  # biases of two blocks
    assert counts("focal_tiny", (224, 640), fvcore=False).params == PARAMS
    assert counts("focal_tiny", (256, 256), fvcore=False).params == PARAMS + ring


def block(dim, f, *, expand):
    """Names and shapes of one block, as the authors' code registers them."""
    n = dim // 32
    named = {
        "attn.relative_position_bias_table": (169, n),
        "attn.relative_position_index": (49, 49),
        "attn.relative_position_bias_table_to_windows.0": (n, (6 + f) ** 2),
        "attn.relative_position_index_0": (49, f * f),
        "pool_layers.0.weight": (1, 49),
        "pool_layers.0.bias": (1,),
    }
    if expand:
        named["attn.relative_position_bias_table_to_neighbors"] = (1, n, 49, 132)
        named["attn.valid_ind_rolled"] = (132,)
    for name, out, into in (
        ("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim), ("mlp.fc1", 4 * dim, dim), ("mlp.fc2", dim, 4 * dim)
    ):  # fmt: skip
        named |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name in ("norm1", "norm2"):
        named |= {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
    return named


def test_names_and_shapes_are_the_authors():
    wanted = {"head.weight": (1000, 768), "head.bias": (1000,), "norm.weight": (768,), "norm.bias": (768,)}
    for stage, (dim, depth, f) in enumerate(zip(DIMS, DEPTHS, (7, 5, 3, 1), strict=True)):
        for i in range(depth):
            named = block(dim, f, expand=stage < 3)
            wanted |= {f"layers.{stage}.blocks.{i}.{name}": shape for name, shape in named.items()}
        before = "patch_embed" if stage == 0 else f"layers.{stage - 1}.downsample"
        kernel = (dim, 3, 4, 4) if stage == 0 else (dim, dim // 2, 2, 2)
        wanted |= {f"{before}.proj.weight": kernel, f"{before}.proj.bias": (dim,)}
        wanted |= {f"{before}.norm.weight": (dim,), f"{before}.norm.bias": (dim,)}
    built = model("focal_tiny", (224, 224), device="meta")
    assert {name: tuple(value.shape) for name, value in built.state_dict().items()} == wanted


def test_a_checkpoint_with_the_authors_names_is_read_strictly():
    there, here = random_weights(model("focal_tiny", (64, 96))), model("focal_tiny", (64, 96)).double()
    here.load_state_dict(there.state_dict(), strict=True)
    x = photos((64, 96), batch=1)
    assert torch.equal(here(x), there(x))


@pytest.mark.parametrize("grid", [(4, 6), (5, 3), (1, 1)])
def test_a_merge_equals_a_loop_and_fills_an_odd_map_with_zeros(grid):
    merge, (H, W) = random_weights(Merge(3)), grid
    x = np.random.default_rng(0).standard_normal((2, H, W, 3))
    weight, bias = (getattr(merge.proj, name).detach().numpy() for name in ("weight", "bias"))
    out = np.zeros((2, -(-H // 2), -(-W // 2), 6)) + bias
    for b, y, z, c in np.ndindex(x.shape):
        out[b, y // 2, z // 2] += weight[:, c, y % 2, z % 2] * x[b, y, z, c]
    out = (out - out.mean(-1, keepdims=True)) / np.sqrt(out.var(-1, keepdims=True) + 1e-5)
    out = out * merge.norm.weight.detach().numpy() + merge.norm.bias.detach().numpy()
    assert np.abs(merge(torch.from_numpy(x)).detach().numpy() - out).max() <= 1e-12


@torch.no_grad()
def test_kernels_agree_and_an_image_does_not_depend_on_its_batch():
    eager, fused = (random_weights(model("focal_tiny", (64, 96), kernel=kernel)) for kernel in ("eager", "sdpa"))
    x = photos((64, 96))
    logits = eager(x)
    assert torch.allclose(fused(x), logits, atol=1e-9)
    assert torch.allclose(eager(x[1:]), logits[1:], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_image_runs_forward_and_backward(dtype):
    built = model("focal_tiny[num_classes=7]", (64, 96)).to(dtype).train()
    x = photos((61, 131), batch=1).to(dtype)
    assert [tuple(y.shape[1:]) for y in built.features(x)] == [
        (dim, *grid) for dim, grid in zip(DIMS, grids((61, 131)), strict=True)
    ]
    logits = built(x)
    assert (logits.shape, logits.dtype) == ((1, 7), dtype)
    logits.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in built.parameters())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_classes=0", "num_classes must be at least 1; got num_classes=0"),
        ("drop_path_rate=1.0", "drop_path_rate must lie in [0, 1); got drop_path_rate=1.0"),
    ],
)
def test_refusals_name_the_rule_and_the_values(setting, message):
    assert declines(f"focal_tiny[{setting}]") == message


@pytest.mark.slow
def test_one_graph_holds_the_whole_model(monkeypatch):
    monkeypatch.setattr(focal_tiny, "DEPTHS", (1, 1, 1, 1))  # blocks of a stage are alike
    built, x = random_weights(model("focal_tiny", (64, 96))), photos((64, 96), batch=1)
    compiled = torch.compile(built, fullgraph=True, backend="aot_eager", dynamic=False)
    assert torch.allclose(compiled(x), built(x), atol=1e-10)
