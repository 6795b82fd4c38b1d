"""The LIT papers' detectors and segmenters: what mmdetection's rule counts, by integer, and their parameters.

The integers are those of the authors' code under the original hooks; ResNets need another package's backbone.
"""

import pytest
import torch
from around import task

from attnbench import registry
from attnbench.measure import flops, mmdet
from attnbench.registry.variant import Variant

# backbone: hooks of RetinaNet and of Mask R-CNN, attention's products in stages 3 and 4; a 1280x800 image
DETECTORS = {
    "litv2_s": (223_947_145_320, 242_913_523_700, 15_372_288_000, 3_072_000_000),
    "litv2_s[window_size=4]": (223_147_319_400, 242_113_697_780, 4_204_462_080, 3_072_000_000),
    "litv2_m": (298_897_801_320, 317_864_179_700, 46_116_864_000, 3_072_000_000),
    "litv2_m[window_size=4]": (296_498_323_560, 315_464_701_940, 12_613_386_240, 3_072_000_000),
    "litv2_b": (412_444_819_560, 431_782_131_700, 64_548_864_000, 4_096_000_000),
    "litv2_b[window_size=4]": (407_869_259_880, 427_206_572_020, 17_597_399_040, 4_096_000_000),
    "litv1_s": (228_177_289_320, 247_143_667_700, 73_728_000_000, 3_072_000_000),
    "litv2_s[attention=msa]": (229_344_649_320, 248_311_027_700, 73_728_000_000, 3_072_000_000),
}
# parameters of RetinaNet and of Mask R-CNN, exact or in millions
DETECTORS_PARAMS = {
    "litv2_s": (38_014_252, 47.3501),
    "litv2_s[window_size=4]": (38_014_252, 47.3501),
    "litv2_m": (59.0006, 68.3364),
    "litv2_m[window_size=4]": (59.0006, 68.3364),
    "litv2_b": (97.1399, 105.8940),
    "litv2_b[window_size=4]": (97.1399, 105.8940),
    "litv1_s": (38_904_292, 48_240_096),
    "litv2_s[attention=msa]": (38_260_012, None),
}
# what Table 2 prints in G; None: it prints 315, the hooks alone
PRINTED = {
    "litv2_s": (242, 261),
    "litv2_s[window_size=4]": (230, 249),
    "litv2_m": (348, 367),
    "litv2_m[window_size=4]": (312, None),
    "litv2_b": (481, 500),
    "litv2_b[window_size=4]": (430, 449),
    "litv1_s": (305, 324),
}
# backbone: hooks, products in stages 3 and 4, parameters; Semantic FPN, a 512x512 image
SEGMENTERS = {
    "litv2_s": (40_081_205_248, 1_009_778_688, 201_326_592, 31_449_486),
    "litv2_m": (59_268_573_184, 3_029_336_064, 201_326_592, 52_435_854),
    "litv2_b": (88_432_617_472, 4_237_295_616, 268_435_456, 89_993_518),
    "litv1_s": (41_164_122_112, 4_831_838_208, 201_326_592, 31_850_502),
}
# attention of stage 3: hooks and products in G, parameters; Semantic FPN around LITv2-S
SWAPS = {
    "msa": (46.496, 31_695_246),
    "sra": (42.421, 35_241_102),
    "window": (42.652, 31_695_246),
    "tmsa": (42.537, 33_468_174),
    "hilo": (41.292, 31_449_486),
}
# T-MSA's figure was made with output projections on the padded map, 35x35 for 32x32; Twins crops before them
PADDED_PROJECTIONS = {"tmsa": 3 * (35**2 - 32**2) * 384**2}


def params(module):
    return sum(p.numel() for p in module.parameters())


def images(*resolution):
    return torch.empty(1, 3, *resolution, device="meta")


def assert_params(module, wanted):
    if isinstance(wanted, int):
        assert params(module) == wanted
    elif wanted is not None:
        assert round(params(module) / 1e6, 4) == wanted


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize("backbone", DETECTORS)
def test_detectors_count_as_the_papers_do(backbone, name):
    which = ("retinanet", "mask_rcnn").index(name)
    model, x = task(f"{name}[backbone={backbone}]", (1280, 800), device="meta"), images(1280, 800)
    hooks, products = DETECTORS[backbone][which], sum(DETECTORS[backbone][2:])
    assert mmdet.count(model, x) == hooks
    assert mmdet.products(model, x) == products
    assert_params(model, DETECTORS_PARAMS[backbone][which])
    printed = PRINTED.get(backbone, (None, None))[which]
    if printed is not None:
        assert round((hooks + products) / 1e9) == printed


def test_one_printed_figure_is_the_hooks_alone():
    assert round(DETECTORS["litv2_m[window_size=4]"][1] / 1e9) == 315
    assert round(DETECTORS["litv2_s"][0] / 1e9) == 224  # the ablation's last row


@pytest.mark.parametrize("backbone", SEGMENTERS)
def test_segmenters_count_as_the_papers_do(backbone):
    hooks, third, fourth, wanted = SEGMENTERS[backbone]
    model, x = task(f"semantic_fpn[backbone={backbone}]", (512, 512), device="meta"), images(512, 512)
    assert (mmdet.count(model, x), mmdet.products(model, x), params(model)) == (hooks, third + fourth, wanted)
    assert mmdet.total(model, x) == hooks + third + fourth


@pytest.mark.parametrize("attention", SWAPS)
def test_segmenters_with_other_attentions(attention):
    giga, wanted = SWAPS[attention]
    model = task(f"semantic_fpn[backbone=litv2_s[attention={attention}]]", (512, 512), device="meta")
    total = mmdet.total(model, images(512, 512))
    assert round((total + PADDED_PROJECTIONS.get(attention, 0)) / 1e9, 3) == giga
    assert params(model) == wanted


def heads(name, N):
    """Multiply-accumulates of what stands on a pyramid with N places on the levels at strides 4 to 32."""
    if name == "retinanet":
        neck = 9 * 256 * (64 * 768 + 16 * 256)
        return neck + (sum(N[1:]) + 64 + 16) * 9 * 256 * (8 * 256 + 9 * 80 + 36)
    if name == "mask_rcnn":
        proposer = (sum(N) + 64) * (9 * 256**2 + 15 * 256)
        boxes = 1000 * (12544 * 1024 + 1024**2 + 1024 * 401)
        return proposer + boxes + 100 * 196 * (40 * 256**2 + 4 * 256 * 80)
    wide, narrow = sum(N), 2 * N[1] + N[2]
    return 9 * 128 * (256 * wide + 128 * narrow) + N[0] * 128 * 150


@pytest.mark.parametrize("name", ["semantic_fpn", "retinanet", "mask_rcnn"])
def test_the_honest_count_is_the_classifiers_without_its_head_and_the_task(name):
    model, x = task(name, (512, 512), device="meta"), images(512, 512)
    known = registry.load(entry_points=False)
    classifier = known["litv2_s"].macs(known.size(Variant("litv2_s"), grid=(512, 512))) - 768 * 1000
    N = [(128 // 2**i) ** 2 for i in range(4)]
    levels = [(n, 96 * 2**i) for i, n in enumerate(N)][name == "retinanet" :]
    neck = sum(n * 256 * (dim + 9 * 256) for n, dim in levels)
    assert flops.count(model, x, fvcore=False).macs == classifier + neck + heads(name, N)
