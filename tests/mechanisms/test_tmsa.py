"""T-MSA against the two loops in sequence, its laws, and its refusals."""

import pytest
import torch
from test_sra import loop as global_loop
from test_twins_lsa import loop as local_loop
from truth import GRIDS, assert_close, assert_golden, golden, images, layer


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("settings", ["", "[window_size=3]", "[window_size=2,sr_ratio=1]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_tmsa_equals_the_two_loops_in_sequence(grid, settings, kernel):
    built, x = layer(f"tmsa{settings}", grid, kernel=kernel), images(grid)
    assert_close(built(x), global_loop(built.gsa, torch.from_numpy(local_loop(built.lsa, x))))


def test_a_pixel_that_the_second_layer_skips_still_speaks_through_its_window():
    built, x = layer("tmsa[window_size=3]", (5, 6)), images((5, 6))
    nudged = x.clone()
    nudged[:, 4, 1] += 1  # the odd row gives the second layer no key, row 3 of the same window does
    assert (built(nudged) != built(x)).any(-1).all()


def test_the_kernel_reaches_both_layers():
    built = layer("tmsa", (4, 6), kernel="sdpa")
    assert (built.lsa.kernel, built.gsa.kernel) == ("sdpa", "sdpa")


@pytest.mark.parametrize(("stride", "ratio"), [(4, 8), (8, 4), (16, 2), (32, 1)])
def test_the_ratio_follows_the_stride_as_in_twins(stride, ratio):
    assert layer("tmsa", (8, 8), stride=stride).gsa.sr_ratio == ratio


def test_tmsa_gives_what_the_authors_code_gives():
    for case in golden("tmsa"):
        config = case["config"]
        settings = {"window_size": config["window_size"], "sr_ratio": config["sr_ratio"]}
        assert_golden(layer("tmsa", (14, 14), dim=96, heads=config["num_heads"], **settings), case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 0}, "window_size must be at least 1; got window_size=0"),
        ({"sr_ratio": 0}, "sr_ratio must be at least 1; got sr_ratio=0"),
        ({"dim": 25}, "heads must divide dim; got heads=3, dim=25"),
    ],
)
def test_tmsa_refuses_with_the_rule_and_the_values(settings, message):
    with pytest.raises(ValueError, match=message):
        layer("tmsa", (4, 6), **settings)
