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


SUITES: dict[str, Suite] = {
    "table4": Suite(
        "Table 4: attention mechanisms inside LITv2-S",
        {
            "backbone": _of(*(f"litv2_s[attention={name}]" for name in ("msa", "sra", "window", "tmsa", "hilo"))),
            "reference": "litv2_s[attention=msa]",
        },
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
