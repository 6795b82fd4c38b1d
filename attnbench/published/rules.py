"""Claim -> the comparisons that test it: whose quantity over whose, on what, and what the claim says of the ratio.

`claims.toml` holds them; here its names become variants of ours, and its formulas numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from attnbench.published import arithmetic
from attnbench.published.claims import Claim, Compare, Formula, claims
from attnbench.published.partners import NO_PARTNER, TABLES, Partner, around_task, partner
from attnbench.published.toml_data import one_of

ROUNDING = 0.03  # what a printed factor is given beyond the rounding of its digits
COCO, ADE20K = (800, 1280), (512, 512)
COUNTS = ("macs", "params")
# the ledger's word -> quantity of a record, pass
METRICS: Mapping[str, tuple[str, str]] = {
    "throughput": ("throughput_img_per_s", "forward"),
    "fps": ("throughput_img_per_s", "forward"),
    "flops": ("macs", "forward"),
    "params": ("params", "forward"),
    "memory": ("peak_memory_bytes", "forward"),
    "test_memory": ("peak_memory_bytes", "forward"),
    "train_memory": ("peak_memory_bytes", "train"),
    "call_memory": ("peak_growth_bytes", "forward"),
    "time": ("latency_s", "forward"),
}
DEVICES: Mapping[str, str] = {"none": "", "cpu": "cpu", "gpu": "gpu", "cpu, gpu": "any", "any": "any"}
TASKS: Mapping[str, tuple[str, ...]] = {"detector": ("retinanet", "mask_rcnn"), "segmenter": ("semantic_fpn",)}
NAMES: Mapping[str, str] = {"backbone": "classifiers", "detector": "classifiers", "segmenter": "classifiers"}
FORMULAS: Mapping[str, Callable[..., float]] = {
    f.__name__: f
    for f in (
        arithmetic.msa, arithmetic.hifi, arithmetic.lofi, arithmetic.hilo, arithmetic.hilo_doubled,
        arithmetic.hilo_params, arithmetic.msa_params, arithmetic.lightvit_global,
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClaimComparison:
    """Subject over baseline.

    Attributes:
        what: as the ledger words it.
        quantity: of a record; empty for arithmetic, whose `value` stands here.
        relation: higher, lower (than `bound`), or near (within `margin` of `bound`).
        device: `cpu`, `gpu` or `any` for a measured quantity, empty for a count.
        resolution: (height, width) in pixels; `baseline_resolution` where the baseline has another.
        optional: judged where it was measured, not missed where it was not.
    """

    what: str
    quantity: str = ""
    subject: Partner = NO_PARTNER
    baseline: Partner = NO_PARTNER
    relation: str = "higher"
    bound: float = 1.0
    margin: float = 0.0
    device: str = ""
    pass_: str = "forward"
    batch: int = 64
    resolution: tuple[int, int] = (224, 224)
    baseline_resolution: tuple[int, int] | None = None
    value: float | None = None
    optional: bool = False


@dataclass(frozen=True)
class ClaimRule:
    """How a claim is tested: all, most (more than half) or one of its comparisons must hold, as `needed` says.

    Attributes:
        device_name: the devices that the claim is about, comma-separated; empty for a class of devices.
        why_not: why nothing here can test it.
    """

    comparisons: tuple[ClaimComparison, ...] = ()
    needed: str = "all"
    device_name: str = ""
    why_not: str = ""

    @property
    def kind(self) -> str:
        """Exact (counts, formulas), relative (an order or a factor on a class of devices) or absolute (on one)."""
        if self.device_name:
            return "absolute"
        return "relative" if any(c.device for c in self.comparisons) else "exact"

    def least_of(self, count: int) -> int:
        """How many of `count` comparisons must hold."""
        return {"all": count, "most": count // 2 + 1, "one": 1}[self.needed]


@cache
def rules() -> Mapping[str, ClaimRule]:
    """Every claim of the ledger by its id.

    Raises:
        ValueError: a metric, device class, name or formula that is not known.
    """
    return {
        claim.id: ClaimRule(
            tuple(_comparisons(claim)), claim.test.needed, claim.test.device_name, claim.test.why_not
        )
        for claim in claims()
    }  # fmt: skip


def _comparisons(claim: Claim) -> Iterator[ClaimComparison]:
    """Tasks outermost, then resolutions, then the comparisons, then their pairs."""
    for task in claim.test.tasks or TASKS.get(claim.scope, ("",)):
        for side in (0, *claim.test.also_at_px):
            for compare in claim.test.compare:
                if compare.formula and compare.over:
                    value = _value(claim, compare.formula) / _value(claim, compare.over)
                    yield _arithmetic(compare, value)
                else:
                    yield from _measured(claim, compare, task, side)


def _arithmetic(compare: Compare, value: float) -> ClaimComparison:
    return ClaimComparison(
        what=compare.what,
        value=value,
        relation=compare.relation,
        bound=compare.bound,
        margin=compare.margin,
    )


def _value(claim: Claim, formula: Formula) -> float:
    one_of(formula.name, tuple(FORMULAS), f"claims.toml, {claim.id}: formula")
    try:
        return FORMULAS[formula.name](**formula.arguments)
    except TypeError as error:
        raise ValueError(f"claims.toml, {claim.id}: the arguments of a formula must be its own; {error}") from error


def _measured(claim: Claim, compare: Compare, task: str, side: int) -> Iterator[ClaimComparison]:
    metric = compare.metric or claim.metric
    one_of(metric, tuple(METRICS), f"claims.toml, {claim.id}: metric")
    one_of(claim.device_class, tuple(DEVICES), f"claims.toml, {claim.id}: device_class")
    quantity, pass_ = METRICS[metric]
    resolution = _resolution(claim, compare, task, side)
    relation, bound, margin = _expected(claim, compare)
    wording = compare.what or ("{task} {subject}/{baseline}" if task else "{subject}/{baseline}")
    for subject, *baselines in compare.pairs or claim.test.pairs or claim.pairs:
        for baseline in baselines or [""]:
            yield ClaimComparison(
                what=wording.format(subject=subject, baseline=baseline, task=task, side=resolution[0]),
                quantity=quantity,
                subject=_partner(claim, subject, task, resolution, compare.subject_setting),
                baseline=_partner(claim, baseline, task, resolution) if baseline else NO_PARTNER,
                relation=relation,
                bound=bound,
                margin=margin,
                device="" if quantity in COUNTS else DEVICES[claim.device_class],
                pass_=pass_,
                batch=1 if task else 64,
                resolution=resolution,
                baseline_resolution=(compare.baseline_resolution_px,) * 2 if compare.baseline_resolution_px else None,
                value=_value(claim, compare.over) if compare.over else None,
                optional=compare.optional or bool(side),
            )


def _resolution(claim: Claim, compare: Compare, task: str, side: int) -> tuple[int, int]:
    if task:
        return ADE20K if task == "semantic_fpn" else COCO
    pixels = side or compare.resolution_px or claim.resolution_px
    return pixels, pixels


def _expected(claim: Claim, compare: Compare) -> tuple[str, float, float]:
    """Relation, bound and margin; a printed factor is met within its rounding and three per cent."""
    if compare.relation != "factor":
        return compare.relation, compare.bound, compare.margin
    if claim.claimed_value is None:
        raise ValueError(f"claims.toml, {claim.id}: a factor needs a claimed_value")
    half = 0.5 * 10 ** -len(str(claim.claimed_value).partition(".")[2])
    return "near", claim.claimed_value, half / claim.claimed_value + ROUNDING


def _partner(claim: Claim, name: str, task: str, resolution: tuple[int, int], *settings: str) -> Partner:
    """The variants of ours that a published name stands for, inside a task model where there is one."""
    names = claim.test.names or NAMES.get(claim.scope, "layers")
    settings = tuple(filter(None, settings))
    if isinstance(names, str):
        one_of(names, tuple(TABLES), f"claims.toml, {claim.id}: names")
        found = partner(names, name, 224 if task else resolution[0])
    else:
        variants = names.get(name, ())
        scope = "layer" if claim.scope == "layer" else "backbone"
        found = scope, (variants,) if isinstance(variants, str) else tuple(variants)
    if not found[1]:
        raise ValueError(f"claims.toml, {claim.id}: no partner is known under the name {name!r}")
    return around_task(task, found, *settings) if task else found
