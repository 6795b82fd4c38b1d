"""A measured classifier -> its published top-1 on ImageNet-1k, with its source: the papers' tables, then timm's.

Only an accuracy at the measured image size counts, and only of the model as it is declared. Nothing is trained or
tested here: the weights that were timed are random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from attnbench import published
from attnbench.planning.cell import Cell
from attnbench.published import timm
from attnbench.published.partners import partner
from attnbench.report.matching import same_variant
from attnbench.report.survival_sources import timm_name

PAPERS = {"imagenet_models": "LITv2, table 1", "lightvit_imagenet": "LightViT, table 1"}


@dataclass(frozen=True)
class Top1:
    """A published accuracy.

    Attributes:
        percent: top-1 on ImageNet-1k's validation images.
        side: of the square test images in pixels.
        source: the table that prints it; of timm's, the tag of the weights too.
    """

    percent: float
    side: int
    source: str


def published_top1(cell: Cell) -> Top1 | None:
    """The published accuracy of a classifier at the cell's image size; None where there is none."""
    if cell.scope != "backbone" or cell.res_h != cell.res_w:
        return None
    printed = (top1 for wanted, top1 in _printed() if top1.side == cell.res_h and same_variant(cell, wanted))
    return next(printed, None) or _of_timm(cell)


def _of_timm(cell: Cell) -> Top1 | None:
    """The best of timm's weights of this model that were tested at this size."""
    best = timm.best_accuracy(timm_name(cell.variant), cell.res_h)
    return Top1(best.top1_percent, best.resolution, f"{timm.SOURCE}, weights {best.weights}") if best else None


@cache
def _printed() -> tuple[tuple[str, Top1], ...]:
    return tuple(_rows())


def _rows() -> Iterator[tuple[str, Top1]]:
    for file, source in PAPERS.items():
        for row in published.read(file):
            side = int(row.get("resolution_px", "224"))
            if row["top1_pct"]:
                for variant in partner("classifiers", row["model"], side)[1]:
                    yield variant, Top1(float(row["top1_pct"]), side, source)
