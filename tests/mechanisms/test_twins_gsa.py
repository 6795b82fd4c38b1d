"""GSA against a loop over queries, its laws, and its refusals."""

import pytest
import torch
from test_sra import loop
from truth import GRIDS, assert_close, assert_golden, golden, images, layer


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("ratio", [1, 2, 3, 8])
@pytest.mark.parametrize("grid", GRIDS)
def test_gsa_equals_a_loop_over_queries(grid, ratio, kernel):
    built, x = layer("twins_gsa", grid, kernel=kernel, sr_ratio=ratio), images(grid)
    assert_close(built(x), loop(built, x))


def test_gsa_is_sra():
    gsa, sra, x = layer("twins_gsa", (5, 7)), layer("sra", (5, 7)), images((5, 7))
    sra.load_state_dict(gsa.state_dict())
    assert torch.equal(gsa(x), sra(x))


@pytest.mark.parametrize(("stride", "ratio"), [(4, 8), (8, 4), (16, 2), (32, 1)])
def test_the_ratio_follows_the_stride_as_in_twins(stride, ratio):
    assert layer("twins_gsa", (8, 8), stride=stride).sr_ratio == ratio


def test_gsa_gives_what_the_authors_code_gives():
    for case in golden("twins_gsa"):
        config = case["config"]
        built = layer("twins_gsa", (14, 14), dim=96, heads=config["num_heads"], sr_ratio=config["sr_ratio"])
        assert_golden(built, case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sr_ratio": 0}, "sr_ratio must be at least 1; got sr_ratio=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_gsa_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("twins_gsa", (4, 6), **settings)
