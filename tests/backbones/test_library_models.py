"""The library models of timm and transformers: counts of the authors' code, kernels, maps, refusals, and lazy imports.

What needs the libraries runs in one process of its own, since the stand-in for torchvision must not be seen by
other tests. Integers are of timm 1.0.31 and transformers 5.23; newer versions may count otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
import torchvision_stand_in
from torch.overrides import TorchFunctionMode
from whole import counts, declines, model

from attnbench import registry
from attnbench.errors import AttnbenchError
from attnbench.measure import mmdet
from attnbench.published.partners import AT_384, BACKBONES
from attnbench.registry.variant import parse_variant
from mechanisms.backbones import libraries, library_models

# name: parameters, MACs, fvcore's total, calls of fused attention with sdpa (None: no such kernel); 224 or 384 px
COUNTED = {
    "resnet50": (25_557_032, 4_089_184_256, 4_111_512_576, None),
    "resnet101": (44_549_160, 7_801_405_440, 7_833_969_664, None),
    "resnet152": (60_192_808, 11_513_626_624, 11_558_835_200, None),
    "resnext101_64x4d": (83_455_272, 15_460_270_080, 15_522_789_376, None),
    "regnety_008": (6_263_168, 797_176_832, 807_701_248, None),
    "regnety_016": (11_202_430, 1_612_076_160, 1_628_186_968, None),
    "convnext_tiny": (28_589_128, 4_455_531_264, 4_470_437_376, None),
    "convnext_small": (50_223_688, 8_683_712_256, 8_705_392_128, None),
    "convnext_base": (88_591_464, 15_354_729_472, 15_383_635_968, None),
    "deit_small": (22_050_664, 4_598_882_304, 4_608_338_304, 12),
    "deit_base_384": (86_859_496, 55_484_350_464, 55_539_742_464, 12),
    "cait_xs24": (26_560_648, 5_390_354_304, 5_404_755_744, 2),
    "tnt_small": (23_755_336, 5_216_875_008, 5_240_631_168, None),
    "xcit_small_12": (26_253_304, 4_795_832_832, 4_815_335_808, 14),
    "coatnet_0": (25_036_820, 4_546_507_776, 4_584_344_320, 7),
    "swin_tiny": (28_288_354, 4_490_566_656, 4_509_194_496, 12),
    "swin_small": (49_606_258, 8_740_875_264, 8_768_534_784, 24),
    "swin_base": (87_768_224, 15_430_946_816, 15_467_826_176, 24),
    "swin_base_384": (87_903_584, 47_083_134_976, 47_191_515_136, 24),
    "twins_pcpvt_small": (24_106_216, 3_809_459_968, 3_826_723_648, 16),
    "twins_svt_small": (24_060_776, 2_927_353_344, 2_941_763_264, 18),
    "twins_svt_base": (56_070_952, 8_562_612_480, 8_589_872_160, 24),
    "twins_svt_large": (99_271_400, 15_111_777_280, 15_148_123_520, 24),
    "pvt_v2_b0": (3_666_760, 566_065_664, 572_024_064, 8),
    "pvt_v2_b1": (14_009_000, 2_108_355_584, 2_120_272_384, 8),
    "pvt_v2_b2": (25_362_856, 4_026_734_592, 4_045_817_152, 16),
    "mobilevit_xs": (2_317_848, 772_340_288, 792_602_336, 9),
    "mobilevit_s": (5_578_632, 1_521_507_328, 1_546_695_744, 9),
    # fvcore: 802,816 more than the authors' code costs, of transformers' resize of the position embeddings
    "pvt_small": (24_485_864, 3_815_701_504, 3_834_538_560, None),
    "pvt_medium": (44_208_104, 6_659_175_424, 6_686_479_680, None),
    "pvt_large": (61_369_320, 9_813_765_632, 9_851_559_808, None),
    # 4,176 MACs fewer than fvcore's products, whose einsum rounds
    "cvt_13": (19_997_480, 4_566_089_216, 4_584_573_392, None),
}
# what fvcore prints where fused attention hides its products: the figure that a careless count would give
HIDDEN = {
    "deit_small": 4_250_674_560,
    "swin_tiny": 4_369_052_928,
    "twins_svt_small": 2_823_749_312,
    "mobilevit_xs": 723_490_784,
}
# hooks and parameters; Semantic FPN at 512x512, detectors at 1280x800. The papers' parameters leave frozen layers out
RESNETS = {
    ("semantic_fpn", "resnet50"): (44_487_409_664, 28_495_574),
    ("semantic_fpn", "resnet101"): (63_962_087_424, 47_487_702),
    ("retinanet", "resnet50"): (239_316_500_520, 37_968_692),
    ("retinanet", "resnet101"): (315_389_460_520, 56_960_820),
    ("retinanet", "resnext101_64x4d"): (472_609_812_520, 95_866_932),
    ("mask_rcnn", "resnet50"): (260_137_547_700, 44_396_336),
    ("mask_rcnn", "resnet101"): (336_210_507_700, 63_388_464),
    ("mask_rcnn", "resnext101_64x4d"): (493_430_859_700, 102_294_576),
}
# backbone: hooks of Semantic FPN, its parameters in millions, all of RetinaNet and of Mask R-CNN; figures in G
TRANSFORMERS = {
    "pvt_small": (40.65, 28.2, 285.9, 304.5),
    "pvt_medium": (55.13, 48.0, 373.2, 391.8),
    "pvt_large": (71.14, 65.1, 475.2, 493.8),
    "swin_tiny": (46.39, 31.9, 247.9, 266.9),
    "swin_small": (69.58, 53.2, 340.0, 359.0),
    "swin_base": (107.00, 91.2, 484.2, 503.5),
    # the printed parameters, 28, 60 and 104 M, hold the classifier's
    "twins_svt_small": (36.71, 28.3 - 0.513, 236.0, 254.6),
    "twins_svt_base": (66.56, 60.4 - 0.769, 376.0, 395.0),
    "twins_svt_large": (101.63, 103.8 - 1.025, 528.1, 547.4),
}
PYRAMIDS = {
    name: theirs for family in library_models.FAMILIES if family.pyramid for name, theirs in family.models.items()
}
UNCARRIED = {"simvit_micro", "lvt", "rest_small"}  # by no library


def side(name: str) -> int:
    return 384 if name.endswith("384") else 224


def prepare() -> None:
    """Of the process of its own: strict about warnings as the tests are, and able to import the libraries."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about a library that does not load
        torchvision_stand_in.load_torchvision()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*torch.jit.*")  # fvcore's, as in pyproject.toml


@pytest.fixture(scope="module")
def child() -> Iterator[ProcessPoolExecutor]:
    absent = torchvision_stand_in.missing()
    if absent:
        pytest.skip(f"not installed: {absent}; pip install 'attnbench[models]'")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=prepare) as pool:
        yield pool


class _Fused(TorchFunctionMode):
    """Counts calls of fused attention."""

    calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def on_meta(name, resolution, kernel="eager"):
    """Fused calls in one pass, the logits' shape, layers that can choose."""
    built, fused = model(name, resolution, device="meta", kernel=kernel), _Fused()
    with fused, torch.no_grad():
        logits = built(torch.empty(1, 3, *resolution, device="meta"))
    return fused.calls, tuple(logits.shape), sum(hasattr(part, "fused_attn") for part in built.modules())


def seen(name):
    found = counts(name, (side(name),) * 2)
    return found.params, found.macs, found.macs_fvcore


def fvcore_with_sdpa(name):
    from attnbench.measure.flops import count

    found = count(model(name, (224, 224), device="meta", kernel="sdpa"), torch.empty(1, 3, 224, 224, device="meta"))
    return found.macs, found.macs_fvcore


def logits(name, resolution, kernel="eager"):
    torch.manual_seed(0)
    built = model(name, resolution, kernel=kernel)
    with torch.no_grad():
        return built(torch.randn(2, 3, *resolution, generator=torch.Generator().manual_seed(1))).numpy()


def pyramid(name, resolution):
    """Channels that are declared, shapes of the maps, parameters with and without the classifier."""
    built = model(name, resolution, device="meta")
    before = sum(p.numel() for p in built.parameters())
    maps = [tuple(y.shape) for y in built.features(torch.empty(1, 3, *resolution, device="meta"))]
    built.without_classifier()
    assert maps == [tuple(y.shape) for y in built.features(torch.empty(1, 3, *resolution, device="meta"))]
    return built.dims, maps, before, sum(p.numel() for p in built.parameters())


def pvt_against_hidden_states(resolution):
    """The largest differences between our first three maps and what transformers' model has after those stages."""
    torch.manual_seed(0)
    built = model("pvt_small", resolution)
    x = torch.randn(2, 3, *resolution)
    with torch.no_grad():
        hidden = built.model(x, output_hidden_states=True).hidden_states
        maps = built.features(x)
    ends = (2, 6, 12)  # the last of 3, 4 and 6 blocks
    return [float((maps[i].flatten(2).transpose(1, 2) - hidden[end]).abs().max()) for i, end in enumerate(ends)]


def dense(task, backbone, resolution, products=True):
    """Hooks, products where asked for (else 0), parameters."""
    known = registry.load(entry_points=False)
    variant = known.check(parse_variant(f"{task}[backbone={backbone}]"))
    with torch.device("meta"):
        built = known.build(variant, known.size(variant, grid=resolution)).eval()
    x = torch.empty(1, 3, *resolution, device="meta")
    params = sum(p.numel() for p in built.parameters())
    return mmdet.count(built, x), mmdet.products(built, x) if products else 0, params


def names_and_reload(name):
    """Keys of ours that are not the library's, and whether its own weights load strictly."""
    built, other = model(name, (64, 64)), model(name, (64, 64))
    theirs = built.model.state_dict()
    other.load_state_dict(theirs, strict=True)
    same = all(torch.equal(ours, theirs[key]) for key, ours in other.state_dict().items())
    return set(built.state_dict()) ^ set(theirs), same


def error_of_building(name):
    try:
        model(name, (64, 64))
    except AttnbenchError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_those_of_the_authors_models(child, name):
    assert child.submit(seen, name).result() == COUNTED[name][:3]


@pytest.mark.parametrize("name", COUNTED)
def test_kernels_are_what_runs(child, name):
    resolution, calls = (side(name),) * 2, COUNTED[name][3]
    fused, shape, choosers = child.submit(on_meta, name, resolution).result()
    assert (fused, shape) == (0, (1, 1000))
    assert registry.load(entry_points=False)[name].kernels == (("eager",) if calls is None else ("eager", "sdpa"))
    assert bool(choosers) == (calls is not None)
    if calls is not None:
        assert child.submit(on_meta, name, resolution, "sdpa").result()[0] == calls


@pytest.mark.parametrize("name", HIDDEN)
def test_fused_attention_hides_products_from_fvcore_alone(child, name):
    assert child.submit(fvcore_with_sdpa, name).result() == (COUNTED[name][1], HIDDEN[name])


@pytest.mark.parametrize("name", ["swin_tiny", "pvt_v2_b0"])
def test_both_kernels_give_the_same_logits(child, name):
    eager, fused = (child.submit(logits, name, (64, 96), kernel).result() for kernel in ("eager", "sdpa"))
    assert eager.shape == (2, 1000)
    assert abs(eager - fused).max() <= 1e-5 * abs(eager).max()


@pytest.mark.parametrize("name", ["resnet50", "cvt_13", "pvt_small"])
def test_one_of_each_library_and_kind_runs(child, name):
    found = child.submit(logits, f"{name}[num_classes=7]", (64, 96)).result()
    assert found.shape == (2, 7)
    assert abs(found).max() < float("inf")


@pytest.mark.parametrize("family", library_models.FAMILIES, ids=lambda family: next(iter(family.models)))
def test_every_family_takes_what_it_does_not_decline(child, family):
    name = next(iter(family.models))
    least = max(family.step, family.least)
    for resolution in ((least, least), (least + 2 * family.step, least + family.step), (320, 224)):
        assert child.submit(on_meta, name, resolution).result()[1] == (1, 1000)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_maps_stand_at_strides_4_to_32_and_need_no_classifier(child, name):
    dims, maps, before, after = child.submit(pyramid, name, (96, 128)).result()
    assert maps == [(1, dim, 96 // stride, 128 // stride) for dim, stride in zip(dims, (4, 8, 16, 32), strict=True)]
    assert before - after >= 1000 * min(dims[-1], 512)


@pytest.mark.parametrize("resolution", [(64, 64), (64, 96)])
def test_pvts_maps_are_what_its_stages_give(child, resolution):
    assert max(child.submit(pvt_against_hidden_states, resolution).result()) <= 1e-5


@pytest.mark.parametrize(("task", "backbone"), RESNETS)
def test_dense_models_around_resnets_count_as_the_papers_do(child, task, backbone):
    resolution = (512, 512) if task == "semantic_fpn" else (1280, 800)
    hooks, params = RESNETS[task, backbone]
    assert child.submit(dense, task, backbone, resolution).result() == (hooks, 0, params)


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_dense_models_around_transformers_count_as_the_authors_backbones_do(child, backbone):
    hooks, params, retinanet, mask_rcnn = TRANSFORMERS[backbone]
    found = child.submit(dense, "semantic_fpn", backbone, (512, 512), products=False).result()
    assert found[0] / 1e9 == pytest.approx(hooks, abs=0.006)
    assert found[2] / 1e6 == pytest.approx(params, abs=0.06)
    for task, giga in (("retinanet", retinanet), ("mask_rcnn", mask_rcnn)):
        hooked, products, _ = child.submit(dense, task, backbone, (1280, 800)).result()
        assert (hooked + products) / 1e9 == pytest.approx(giga, abs=0.06)


@pytest.mark.parametrize("name", ["swin_tiny", "pvt_small"])
def test_state_dicts_have_the_librarys_names(child, name):
    assert child.submit(names_and_reload, name).result() == (set(), True)


def test_every_published_model_has_a_library_model_but_three():
    wanted = {variants[0] for table in (BACKBONES, AT_384) for _, variants in table.values()}
    known = set(registry.load(entry_points=False).names("backbone"))
    assert wanted - known == UNCARRIED
    assert {name for family in library_models.FAMILIES for name in family.models} <= wanted


def test_declaring_imports_no_library():
    code = "import sys, mechanisms; sys.exit(any(m in sys.modules for m in ('timm', 'torchvision', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("text", "resolution", "message"),
    [
        ("swin_tiny[num_classes=0]", (64, 64), "num_classes must be at least 1; got num_classes=0"),
        ("resnet50", (31, 64), "resolution must be at least 32x32; got 31x64"),
        ("twins_svt_small", (64, 80), "both sides of the image must be multiples of 32; got 64x80"),
        ("deit_small", (64, 72), "both sides of the image must be multiples of 16; got 64x72"),
        (
            "retinanet[backbone=deit_small]",
            (64, 64),
            "backbone must give maps at strides 4 to 32; got deit_small, which does not",
        ),
        ("pvt_small", (48, 64), "both sides of the image must be multiples of 32; got 48x64"),
    ],
)
def test_refusals_name_the_rule_and_the_values(text, resolution, message):
    assert declines(text, resolution) == message


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("swin_tiny", "timm", "this model needs timm, which is not installed; pip install 'attnbench[models]'"),
        (
            "swin_tiny",
            "torchvision",
            "this model needs timm, which needs torchvision, which is not installed; pip install 'attnbench[models]'",
        ),
        ("cvt_13", "transformers", "this model needs transformers, which is not installed; "),
    ],
)
def test_without_its_library_a_model_declines_with_the_remedy(monkeypatch, name, package, message):
    monkeypatch.setattr(libraries, "find_spec", lambda asked: None if asked == package else object())
    assert str(declines(name)).startswith(message)
    with pytest.raises(ValueError, match="is not installed"):
        model(name)


def test_a_library_that_cannot_be_imported_is_reported_in_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text(
        "try:\n    raise RuntimeError('no nms\\nmore')\nexcept RuntimeError as error:\n"
        "    raise ImportError from error\n"
    )
    (tmp_path / "torchvision.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [m for m in sys.modules if m.split(".")[0] in ("timm", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)  # of an earlier test
    assert declines("swin_tiny") is None
    with pytest.raises(AttnbenchError) as raised:
        model("swin_tiny")
    for name in ("timm", "torchvision"):
        sys.modules.pop(name, None)  # those of this test
    assert str(raised.value) == (
        "this model needs timm, which is installed and cannot be imported; got RuntimeError: no nms; "
        "torch, torchvision and timm must be built for each other: pip install 'attnbench[models]' in a fresh "
        "environment"
    )


@pytest.fixture(scope="module")
def without_stand_in() -> Iterator[ProcessPoolExecutor]:
    absent = torchvision_stand_in.missing()
    if absent:
        pytest.skip(f"not installed: {absent}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", ["swin_tiny", "cvt_13"])
def test_a_torchvision_of_another_torch_is_enough_to_build_a_model(without_stand_in, name):
    assert without_stand_in.submit(error_of_building, name).result() == ""
