"""Nyström attention against a loop over tokens, its laws, and its refusals."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, attention_of_one, images, layer, weights

from attnbench import registry
from attnbench.measure.flops import count
from attnbench.registry.variant import parse_variant
from mechanisms.nystrom import landmarks, pseudo_inverse


def runs(N, m):
    """The tokens of each landmark: all runs are N // m long, the last N % m of them one more."""
    lengths = [N // m + (i >= m - N % m) for i in range(m)]
    return [slice(sum(lengths[:i]), sum(lengths[: i + 1])) for i in range(m)]


def shares(query, keys):
    """One row of a softmax map: what a query gives to each key when the values are one-hot."""
    return attention_of_one(query, keys, np.eye(len(keys)), 1.0)


def inverted(a, norm):
    """Six rounds of the paper's polynomial."""
    z, power = a.T / norm, np.linalg.matrix_power
    for _ in range(6):
        z = z @ (13 * np.eye(len(a)) - 15 * a @ z + 7 * power(a @ z, 2) - power(a @ z, 3)) / 4
    return z


def loop(built, x):
    """Landmark by landmark, then token by token."""
    w, (B, H, W, C), n = weights(built), x.shape, built.heads
    N, d = H * W, C // n
    m = min(built.num_landmarks, N)
    out, maps, split = np.zeros((B, N, C)), {}, {}
    for b, head in np.ndindex(B, n):
        c = slice(head * d, (head + 1) * d)
        q, k, v = (part[:, c] for part in np.split(affine(x[b].numpy().reshape(N, C), w, "qkv"), 3, axis=1))
        q = q / d**0.5
        few_q, few_k = (np.array([t[run].mean(0) for run in runs(N, m)]) for t in (q, k))
        split[b, head] = q, k, v, few_q, few_k
        maps[b, head] = np.array([shares(row, few_k) for row in few_q])
    largest = max(a.sum(0).max() for a in maps.values())
    for (b, head), (q, k, v, few_q, few_k) in split.items():
        c, a = slice(head * d, (head + 1) * d), maps[b, head]
        inverse = inverted(a, largest if built.init_option == "original" else a.sum(0).max())
        gathered = np.array([attention_of_one(row, k, v, 1.0) for row in few_q])
        for i in range(N):
            out[b, i, c] = shares(q[i], few_k) @ inverse @ gathered if m < N else attention_of_one(q[i], k, v, 1.0)
            if "conv.weight" in w:
                kernel = w["conv.weight"][head, 0, :, 0]
                for j, factor in enumerate(kernel, start=i - len(kernel) // 2):
                    out[b, i, c] += factor * v[j] if 0 <= j < N else 0
    return affine(out, w, "proj").reshape(x.shape)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("num_landmarks", [1, 4, 5, 10, 64])
@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_nystrom_attention_equals_a_loop_over_tokens(grid, num_landmarks, kernel):
    built, x = layer("nystrom", grid, num_landmarks=num_landmarks, kernel=kernel), images(grid)
    assert_close(built(x), loop(built, x))


@pytest.mark.parametrize("settings", ["conv_kernel_size=3", "init_option=original", "conv_kernel_size=7"])
@pytest.mark.parametrize("num_landmarks", [6, 64])
def test_its_options_equal_the_loop_too(num_landmarks, settings):
    built, x = layer(f"nystrom[num_landmarks={num_landmarks},{settings}]", (5, 7)), images((5, 7))
    assert_close(built(x), loop(built, x))


def test_as_many_landmarks_as_tokens_make_softmax_attention():
    built, exact, x = layer("nystrom[num_landmarks=35]", (5, 7)), layer("msa", (5, 7)), images((5, 7))
    exact.load_state_dict(built.state_dict())
    assert_close(built(x), exact(x).detach().numpy())


def test_one_landmark_tells_every_token_the_same():
    y = layer("nystrom[num_landmarks=1]", (4, 6))(images((4, 6)))
    assert_close(y, y[:, :1, :1].expand_as(y).detach().numpy())


@pytest.mark.parametrize("init_option", ["exact", "original"])
def test_nystrom_attention_gives_what_transformers_gives(init_option):
    modelling = library("transformers.models.nystromformer.modeling_nystromformer")
    built, x = layer(f"nystrom[num_landmarks=7,conv_kernel_size=5,init_option={init_option}]", (5, 7)), images((5, 7))
    config = modelling.NystromformerConfig(
        hidden_size=24, num_attention_heads=3, num_landmarks=7, segment_means_seq_len=35, conv_kernel_size=5
    )
    theirs = modelling.NystromformerSelfAttention(config).double().eval()
    theirs.init_option = init_option
    state = {"conv.weight": built.conv.weight}
    for part, (weight, bias) in zip(
        ("query", "key", "value"), zip(built.qkv.weight.chunk(3), built.qkv.bias.chunk(3), strict=True), strict=True
    ):
        state |= {f"{part}.weight": weight, f"{part}.bias": bias}
    theirs.load_state_dict(state)
    with torch.no_grad():
        assert_close(built(x), built.proj(theirs(x.flatten(1, 2))[0]).view_as(x).numpy())


def test_later_landmarks_are_means_of_one_token_more():
    tokens = torch.arange(10.0).view(1, 10, 1)
    assert landmarks(tokens, 4).flatten().tolist() == [0.5, 2.5, 5, 8]
    assert landmarks(tokens, 5).flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert landmarks(tokens, 10).flatten().tolist() == list(range(10))


@pytest.mark.parametrize("init_option", ["exact", "original"])
def test_the_iteration_finds_the_inverse_of_a_matrix_in_good_condition(init_option):
    g = torch.Generator().manual_seed(4)
    a = (torch.randn(2, 3, 6, 6, generator=g, dtype=torch.float64) + 4 * torch.eye(6)).softmax(-1)
    assert_close(pseudo_inverse(a, init_option), torch.linalg.inv(a).numpy(), 1e-8)


def test_only_the_original_start_lets_images_meet():
    x = images((5, 7)) * torch.tensor([1.0, 30.0]).view(2, 1, 1, 1)
    gaps = {}
    for option in ("exact", "original"):
        built = layer(f"nystrom[num_landmarks=8,init_option={option}]", (5, 7))
        gaps[option] = (built(x)[:1] - built(x[:1])).norm() / built(x[:1]).norm()
    assert gaps["exact"] < 1e-12
    assert gaps["original"] > 1e-3


def test_only_the_original_start_is_declared_as_coupled():
    known = registry.load(entry_points=False)

    def said(text, grid):
        return known["nystrom"].coupling(known.size(known.check(parse_variant(text)), grid=grid))

    assert said("nystrom", (14, 14)) == ""
    assert said("nystrom[init_option=original]", (14, 14)).startswith("the pseudo-inverse starts")
    assert said("nystrom[init_option=original]", (7, 7)) == ""  # as many landmarks as tokens


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_float64(dtype):
    built, x = layer("nystrom", (14, 14)), images((14, 14), batch=1) * 3
    truth = built(x)
    error = (built.to(dtype)(x.to(dtype)).double() - truth).norm() / truth.norm()
    assert error < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("text", "grid", "params", "macs"),
    [
        ("nystrom", (14, 14), 2_362_368, 533_299_536),
        ("nystrom[num_landmarks=28]", (14, 14), 2_362_368, 488_049_408),
        ("nystrom", (24, 24), 2_362_368, 1_497_981_216),
        ("nystrom[conv_kernel_size=33]", (24, 24), 2_362_764, 1_512_579_360),
        ("nystrom[num_landmarks=256]", (14, 14), 2_362_368, 521_428_992),
    ],
)
def test_counts_are_those_of_the_authors_code(text, grid, params, macs):
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(text))
    size = known.size(variant, grid=grid)
    counts = count(known.build(variant, size), torch.empty(1, *grid, 768))
    assert (counts.params, counts.macs, counts.macs_fvcore, known["nystrom"].macs(size)) == (params, macs, macs, macs)


def test_parameters_bear_the_authors_names():
    shapes = {name: tuple(p.shape) for name, p in layer("nystrom[conv_kernel_size=5]", (4, 6)).state_dict().items()}
    assert shapes == {
        "qkv.weight": (72, 24),
        "qkv.bias": (72,),
        "proj.weight": (24, 24),
        "proj.bias": (24,),
        "conv.weight": (3, 1, 5, 1),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_landmarks": 0}, "num_landmarks must be at least 1; got num_landmarks=0"),
        ({"conv_kernel_size": 4}, "conv_kernel_size must be 0 or odd and positive; got conv_kernel_size=4"),
        ({"conv_kernel_size": -3}, "conv_kernel_size must be 0 or odd and positive; got conv_kernel_size=-3"),
        ({"init_option": "mine"}, "init_option must be exact or original; got init_option=mine"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_nystrom_attention_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("nystrom", (4, 6), **settings)
