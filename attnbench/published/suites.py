"""`--suite NAME`: the sweep that one published table or figure needs, in one word. No torch.

The arms are the partners of the table's rows: `published/layouts.toml` holds which cells a table has and
`published/partners.py` whom a row is compared with. A table whose cells lie at two resolutions has two suites,
since a sweep has one list of them. Every published count has its partner in five runs, each with
`--measure params,macs`:

    --suite table1,table4,table5,table6,window,pooled,alpha,lightvit
    --suite table1-384
    --suite table3,table4-ade20k
    --suite table2,table5-coco,lightvit-coco
    --suite layers
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnbench import inputs, published
from attnbench.errors import AttnbenchError
from attnbench.published.differences import absent
from attnbench.published.layouts import LAYOUTS
from attnbench.registry.declaration import Scope
from attnbench.registry.variant import split_list

ARMS = {"layer": "mechanism", "backbone": "backbone", "task": "task"}  # scope: option


@dataclass(frozen=True)
class Suite:
    """A published table or figure, and the options that measure it."""

    meaning: str
    options: Mapping[str, Any]


def partners(file: str, scope: Scope, res: str = "224") -> tuple[str, ...]:
    """The arms of a published table: each row's first partner of this scope at this resolution, in its order."""
    height, _, width = res.partition("x")
    return tuple(dict.fromkeys(_partners(file, scope, sorted((int(height), int(width or height))))))


def _partners(file: str, scope: Scope, sides: list[int]) -> Iterator[str]:
    layout = next(found for found in LAYOUTS if found.file == file)
    for row in published.read(file):
        if (file, layout.label_of(row)) in absent():
            continue
        for metric in layout.metrics:
            found, variants = metric.partner_of(row)
            if metric.quantity and found == scope and sorted(metric.resolution_of(row)) == sides:
                yield variants[0]


def _of(meaning: str, file: str, reference: str, *, scope: Scope = "backbone", res: str = "224") -> Suite:
    options: dict[str, Any] = {ARMS[scope]: ",".join(partners(file, scope, res)), "reference": reference}
    if res != "224":
        options["res"] = res
    if scope == "task":
        options["batch"] = "1"
    return Suite(meaning, options)


COCO, ADE20K = "1280x800", "512"  # the papers' images
LAYERS = partners("layer_benchmark", "layer")

SUITES: dict[str, Suite] = {
    "table1": _of(
        "Table 1: ImageNet classifiers, LIT and its competitors, at 224 px (384 px: table1-384)",
        "imagenet_models",
        "litv2_s",
    ),
    "table1-384": _of("Table 1: its rows at 384 px", "imagenet_models", "litv2_b", res="384"),
    "table2": _of(
        "Table 2: RetinaNet and Mask R-CNN around LIT and its competitors, 1280x800, inference",
        "coco_detection",
        "retinanet[backbone=litv2_s]",
        scope="task",
        res=COCO,
    ),
    "table3": _of(
        "Table 3: Semantic FPN around LIT and its competitors, 512x512",
        "ade20k_segmentation",
        "semantic_fpn[backbone=litv2_s]",
        scope="task",
        res=ADE20K,
    ),
    "table4": _of("Table 4: attention mechanisms inside LITv2-S", "attention_swap", "litv2_s[attention=msa]"),
    "table4-ade20k": _of(
        "Table 4: the same inside Semantic FPN, 512x512",
        "attention_swap",
        "semantic_fpn[backbone=litv2_s[attention=msa]]",
        scope="task",
        res=ADE20K,
    ),
    "table5": _of("Table 5: from LITv1-S to LITv2-S step by step", "architecture_ablation", "litv1_s"),
    "table5-coco": _of(
        "Table 5: the same inside RetinaNet, 1280x800",
        "architecture_ablation",
        "retinanet[backbone=litv1_s]",
        scope="task",
        res=COCO,
    ),
    "table6": _of(
        "Table 6: LITv2-S and its competitors on this device (the table compares devices; run it on each)",
        "gpu_throughput",
        "litv2_s",
    ),
    "layers": _of("Table IV: single layers at 14x14 tokens", "layer_benchmark", "msa", scope="layer"),
    "window": _of(
        "Table II: HiLo's window in LITv2-S, 100 classes", "window_size", "litv2_s[window_size=2,num_classes=100]"
    ),
    "pooled": _of("Table III: pooled queries in LITv2-S", "pooled_queries", "litv2_s"),
    "alpha": _of("Figure 4: HiLo's alpha in LITv2-S", "alpha", "litv2_s[alpha=0.9]"),
    "fig3": Suite(
        "Figure 3: MACs, speed and memory of single layers over resolution",
        {"mechanism": ",".join(LAYERS), "res": "224,384,512,768,1024", "batch": "1"},
    ),
    "lightvit": _of("LightViT's table: LightViT-T, S and B and their competitors", "lightvit_imagenet", "lightvit_t"),
    "lightvit-coco": _of(
        "LightViT's Mask R-CNN, 1280x800",
        "lightvit_coco",
        "mask_rcnn[backbone=lightvit_t]",
        scope="task",
        res=COCO,
    ),
}


def suite(text: str) -> dict[str, Any]:
    """The options of a suite, or of several in a comma list: all their arms, and the first one's reference.

    Raises:
        AttnbenchError: no such suite, or suites with different resolutions or batches.
    """
    first, *more = split_list(text)
    made = dict(_named(first).options)
    for name in more:
        other = _named(name).options
        for key in ("res", "batch"):
            if made.get(key) != other.get(key):
                raise AttnbenchError(
                    f"suites of one run share their {key}; {first} has {made.get(key, 'the default')} and {name} "
                    f"{other.get(key, 'the default')}; run them apart: `attnbench report` reads several runs"
                )
        for option in ARMS.values():
            arms = ",".join(options[option] for options in (made, other) if option in options)
            if arms:
                made[option] = arms
    return made


def _named(name: str) -> Suite:
    if name not in SUITES:
        near = difflib.get_close_matches(name[: inputs.LONGEST_NAME], SUITES, n=3)
        raise AttnbenchError(
            f"suite must be one of {', '.join(SUITES)}; got {inputs.brief(name)}"
            + (f"; nearest: {', '.join(near)}" if near else "")
        )
    return SUITES[name]
