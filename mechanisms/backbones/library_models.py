"""Library models: classifiers of the published tables that timm and transformers have, under this project's names.

Paper   one for each family, named in the model's notes
Agrees  with the parameters and the counts of the authors' code, or says what differs
        (tests/backbones/test_library_models.py)
Differs the libraries are imported when a model is built, not when it is declared. `eager` switches timm's fused
        attention off in every layer that has it, since counters do not see inside of it; `sdpa` switches it on in
        all of them, also where timm's own default leaves it off (Swin, XCiT). Weights are random.

Shapes  images [B,3,h,w] -> logits [B,classes]; a model in stages also gives its maps [B,C,H,W] at strides
        4, 8, 16, 32
Cost    no closed formula: counted on the model itself
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Growth, Kind, Resolution, mechanism
from mechanisms.backbones import libraries, parts, timm_models
from mechanisms.backbones.wrapped import LibraryModel

STRIDES = (4, 8, 16, 32)  # of a pyramid's maps


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models of one paper.

    Attributes:
        title: the family's name and idea.
        paper: its identifier; `year` of publication, `repository` of the authors' code.
        models: our name -> the library's name (timm; `timm:` and that name is the same model) or settings
            (transformers).
        mixing: the declared kind of the models.
        library: which package builds them; `kind` the class's prefix in transformers.
        sized: whether the constructor asks for the image's size.
        step: what the image's sides must be multiples of; at least `least` pixels.
        kernels: `sdpa` where at least one layer has a fused path.
        pyramid: whether there are maps at strides 4 to 32.
        norm_maps: whether dense tasks put a LayerNorm on each of those maps.
        dense_resolution: what dense tasks build it for, from the image's size, where that is another.
        growth: of a call's memory with the number of pixels.
        notes: what qualifies the counts.
    """

    title: str
    paper: str
    year: int
    repository: str = ""
    mixing: Kind = "attention"
    models: Mapping[str, Any]
    library: str = "timm"
    kind: str = ""
    sized: bool = False
    step: int = 1
    least: int = 32
    kernels: tuple[str, ...] = ("eager", "sdpa")
    pyramid: bool = False
    norm_maps: bool = False
    dense_resolution: Callable[[Resolution], Resolution] | None = None
    growth: Growth = "linear"
    notes: Mapping[str, str] = field(default_factory=dict)


FAMILIES = (
    Family(
        title="ResNet: residual convolutions", paper="arXiv:1512.03385", year=2016,
        repository="KaimingHe/deep-residual-networks",
        mixing="convolution", models={"resnet50": "resnet50", "resnet101": "resnet101", "resnet152": "resnet152"},
        kernels=("eager",), pyramid=True,
        notes={"published": "7.9 G for ResNet-101, which has 7.83"},
    ),
    Family(
        title="ResNeXt: residual convolutions in groups", paper="arXiv:1611.05431", year=2017,
        repository="facebookresearch/ResNeXt", mixing="convolution", models={"resnext101_64x4d": "resnext101_64x4d"},
        kernels=("eager",), pyramid=True,
    ),
    Family(
        title="RegNetY: convolutions in groups with channel gates", paper="arXiv:2003.13678", year=2020,
        repository="facebookresearch/pycls", mixing="convolution",
        models={"regnety_008": "regnety_008", "regnety_016": "regnety_016"},
        kernels=("eager",), pyramid=True,
    ),
    Family(
        title="ConvNeXt: depthwise 7x7 convolutions in a transformer's frame", paper="arXiv:2201.03545", year=2022,
        repository="facebookresearch/ConvNeXt",
        mixing="convolution", models={f"convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base")},
        kernels=("eager",), pyramid=True, norm_maps=True,
    ),
    Family(
        title="DeiT: plain attention on patches of 16", paper="arXiv:2012.12877", year=2021,
        repository="facebookresearch/deit",
        models={"deit_small": "deit_small_patch16_224", "deit_base_384": "deit_base_patch16_384"},
        sized=True, step=16, growth="quadratic",
        notes={"params": "depend on the resolution: the position embedding has a row per token"},
    ),
    Family(
        title="CaiT: talking heads, then class attention", paper="arXiv:2103.17239", year=2021,
        repository="facebookresearch/deit", models={"cait_xs24": "cait_xs24_384"},
        sized=True, step=16, growth="quadratic",
        notes={
            "params": "depend on the resolution: the position embedding has a row per token",
            "sdpa": "runs in the two class-attention layers; the 24 talking-heads layers have no fused path",
        },
    ),
    Family(
        title="TNT: a transformer in each patch", paper="arXiv:2103.00112", year=2021,
        repository="huawei-noah/Efficient-AI-Backbones", models={"tnt_small": "tnt_s_legacy_patch16_224"},
        sized=True, step=16, kernels=("eager",), growth="quadratic",
        notes={"model": "the first implementation; timm's newer tnt_s_patch16_224 has 13,248 parameters more"},
    ),
    Family(
        title="XCiT: attention between channels", paper="arXiv:2106.09681", year=2021,
        repository="facebookresearch/xcit", models={"xcit_small_12": "xcit_small_12_p16_224"},
        sized=True, step=16, growth="linear",
    ),
    Family(
        title="CoAtNet: convolutions, then relative attention", paper="arXiv:2106.04803", year=2021,
        models={"coatnet_0": "coatnet_0_224"}, sized=True, step=32, growth="quadratic",
        notes={
            "published": "4.2 G, 9 % below what the paper's architecture costs",
            "model": "coatnet_0_rw_224 is another one, with 27.4 M parameters",
            "params": "depend on the resolution: the table of relative biases",
        },
    ),
    Family(
        title="Swin: shifted windows", paper="arXiv:2103.14030", year=2021, repository="microsoft/Swin-Transformer",
        models={
            **{f"swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")},
            "swin_base_384": "swin_base_patch4_window12_384",
        },
        sized=True, pyramid=True, norm_maps=True,
        notes={
            "published": "4.9 G for Swin-T in LightViT's table; the model has 4.5",
            "params": "depend on the resolution where a stage's map is smaller than a window, which shrinks to it",
        },
    ),
    Family(
        title="Twins-PCPVT: sub-sampled attention, positions by convolution", paper="arXiv:2104.13840", year=2021,
        repository="Meituan-AutoML/Twins", models={"twins_pcpvt_small": "twins_pcpvt_small"},
        sized=True, step=32, pyramid=True, growth="quadratic",
    ),
    Family(
        title="Twins-SVT: windows and sub-sampled attention in turn", paper="arXiv:2104.13840", year=2021,
        repository="Meituan-AutoML/Twins",
        models={f"twins_svt_{size}": f"twins_svt_{size}" for size in ("small", "base", "large")},
        sized=True, step=32, pyramid=True, norm_maps=True, growth="quadratic",
        notes={
            "published": "8.3 and 14.8 G for B and L, which leave the attention's products out; the parameters of "
            "detectors and segmenters around them hold the classifier's too, up to 1.0 M",
        },
    ),
    Family(
        title="PVTv2: sub-sampled attention, overlapping patches", paper="arXiv:2106.13797", year=2022,
        repository="whai362/PVT", models={f"pvt_v2_b{i}": f"pvt_v2_b{i}" for i in range(3)},
        pyramid=True, growth="quadratic",
        notes={"published": "3.4 and 13.1 M parameters for B0 and B1 in the preprint; the released models have more"},
    ),
    Family(
        title="MobileViT: attention between like pixels of patches", paper="arXiv:2110.02178", year=2022,
        repository="apple/ml-cvnets", models={"mobilevit_xs": "mobilevit_xs", "mobilevit_s": "mobilevit_s"},
        pyramid=True, growth="quadratic",
        notes={"published": "0.7 and 1.1 G in LightViT's table; neither 224 nor the trained 256 pixels give them"},
    ),
    Family(
        title="PVT: sub-sampled attention in a pyramid", paper="arXiv:2102.12122", year=2021,
        repository="whai362/PVT",
        models={
            "pvt_small": {"depths": [3, 4, 6, 3]},
            "pvt_medium": {"depths": [3, 4, 18, 3]},
            "pvt_large": {"depths": [3, 8, 27, 3]},
        },
        library="transformers", kind="Pvt", step=32, kernels=("eager",), pyramid=True, growth="quadratic",
        dense_resolution=lambda image: (224, 224),  # the classifier's position embeddings, resized at every call
        notes={
            "fvcore": "0.8 M above the authors' code, of a resize of the position embeddings at each call",
            "params": "depend on the resolution: a position embedding with a row per token at each stage",
        },
    ),
    Family(
        title="CvT: convolutional projections", paper="arXiv:2103.15808", year=2021, repository="microsoft/CvT",
        models={"cvt_13": {}}, library="transformers", kind="Cvt", kernels=("eager",), growth="quadratic",
    ),
)  # fmt: skip


def refuses(family: Family, resolution: tuple[int, int], num_classes: int) -> str | None:
    """Why the model cannot be built, or None: the image's size, the classes, or a library that is not installed."""
    reason = parts.refuses(num_classes)
    if reason:
        return reason
    h, w = resolution
    least = max(family.least, family.step)
    if min(h, w) < least:
        return f"resolution must be at least {least}x{least}; got {h}x{w}"
    if h % family.step or w % family.step:
        return f"both sides of the image must be multiples of {family.step}; got {h}x{w}"
    return libraries.absent(family.library)


def from_timm(family: Family, name: str, resolution: tuple[int, int], num_classes: int) -> LibraryModel:
    """A model of timm."""
    model: Any = timm_models.create(name, resolution if family.sized else None, num_classes)
    stages = {stage["reduction"]: i for i, stage in enumerate(model.feature_info)}
    last = [stages[stride] for stride in STRIDES] if family.pyramid else []
    return LibraryModel(
        model,
        kernels=family.kernels,
        dims=[int(model.feature_info[i]["num_chs"]) for i in last] if family.pyramid else None,
        maps=lambda inside, x: inside.forward_intermediates(x, indices=last, intermediates_only=True),  # type: ignore[operator]
        prune=lambda inside: inside.prune_intermediate_layers(indices=last, prune_norm=True),  # type: ignore[operator]
        norm_maps=family.norm_maps,
    )


def from_transformers(
    family: Family, words: Mapping[str, Any], resolution: tuple[int, int], num_classes: int
) -> LibraryModel:
    """A model of transformers."""
    library = libraries.imported("transformers")
    with libraries.importing("transformers"):  # the model's own module, and what that imports
        config, classifier = (getattr(library, f"{family.kind}{end}") for end in ("Config", "ForImageClassification"))
    settings = config(**words, num_labels=num_classes)
    model = classifier(settings)
    if family.pyramid:
        fit(model, resolution)
    return LibraryModel(
        model,
        kernels=family.kernels,
        dims=list(settings.hidden_sizes) if family.pyramid else None,
        maps=partial(pvt_maps, resolution),
        prune=prune_pvt,
        norm_maps=family.norm_maps,
    )


def fit(model: Any, resolution: tuple[int, int]) -> None:
    """Give PVT position embeddings for a map that need not be square; its own configuration has squares only."""
    h, w = resolution
    for stride, stage in zip(STRIDES, model.pvt.encoder.patch_embeddings, strict=True):
        table = stage.position_embeddings
        rows = (h // stride) * (w // stride) + (stage.cls_token is not None)
        if rows != table.shape[1]:
            stage.position_embeddings = nn.Parameter(torch.randn(1, rows, table.shape[2], device=table.device))


def pvt_maps(built_for: tuple[int, int], model: Any, x: Tensor) -> list[Tensor]:
    """PVT's maps as the authors' detectors read them: no class token, position embeddings resized to the image."""
    encoder, maps = model.pvt.encoder, []
    for stride, patches, blocks in zip(STRIDES, encoder.patch_embeddings, encoder.block, strict=True):
        y = patches.projection(x)
        H, W = y.shape[2:]
        table = patches.position_embeddings[:, int(patches.cls_token is not None) :]
        table = table.reshape(1, built_for[0] // stride, built_for[1] // stride, -1).permute(0, 3, 1, 2)
        if table.shape[2:] != y.shape[2:]:
            table = F.interpolate(table, size=(H, W), mode="bilinear")
        y = patches.layer_norm(y.flatten(2).transpose(1, 2)) + table.flatten(2).transpose(1, 2)
        for block in blocks:
            y = block(y, H, W)[0]
        x = y.transpose(1, 2).reshape(len(y), -1, H, W)
        maps.append(x)
    return maps


def prune_pvt(model: Any) -> None:
    """Take out the classifier and the norm before it."""
    model.classifier, model.pvt.encoder.layer_norm = nn.Identity(), nn.Identity()


def _declare(family: Family, name: str, theirs: Any) -> None:
    build_with = from_timm if family.library == "timm" else from_transformers
    inside = theirs if family.library == "timm" else f"{family.kind}ForImageClassification"

    @mechanism(
        name=name,
        title=f"{family.title} ({family.library})",
        paper=family.paper,
        year=family.year,
        repository=family.repository,
        scope="backbone",
        kind=family.mixing,
        defaults={"num_classes": 1000},
        refuses=partial(refuses, family),
        kernels=family.kernels,
        growth=family.growth,
        pyramid=STRIDES if family.pyramid else (),
        dense_resolution=family.dense_resolution,
        notes={
            "library": f"{family.library}'s {inside}, built without weights",
            "paper": ", code: ".join(filter(None, (f"{family.paper}, {family.year}", family.repository))),
            **family.notes,
        },
    )
    def build(resolution: tuple[int, int], *, num_classes: int) -> LibraryModel:
        return build_with(family, theirs, resolution, num_classes)


for _family in FAMILIES:
    for _name, _theirs in _family.models.items():
        _declare(_family, _name, _theirs)
