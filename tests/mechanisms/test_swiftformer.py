"""SwiftFormer's additive attention against a loop over tokens, its laws, and its counts."""

import numpy as np
import pytest
import torch
from torchvision_stand_in import library
from truth import GRIDS, affine, assert_close, images, layer, weights

from attnbench.measure.flops import count


def loop(built, x):
    """Token by token: a direction for the query and one for the key, a score, and the sum of all queries."""
    w, out = weights(built), np.zeros(x.shape)
    _, H, W, _ = x.shape
    for b in range(len(x)):
        places, queries, keys, scores = list(np.ndindex(H, W)), {}, {}, {}
        for place in places:
            q, k = (affine(x[b].numpy()[place], w, name) for name in ("to_query", "to_key"))
            queries[place], keys[place] = q / np.sqrt(q @ q), k / np.sqrt(k @ k)
            scores[place] = float(queries[place] @ w["w_g"][:, 0])
        length = np.sqrt(sum(score**2 for score in scores.values()))
        shared = sum(scores[place] / length * queries[place] for place in places)
        for place in places:
            out[b][place] = affine(affine(shared * keys[place], w, "Proj") + queries[place], w, "final")
    return out


@pytest.mark.parametrize("grid", [*GRIDS, (1, 1)])
def test_additive_attention_equals_a_loop_over_tokens(grid):
    built, x = layer("swiftformer", grid), images(grid)
    assert_close(built(x), loop(built, x))


def test_tokens_in_another_order_give_the_same_outputs_in_that_order():
    built, x = layer("swiftformer", (4, 6)), images((4, 6))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    moved = built(x.flatten(1, 2)[:, order].view(2, 4, 6, 24)).flatten(1, 2)
    assert_close(moved, built(x).flatten(1, 2)[:, order].detach().numpy())


def test_longer_queries_and_keys_change_nothing():
    built, x = layer("swiftformer", (5, 7)), images((5, 7))
    before = built(x).detach().numpy()
    with torch.no_grad():
        for name in ("to_query", "to_key"):
            getattr(built, name).weight.mul_(3)
            getattr(built, name).bias.mul_(3)
        built.w_g.mul_(7)
    assert_close(built(x), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_query_without_a_direction_stays_finite(dtype):
    built = layer("swiftformer", (4, 6)).to(dtype)
    with torch.no_grad():
        built.to_query.bias.zero_()
    assert torch.isfinite(built(torch.zeros(1, 4, 6, 24, dtype=dtype))).all()


def test_additive_attention_gives_what_timm_gives():
    timm = library("timm.models.swiftformer")
    theirs = timm.EfficientAdditiveAttention(24, 24).double().eval()
    built, x = layer("swiftformer", (5, 7)), images((5, 7))
    theirs.load_state_dict({name.lower(): value for name, value in built.state_dict().items()})
    with torch.no_grad():
        y = theirs(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        assert_close(built(x), y.numpy())


def test_counts_and_names_are_those_of_the_authors_code():
    with torch.device("meta"):
        built = layer("swiftformer", (14, 14), dim=768, heads=12)
    counts = count(built, torch.empty(1, 14, 14, 768, device="meta", dtype=torch.float64))
    assert (counts.params, counts.macs, counts.macs_fvcore) == (2_363_136, 462_572_544, 462_572_544)
    linear = [f"{name}.{part}" for name in ("to_query", "to_key", "Proj", "final") for part in ("weight", "bias")]
    assert set(built.state_dict()) == {*linear, "w_g"}
    assert built.w_g.shape == (768, 1)
