"""What can be ranked -> conditions: comparison groups of runs, the papers' tables, and timm's published tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from attnbench import inputs, runtimes
from attnbench.analysis import ranking
from attnbench.analysis.survival import COUNTED, LEAST_ITEMS, MEASURED, PAPER, TIMM, Axes, Condition, Floats, draw
from attnbench.planning.cell import Cell
from attnbench.published import read, timm
from attnbench.published.layouts import LAYOUTS, Layout, Metric
from attnbench.published.partners import BACKBONES
from attnbench.report.evidence import Evidence, Point
from attnbench.report.grouping import SPEED
from attnbench.results.run_facts import RunFacts

RUNTIME_NAMES: Mapping[str, str] = {
    runtimes.COMPILE: "compiled", "aoti": "AOTInductor", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO",
}  # fmt: skip
RANKED = 60  # measured conditions whose rankings are compared: 1,770 pairs
PAPER_YEAR = "published 2022"
LAYER_CPU = "Core i9-10900X"  # of the layer benchmark; its column says only CPU
OF_TIMM = "timm:"  # before timm's own name of a backbone
FEWEST_GMACS = "GMACs, the fewest first"


def measured(evidence: Evidence) -> tuple[list[Condition], int]:
    """One condition a comparison group and way of execution that has `LEAST_ITEMS` speeds, in the evidence's order.

    Returns:
        The conditions, at most `RANKED`: those with most items, and of as many the first; and how many are left out.
    """
    groups: dict[tuple[str, str], dict[str, list[Point]]] = {}
    for p in evidence.ok:
        if p.get(SPEED):
            groups.setdefault((p.run_id, p.cell.group), {}).setdefault(p.cell.execution, []).append(p)
    ways = [(key, way) for key, by_way in groups.items() for way in by_way if len(by_way[way]) >= LEAST_ITEMS]
    kept = set(sorted(ways, key=lambda way: -len(groups[way[0]][way[1]]))[:RANKED])
    conditions: list[Condition] = []
    for key, by_way in groups.items():
        if some := [points for way, points in by_way.items() if (key, way) in kept]:
            conditions += _of_group(evidence, [p for points in by_way.values() for p in points], some)
    return conditions, len(ways) - len(kept)


def _of_group(evidence: Evidence, points: Sequence[Point], ways: Sequence[Sequence[Point]]) -> Iterator[Condition]:
    """Some ways of execution of one group of points; their samples are drawn together, from the same rounds."""
    arms = {p.cell.id: p.cell.id for p in points}
    found = ranking.measurement(evidence.rounds_of(points[0]), arms)
    samples = draw(found)
    centre = dict(zip(found.arms, found.speeds().tolist(), strict=True)) if samples else {}
    for some in ways:
        name = "ratio_to_reference" if all(p.get("ratio_to_reference") for p in some) else SPEED
        speeds = {p.cell.variant: math.log(e.value) for p in some if (e := p.get(name))}
        draws: dict[str, Floats] = {
            p.cell.variant: samples[p.cell.id] + (speeds[p.cell.variant] - centre[p.cell.id])
            for p in some
            if p.cell.id in samples
        }
        run = evidence.runs_by_id[some[0].run_id]
        axes = _axes(some[0], run.facts)
        yield Condition(
            scope=some[0].cell.scope, source=MEASURED, origin=run.folder.name, axes=axes, speeds=speeds, draws=draws
        )


def _axes(p: Point, facts: RunFacts) -> Axes:
    c, torch, code = p.cell, facts.environment.torch.version, facts.environment.code
    commit = f"{code.commit[:8]}{' with changes' if code.dirty else ''}" if code.commit else facts.attnbench
    return Axes(
        device=p.machine,
        version=f"torch {torch}" if torch else "",
        runtime=RUNTIME_NAMES.get(c.runtime, c.runtime) + (", graphs" if c.graphs else ""),
        kernel=c.kernel,
        precision=c.precision,
        batch=f"batch {c.batch}",
        resolution=_pixels(c.res_h, c.res_w),
        pass_="training" if c.pass_ == "train" else c.pass_,
        layer=_layer(c),
        threads=f"{c.threads} threads" if c.device.startswith("cpu") else "",
        allocator=f"{c.allocator} allocator" if c.device.startswith("cpu") else "",
        code=commit,
    )


def _pixels(h: int, w: int) -> str:
    return f"{h} px" if h == w else f"{h}x{w} px"


def _layer(c: Cell) -> str:
    return f"dim {c.dim}, {c.heads} heads, stride {c.stride}" if c.scope == "layer" else ""


def papers(conditions: Sequence[Condition]) -> list[Condition]:
    """The papers' speeds, one condition a device, batch and resolution, that share items with measured conditions."""
    known = {(c.scope, item) for c in conditions for item in c.speeds}
    found: dict[tuple[str, Axes], Condition] = {}
    for layout in LAYOUTS:
        for metric in layout.metrics:
            if metric.quantity == SPEED and metric.published and not metric.over:
                for key, item, speed in _printed(layout, metric, known):
                    new = Condition(scope=key[0], source=PAPER, origin=layout.title, axes=key[1], speeds={})
                    same = found.get(key, new)
                    found[key] = replace(same, speeds={item: speed, **same.speeds})
    return [c for c in found.values() if _meets(c, conditions)]


def _printed(
    layout: Layout, metric: Metric, known: set[tuple[str, str]]
) -> Iterator[tuple[tuple[str, Axes], str, float]]:
    """Scope and axes, the name of the item and its log speed, of every row of a column that has a partner of ours."""
    for row in read(layout.file):
        scope, variants = metric.partner_of(row)
        value = inputs.parse_number(row[metric.key])
        if variants and value:
            item = next((v for v in variants if (scope, v) in known), variants[0])
            axes = Axes(
                device=_paper_device(layout, metric),
                version=PAPER_YEAR,
                runtime=runtimes.EAGER,
                kernel="eager",
                precision="fp32" if metric.device == "cpu" else "",
                batch=f"batch {metric.batch}",
                resolution=_pixels(*metric.resolution_of(row)),
                pass_=metric.pass_,
                layer="dim 768, 12 heads, stride 16" if scope == "layer" else "",
            )
            yield (scope, axes), item, math.log(value)


def _paper_device(layout: Layout, metric: Metric) -> str:
    if metric.device == "cpu":
        return LAYER_CPU
    return "unnamed GPU" if layout.file.startswith("lightvit") else metric.device_name or "RTX 3090"


def _meets(condition: Condition, others: Sequence[Condition]) -> bool:
    return any(len(condition.shared(other)) >= LEAST_ITEMS for other in others)


def timm_beside(conditions: Sequence[Condition]) -> list[Condition]:
    """Timm's tables over the measured backbones that it has too, at the resolutions of these conditions."""
    sides = {c.axes.resolution for c in conditions if c.scope == "backbone"}
    names = {item: name for c in conditions if c.scope == "backbone" for item in c.speeds if (name := timm_name(item))}
    found = []
    for side in sorted({m.resolution for m in timm.models() if _pixels(m.resolution, m.resolution) in sides}):
        for c in published_timm(side):
            speeds = {item: c.speeds[name] for item, name in names.items() if name in c.speeds}
            found.append(replace(c, speeds=speeds))
    return [c for c in found if _meets(c, conditions)]


def timm_name(variant: str) -> str:
    """Timm's name of a backbone: after `timm:`, or one of its names in `partners.py`; empty where timm has none."""
    variant = variant.removeprefix(OF_TIMM)
    known = _names_of_timm()
    others = next((names for _, names in BACKBONES.values() if variant in names), (variant,))
    return next((name for name in (variant, *others) if name in known), "")


@cache
def _names_of_timm() -> frozenset[str]:
    return frozenset(m.name for m in timm.models())


def published_timm(
    side: int = 0, gmacs: tuple[float, float] = (0.0, math.inf), *, counted: bool = False
) -> list[Condition]:
    """Timm's published tables as conditions, over the models of a resolution and a range of GMACs.

    Args:
        side: of the images in pixels; 0: every resolution, which is then a part of an item's name.
        gmacs: least and most 10^9 multiply-accumulates, both included.
        counted: the GMACs themselves come first, as a ranking.
    """
    models = {timm_item(m, side): m for m in timm.models() if side in (0, m.resolution)}
    if gmacs != (0.0, math.inf):
        models = {k: m for k, m in models.items() if m.gmacs is not None and gmacs[0] <= m.gmacs <= gmacs[1]}
    costs = {k: -math.log(m.gmacs) for k, m in models.items() if m.gmacs}
    axes = Axes(runtime=FEWEST_GMACS)
    found = [Condition(scope="backbone", source=COUNTED, origin="timm", axes=axes, speeds=costs)] if counted else []
    for c in timm.conditions():
        speeds = {k: math.log(m.img_per_s[c.name]) for k, m in models.items() if c.name in m.img_per_s}
        batches = (c.smallest_batch, c.largest_batch)
        axes = Axes(
            device=c.device,
            version=f"torch {c.torch}{f', CUDA {c.cuda}' if c.cuda else ''}",
            runtime=c.runtime,
            precision=c.precision,
            batch="batch 1" if batches == (1, 1) else "largest batch",
            resolution=_pixels(side, side) if side else "every resolution",
            pass_="forward",
            layout=c.layout,
        )
        found.append(Condition(scope="backbone", source=TIMM, origin=c.file, axes=axes, speeds=speeds))
    return [c for c in found if len(c.speeds) >= LEAST_ITEMS]


def timm_item(model: timm.Model, side: int) -> str:
    """The name of a model among items of one resolution (`side`), or of all (0)."""
    return model.name if side else f"{model.name} at {model.resolution}"


def timm_top1(side: int) -> dict[str, float]:
    """The best published top-1 in per cent of every item of `published_timm`, whatever its weights."""
    found = {
        timm_item(m, side): timm.best_accuracy(m.name, m.resolution) for m in timm.models() if side in (0, m.resolution)
    }
    return {item: a.top1_percent for item, a in found.items() if a}
