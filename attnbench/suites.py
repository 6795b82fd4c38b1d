"""`--suite NAME`: the sweep that one published table or figure needs, in one word. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.declaration import AttnbenchError

LAYERS = (
    "msa", "cswin", "dat", "performer", "linformer", "sra", "window", "shifted_window", "focal", "xca", "quadtree",
    "van", "hornet", "hilo",
)  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """A published table or figure, and the options that measure it."""

    meaning: str
    options: Mapping[str, Any]


def _of(*backbones: str) -> str:
    return ",".join(backbones)


_LIT = tuple(f"lit{version}_{letter}" for version in ("v1", "v2") for letter in "smb")
_DENSE = ("litv1_s", *(f"litv2_{letter}{window}" for letter in "smb" for window in ("", "[window_size=4]")))

SUITES: dict[str, Suite] = {
    "table1": Suite(
        "Table 1: LITv1 and LITv2 classifiers at 224 px (the 384 px row: --backbone litv2_b --res 384)",
        {"backbone": _of(*_LIT), "reference": "litv2_s"},
    ),
    "table2": Suite(
        "Table 2: RetinaNet and Mask R-CNN around LITv1-S and LITv2, 1280x800, inference",
        {
            "task": _of(*(f"{task}[backbone={b}]" for task in ("retinanet", "mask_rcnn") for b in _DENSE)),
            "res": "1280x800",
            "batch": "1",
            "reference": "retinanet[backbone=litv2_s]",
        },
    ),
    "table3": Suite(
        "Table 3: Semantic FPN around LITv1-S and LITv2, 512x512",
        {
            "task": _of(*(f"semantic_fpn[backbone={b}]" for b in ("litv1_s", "litv2_s", "litv2_m", "litv2_b"))),
            "res": "512",
            "batch": "1",
            "reference": "semantic_fpn[backbone=litv2_s]",
        },
    ),
    "table4": Suite(
        "Table 4: attention mechanisms inside LITv2-S",
        {
            "backbone": _of(*(f"litv2_s[attention={name}]" for name in ("msa", "sra", "window", "tmsa", "hilo"))),
            "reference": "litv2_s[attention=msa]",
        },
    ),
    "table5": Suite(
        "Table 5: from LITv1-S to LITv2-S step by step",
        {
            "backbone": "litv1_s,litv1_s[ffn=conv],litv2_s[attention=msa],litv2_s",
            "reference": "litv1_s",
        },
    ),
    "table6": Suite(
        "Table 6: LITv2-S on this device (the table compares devices; run it on each)",
        {"backbone": "litv1_s,litv2_s", "reference": "litv2_s"},
    ),
    "window": Suite(
        "Table II: HiLo's window in LITv2-S, 100 classes",
        {
            "backbone": _of(*(f"litv2_s[window_size={s},num_classes=100]" for s in range(2, 8))),
            "reference": "litv2_s[window_size=2,num_classes=100]",
        },
    ),
    "pooled": Suite(
        "Table III: pooled queries in LITv2-S",
        {"backbone": "litv2_s,litv2_s[pooled=true]", "reference": "litv2_s"},
    ),
    "alpha": Suite(
        "Figure 4: HiLo's alpha in LITv2-S",
        {
            "backbone": _of(*(f"litv2_s[alpha={a}]" for a in ("0.0", "0.2", "0.4", "0.5", "0.7", "0.9", "1.0"))),
            "reference": "litv2_s[alpha=0.9]",
        },
    ),
    "fig3": Suite(
        "Figure 3: MACs, speed and memory of single layers over resolution",
        {"mechanism": ",".join(LAYERS), "res": "224,384,512,768,1024", "batch": "1"},
    ),
    "lightvit": Suite(
        "LightViT's table: LightViT-T, S and B",
        {"backbone": "lightvit_t,lightvit_s,lightvit_b", "reference": "lightvit_t"},
    ),
}


def suite(name: str) -> dict[str, Any]:
    """The options of a suite.

    Raises:
        AttnbenchError: no such suite.
    """
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, n=3)
        raise AttnbenchError(
            f"suite must be one of {', '.join(SUITES)}; got {name!r}"
            + (f"; nearest: {', '.join(near)}" if near else "")
        )
    return dict(SUITES[name].options)
