"""timm's published tables: top-1 and images per second of its models under twenty conditions, read when asked for.

From `results/` of huggingface/pytorch-image-models, Apache-2.0, commit aa4b5850 (2026-08-08). `../schema.md` explains
the columns. A speed is one run without an interval; a throughput row names no weights, an accuracy row does.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = "timm results, aa4b5850"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How one of the tables was made.

    Attributes:
        name: its column of throughput.csv. `file`: of the repository.
        torch, cuda: versions; `cuda` is empty on a CPU.
        layout: `nchw` or `nhwc`. `runtime`: `eager` or `compiled`.
        smallest_batch, largest_batch: timm halves the batch until the model fits.
    """

    name: str
    file: str
    device: str
    torch: str
    cuda: str
    precision: str
    layout: str
    runtime: str
    smallest_batch: int
    largest_batch: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model at one resolution.

    Attributes:
        resolution: side of its square images in pixels.
        gmacs: 10^9 multiply-accumulates an image as timm counted them; None where it did not.
        img_per_s: images per second by the name of the conditions; those in which it was timed.
    """

    name: str
    resolution: int
    gmacs: float | None
    img_per_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """ImageNet-1k top-1 in per cent of one set of weights (timm's tag) at its test resolution."""

    weights: str
    resolution: int
    top1_percent: float


@cache
def conditions() -> tuple[Conditions, ...]:
    """The conditions of every table, in timm's order."""
    return tuple(
        Conditions(
            name=row["condition"], file=row["file"], device=row["device"], torch=row["torch"], cuda=row["cuda"],
            precision=row["precision"], layout=row["layout"], runtime=row["runtime"],
            smallest_batch=int(row["smallest_batch"]), largest_batch=int(row["largest_batch"]),
        )
        for row in _rows("conditions")
    )  # fmt: skip


@cache
def models() -> tuple[Model, ...]:
    """Every model and resolution with a speed, by name."""
    names = [c.name for c in conditions()]
    return tuple(
        Model(
            name=row["model"],
            resolution=int(row["resolution"]),
            gmacs=float(row["gmacs"]) if row["gmacs"] else None,
            img_per_s={name: float(row[name]) for name in names if row[name]},
        )
        for row in _rows("throughput")
    )


def macs(model: str, pixels: int) -> float | None:
    """Multiply-accumulates of an image of so many pixels, in proportion to the nearest size at which timm counted."""
    counted = [(m.resolution**2, m.gmacs) for m in models() if m.name == model and m.gmacs]
    if not counted:
        return None
    nearest, gmacs = min(counted, key=lambda size: abs(math.log(size[0] / pixels)))
    return 1e9 * gmacs * pixels / nearest


@cache
def accuracies() -> Mapping[str, tuple[Accuracy, ...]]:
    """Every published accuracy by the model's name without its weights, the best first."""
    found: dict[str, list[Accuracy]] = {}
    for row in _rows("accuracy"):
        accuracy = Accuracy(
            weights=row["weights"], resolution=int(row["resolution"]), top1_percent=float(row["top1_percent"])
        )
        found.setdefault(row["model"], []).append(accuracy)
    return {name: tuple(sorted(all_, key=lambda a: -a.top1_percent)) for name, all_ in found.items()}


def best_accuracy(model: str, resolution: int) -> Accuracy | None:
    """The best published top-1 of a model at a resolution, whatever its weights; None where there is none."""
    return next((a for a in accuracies().get(model, ()) if a.resolution == resolution), None)


def _rows(name: str) -> list[dict[str, str]]:
    text = (files(__name__) / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
