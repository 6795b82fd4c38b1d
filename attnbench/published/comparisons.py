"""Claim -> the comparisons that test it: whose quantity over whose, on what, and what the claim says of the ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from attnbench.published import arithmetic as by
from attnbench.published.partners import AT_384, BACKBONES, LAYERS, Partner, on_task, swap


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Subject over baseline.

    Attributes:
        what: as the ledger words it.
        quantity: of a record; empty for arithmetic, whose `value` stands here.
        relation: higher, lower (than `bound`), or near (within `margin` of `bound`).
        device: `cpu` or `gpu` for a measured quantity, empty for a count.
        optional: judged where it was measured, not missed where it was not.
    """

    what: str
    quantity: str = ""
    subject: Partner = ("", ())
    baseline: Partner = ("", ())
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
class Rule:
    """How a claim is tested: `least` of the comparisons must hold (0: all; -1: more than half).

    Attributes:
        kind: exact (counts, formulas), relative (an order or a factor on a class of devices) or absolute
            (on the one device that `device_name` names).
        why_not: why nothing here can test it.
    """

    comparisons: tuple[Comparison, ...] = ()
    least: int = 0
    device_name: str = ""
    why_not: str = ""

    @property
    def kind(self) -> str:
        """Exact, relative or absolute."""
        if self.device_name:
            return "absolute"
        return "relative" if any(c.device for c in self.comparisons) else "exact"


HIGHER, LOWER, NEAR = "higher", "lower", "near"
SPEED, MACS, PARAMS, MEMORY = "throughput_img_per_s", "macs", "params", "peak_memory_bytes"
SIMILAR = 0.10
COCO, ADE = (800, 1280), (512, 512)
OTHERS = tuple(name for name in LAYERS if name != "HiLo")
SIZES = {"LITv2-S": "LITv1-S", "LITv2-M": "LITv1-M", "LITv2-B": "LITv1-B"}
CNNS = (
    ("LITv2-S", "ResNet-50"),
    ("LITv2-S", "ConvNext-Ti"),
    ("LITv2-M", "ResNet-101"),
    ("LITv2-M", "ConvNext-S"),
    ("LITv2-B", "ResNet-152"),
    ("LITv2-B", "ConvNext-B"),
)
VITS = (
    *(("LITv2-S", n) for n in ("PVT-S", "Swin-Ti", "CvT-13", "Focal-Tiny", "Twins-PCPVT-S")),
    *(("LITv2-M", n) for n in ("PVT-M", "Twins-SVT-B", "Swin-S")),
    *(("LITv2-B", n) for n in ("Twins-SVT-L", "Swin-B")),
)
GROUPS = {
    "LITv1-S": ("ResNet-50", "ConvNext-Ti", "PVT-S", "Swin-Ti", "CvT-13", "Focal-Tiny", "Twins-PCPVT-S"),
    "LITv1-M": ("ResNet-101", "ConvNext-S", "PVT-M", "Twins-SVT-B", "Swin-S"),
    "LITv1-B": ("ResNet-152", "ConvNext-B", "Twins-SVT-L", "Swin-B"),
}
COCO_VITS = {
    "LITv2-S": ("PVT-S", "Swin-T", "Twins-SVT-S"),
    "LITv2-M": ("PVT-M", "Swin-S", "Twins-SVT-B"),
    "LITv2-B": ("PVT-L", "Swin-B", "Twins-SVT-L"),
}
ADE_GROUPS = {
    "LITv2-S": ("ResNet-50", "PVT-S", "Swin-Ti", "Twins-SVT-S", "LITv1-S"),
    "LITv2-M": ("ResNet-101", "PVT-M", "Swin-S", "Twins-SVT-B"),
    "LITv2-B": ("PVT-L", "Swin-B", "Twins-SVT-L"),
}


def _between(subject: str, baseline: str, table: Mapping[str, Partner]) -> Comparison:
    return Comparison(what=f"{subject}/{baseline}", subject=table[subject], baseline=table[baseline])


def _layers(
    pairs: Iterable[tuple[str, str]], quantity: str, relation: str, device: str = "", **more: object
) -> list[Comparison]:
    found = (_between(s, b, LAYERS) for s, b in pairs)
    return [replace(c, quantity=quantity, relation=relation, device=device, **more) for c in found]  # type: ignore[arg-type]  # names are Comparison's


def _models(pairs: Iterable[tuple[str, str]], quantity: str, relation: str, **more: object) -> list[Comparison]:
    device = "" if quantity in (MACS, PARAMS) else "gpu"
    found = (_between(s, b, BACKBONES) for s, b in pairs)
    return [replace(c, quantity=quantity, relation=relation, device=device, **more) for c in found]  # type: ignore[arg-type]  # names are Comparison's


def _ours(subject: str, baseline: str, quantity: str, relation: str, what: str = "", **more: object) -> Comparison:
    base = Comparison(
        what=what or f"{subject}/{baseline}",
        quantity=quantity,
        relation=relation,
        subject=("backbone", (subject,)),
        baseline=("backbone", (baseline,)),
        device="" if quantity in (MACS, PARAMS) else "gpu",
    )
    return replace(base, **more)  # type: ignore[arg-type]  # names are Comparison's


def _tasks(task: str, subject: Partner, baseline: Partner, quantity: str, relation: str, what: str) -> Comparison:
    counted = quantity in (MACS, PARAMS)
    return Comparison(
        what=f"{task} {what}",
        quantity=quantity,
        relation=relation,
        subject=subject,
        baseline=baseline,
        batch=1,
        device="" if counted else "gpu",
        resolution=ADE if task == "semantic_fpn" else COCO,
    )


def _in_task(task: str, pairs: Iterable[tuple[str, str]], quantity: str, relation: str) -> list[Comparison]:
    return [_tasks(task, on_task(task, s), on_task(task, b), quantity, relation, f"{s}/{b}") for s, b in pairs]


def _around(task: str, backbone: str) -> Partner:
    return "task", (f"{task}[backbone={backbone}]",)


def _formula(what: str, value: float, relation: str = LOWER, bound: float = 1.0, margin: float = 0.0) -> Comparison:
    return Comparison(what=what, value=value, relation=relation, bound=bound, margin=margin)


def _all(*parts: Sequence[Comparison] | Comparison, **more: object) -> Rule:
    found = [c for p in parts for c in ([p] if isinstance(p, Comparison) else p)]
    return Rule(tuple(found), **more)  # type: ignore[arg-type]  # names are Rule's


def _factor(subject: str, baseline: str, claimed: float, device: str, table: Mapping[str, Partner]) -> Comparison:
    """A printed factor: met within its rounding and three per cent."""
    half = 0.5 * 10 ** -len(str(claimed).partition(".")[2])
    base = replace(_between(subject, baseline, table), quantity=SPEED, device=device, relation=NEAR)
    return replace(base, bound=claimed, margin=half / claimed + 0.03)


def _over_resolutions() -> list[Comparison]:
    sides = (224, 384, 512, 768, 1024)
    rivals = [("HiLo", n) for n in ("Focal", "QuadTree", "Performer", "MSA")]
    return [
        replace(c, what=f"{c.what} {word} at {side}", resolution=(side, side), optional=side != 224)
        for side in sides
        for quantity, relation, word, device, bound in (
            (MACS, LOWER, "MACs", "", 1.1),
            (SPEED, HIGHER, "throughput", "gpu", 0.9),
            (MEMORY, LOWER, "memory", "gpu", 1.1),
        )
        for c in _layers(rivals, quantity, relation, device, bound=bound)
    ]


def _windows(quantity: str, relation: str, word: str, margin: float, **more: object) -> list[Comparison]:
    return [
        replace(
            _ours("litv2_s", "litv2_s", quantity, relation, f"{word} s={s}/s=2", margin=margin, **more),
            subject=("backbone", (f"litv2_s[window_size={s},num_classes=100]", f"litv2_s[window_size={s}]")),
            baseline=("backbone", ("litv2_s[window_size=2,num_classes=100]", "litv2_s")),
        )
        for s in range(3, 8)
    ]


def _swaps(quantity: str, word: str, **more: object) -> list[Comparison]:
    relation = HIGHER if quantity == SPEED else LOWER
    return [
        _ours("litv2_s", swap(a), quantity, relation, f"{word} HiLo/{a}".strip(), **more)
        for a in ("SRA", "W-MSA", "T-MSA", "MSA")
    ]


def _alpha(a: float, b: float) -> Comparison:
    return _ours(f"litv2_s[alpha={a}]", f"litv2_s[alpha={b}]", MACS, LOWER, f"alpha {a}/{b}")


def _msa_layer(side: int, quantity: str) -> Comparison:
    word = {"latency_s": "time", "peak_growth_bytes": "memory of a call"}[quantity]
    return Comparison(
        what=f"{word} at {2 * side}/{side} px, over the ratio of tokens",
        quantity=quantity,
        relation=HIGHER,
        bound=4.0,
        device="any",
        subject=LAYERS["MSA"],
        baseline=LAYERS["MSA"],
        resolution=(2 * side, 2 * side),
        baseline_resolution=(side, side),
        optional=True,
    )


N14, N64, D = 196, 4096, 384
V100 = "V100"
TABLE6 = (
    "ResNet-50",
    "PVT-S",
    "Twins-PCPVT-S",
    "Swin-Ti",
    "TNT-S",
    "CvT-13",
    "CoAtNet-0",
    "CaiT-XS24",
    "PVTv2-B2",
    "XCiT-S12",
    "ConvNext-Ti",
    "Focal-Tiny",
)


@cache
def rules() -> Mapping[str, Rule]:
    """Every claim of the ledger by its id."""
    hilo_all = [("HiLo", n) for n in OTHERS]
    litv1 = list(SIZES.items())
    doubled = by.hilo(N14, D, 12, 2, 0.0) + by.hilo(N14, D, 12, 2, 1.0)
    both = ("retinanet", "mask_rcnn")
    slow_three = [(n, "MSA") for n in ("Focal", "QuadTree", "VAN")]
    coco_vits = [(s, b) for s, found in COCO_VITS.items() for b in found]
    resnets = [("LITv2-S", "ResNet-50"), ("LITv2-M", "ResNet-101"), ("LITv2-B", "ResNeXt101-64x4d")]
    stars = [(t, s) for t in both for s in SIZES]
    swin = [("LITv2-S", "Swin-Ti"), ("LITv2-M", "Swin-S"), ("LITv2-B", "Swin-B")]
    at_384 = [replace(_between("LITv2-B", n, AT_384), resolution=(384, 384)) for n in ("DeiT-B", "Swin-B")]
    msa_inside, conv_ffn = "litv2_s[attention=msa]", "litv1_s[ffn=conv]"
    return {
        "hilo-cpu-faster-than-sra": _all(_factor("HiLo", "SRA", 1.4, "cpu", LAYERS)),
        "hilo-cpu-faster-than-local-window": _all(_factor("HiLo", "Local Window", 1.6, "cpu", LAYERS)),
        "hilo-cpu-faster-than-van": _all(_factor("HiLo", "VAN", 17.4, "cpu", LAYERS)),
        "hilo-fastest-layer-cpu": _all(_layers(hilo_all, SPEED, HIGHER, "cpu")),
        "hilo-fastest-layer-gpu": _all(_layers(hilo_all, SPEED, HIGHER, "gpu")),
        "hilo-lowest-layer-flops": _all(_layers(hilo_all, MACS, LOWER)),
        "head-splitting-cuts-params": _all(_layers([("HiLo", "MSA")], PARAMS, LOWER)),
        "focal-slower-than-msa-gpu": _all(_layers([("Focal", "MSA")], SPEED, LOWER, "gpu")),
        "quadtree-slower-than-msa-gpu": _all(_layers([("QuadTree", "MSA")], SPEED, LOWER, "gpu")),
        "performer-slower-than-msa-gpu": _all(_layers([("Performer", "MSA")], SPEED, LOWER, "gpu")),
        "hilo-competitive-over-resolutions": _all(_over_resolutions()),
        "low-flops-but-slow-focal-quadtree-van": _all(
            _layers(slow_three, MACS, LOWER), _layers(slow_three, SPEED, LOWER, "gpu")
        ),
        "plain-windows-cheaper-than-shifted": _all(_layers([("Local Window", "Shifted Window")], SPEED, HIGHER, "any")),
        "plain-windows-cheaper-than-multiscale": _all(_layers([("Local Window", "Focal")], SPEED, HIGHER, "any")),
        "msa-quadratic-cost": _all(
            _formula(
                "MACs at 64x64/32x32 tokens, above the ratio of tokens",
                by.msa(4096, 768) / by.msa(1024, 768),
                HIGHER,
                4.0,
            ),
            Comparison(
                what="counted/formula at 14x14",
                quantity=MACS,
                subject=LAYERS["MSA"],
                value=by.msa(N14, 768),
                relation=NEAR,
                optional=True,
            ),
            *(_msa_layer(side, quantity) for side in (384, 512) for quantity in ("latency_s", "peak_growth_bytes")),
        ),
        "hifi-cost-formula": _all(
            _formula("Hi-Fi at 2N/N tokens", by.hifi(2 * N14, D) / by.hifi(N14, D), NEAR, 2.0),
            _formula("Hi-Fi/MSA at N=196 D=384 s=2", by.hifi(N14, D) / by.msa(N14, D)),
        ),
        "lofi-cost-formula": _all(
            _formula("Lo-Fi at 2N/N tokens", by.lofi(2 * N64, D) / by.lofi(N64, D), HIGHER, 2.0),
            _formula("Lo-Fi/MSA at N=196 D=384 s=2", by.lofi(N14, D) / by.msa(N14, D)),
        ),
        "hifi-lofi-similar-at-small-size": _all(
            _formula("Hi-Fi/Lo-Fi", by.hifi(N14, D) / by.lofi(N14, D), NEAR, 1.0, SIMILAR)
        ),
        "lofi-dominates-at-high-resolution": _all(
            _formula("Lo-Fi/Hi-Fi at 64x64", by.lofi(N64, D) / by.hifi(N64, D), HIGHER)
        ),
        "larger-window-lowers-lofi-cost": _all(_formula("s4/s2", by.lofi(N64, D, 4) / by.lofi(N64, D, 2))),
        "larger-window-lowers-hilo-flops-high-res": _all(
            _formula("s4/s2 layer at 64x64", by.hilo(N64, D, 12, 4, 0.5) / by.hilo(N64, D, 12, 2, 0.5)),
            _formula("s7/s2 layer at 128x128", by.hilo(126**2, D, 12, 7, 0.5) / by.hilo(128**2, D, 12, 2, 0.5)),
        ),
        "lofi-cheaper-than-hifi-at-224": _all(_formula("Lo-Fi/Hi-Fi", by.lofi(N14, D) / by.hifi(N14, D))),
        "larger-alpha-fewer-flops-224": _all(
            _alpha(0.9, 0.0),
            _alpha(1.0, 0.0),
            *(
                replace(_alpha(high, low), optional=True)
                for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.5), (0.5, 0.7), (0.7, 0.9))
            ),
        ),
        "hilo-degenerates-to-msa": _all(
            _formula("MACs of HiLo, s=1 and alpha=1, over MSA", by.hilo(N14, 768, 12, 1, 1.0) / by.msa(N14, 768), NEAR),
            _formula("parameters of the same", by.hilo_params(768, 12, 1.0) / by.msa_params(768), NEAR),
            *(
                Comparison(
                    what=f"{q} as counted",
                    quantity=q,
                    subject=("layer", ("hilo[window_size=1,alpha=1.0]",)),
                    baseline=LAYERS["MSA"],
                    relation=NEAR,
                    optional=True,
                )
                for q in (MACS, PARAMS)
            ),
        ),
        "hilo-branches-cheaper-than-msa": _all(
            _layers([("HiLo", "MSA")], MACS, LOWER), _layers([("HiLo", "MSA")], SPEED, HIGHER, "any")
        ),
        "head-doubling-costs-more": _all(
            _formula("doubled/split", doubled / by.hilo(N14, D, 12, 2, 0.5), HIGHER),
            _formula("doubled/MSA", doubled / by.msa(N14, D), HIGHER),
        ),
        "hifi-much-cheaper-than-msa": _all(
            _formula("14x14 tokens", by.hifi(N14, D, 2, 1.0) / by.msa(N14, D)),
            _formula("64x64 tokens", by.hifi(N64, D, 2, 1.0) / by.msa(N64, D)),
        ),
        "focal-tiny-slower-than-swin-ti": _all(
            _models([("Focal-Tiny", "Swin-Ti")], SPEED, LOWER),
            _models([("Focal-Tiny", "Swin-Ti")], MACS, NEAR, margin=0.15),
        ),
        "litv2-fewer-flops-than-litv1": _all(_models(litv1, MACS, LOWER)),
        "litv2-faster-than-litv1-gpu": _all(_models(litv1, SPEED, HIGHER)),
        "litv2-less-train-memory-than-litv1": _all(_models(litv1, MEMORY, LOWER, pass_="train")),
        "litv1-faster-than-many": _all(
            _models([(s, b) for s, found in GROUPS.items() for b in found], SPEED, HIGHER), least=-1
        ),
        "litv2-beats-cnns-flops": _all(_models(CNNS, MACS, LOWER)),
        "litv2-beats-cnns-throughput": _all(_models(CNNS, SPEED, HIGHER)),
        "litv2-beats-cnns-memory": _all(_models(CNNS, MEMORY, LOWER, pass_="train"), _models(CNNS, MEMORY, LOWER)),
        "litv2-s-faster-than-pvt-s-and-twins": _all(
            _models([("LITv2-S", "PVT-S"), ("LITv2-S", "Twins-PCPVT-S")], SPEED, HIGHER)
        ),
        "focal-tiny-slower-than-litv2-s": _all(_models([("Focal-Tiny", "LITv2-S")], SPEED, LOWER)),
        "focal-tiny-more-train-memory": _all(_models([("Focal-Tiny", "LITv2-S")], MEMORY, HIGHER, pass_="train")),
        "litv2-beats-vits-throughput-memory": _all(
            _models(VITS, SPEED, HIGHER), _models(VITS, MEMORY, LOWER, pass_="train"), least=-1
        ),
        "litv2-b-384-vs-deit-b-swin-b": _all(
            [replace(c, quantity=SPEED, device="gpu") for c in at_384],
            [replace(c, quantity=MACS, relation=LOWER) for c in at_384],
        ),
        "litv2-better-than-litv1-coco": _all(
            *(_in_task(t, [("LITv2-S", "LITv1-S")], q, r) for t in both for q, r in ((SPEED, HIGHER), (MACS, LOWER)))
        ),
        "litv2-slightly-slower-than-resnet-coco": _all(*(_in_task(t, resnets, SPEED, LOWER) for t in both), least=1),
        "litv2-fast-among-vits-coco": _all(*(_in_task(t, coco_vits, SPEED, HIGHER) for t in both), least=-1),
        "window4-faster-than-window2-coco": _all(
            [_tasks(t, on_task(t, s, "window_size=4"), on_task(t, s), SPEED, HIGHER, s) for t, s in stars]
        ),
        "window4-fewer-flops-than-window2-coco": _all(
            [_tasks(t, on_task(t, s, "window_size=4"), on_task(t, s), MACS, LOWER, s) for t, s in stars]
        ),
        "litv2-higher-fps-than-swin-ade20k": _all(
            _in_task("semantic_fpn", swin, SPEED, HIGHER), _in_task("semantic_fpn", swin, MACS, LOWER)
        ),
        "litv2-fast-ade20k": _all(
            _in_task("semantic_fpn", [(s, b) for s, found in ADE_GROUPS.items() for b in found], SPEED, HIGHER),
            least=-1,
        ),
        "hilo-fewer-flops-in-litv2-s": _all(_swaps(MACS, "")),
        "hilo-faster-in-litv2-s": _all(_swaps(SPEED, "")),
        "hilo-less-memory-in-litv2-s": _all(_swaps(MEMORY, "train", pass_="train"), _swaps(MEMORY, "test")),
        "hilo-fewest-params-ade20k-swap": _all(
            [
                _tasks(
                    "semantic_fpn",
                    _around("semantic_fpn", "litv2_s"),
                    _around("semantic_fpn", swap(a)),
                    PARAMS,
                    LOWER,
                    f"HiLo/{a}",
                )
                for a in ("SRA", "W-MSA", "T-MSA", "MSA")
            ]
        ),
        "remove-rpe-speeds-detection": _all(
            _tasks(
                "retinanet",
                _around("retinanet", msa_inside),
                _around("retinanet", conv_ffn),
                SPEED,
                HIGHER,
                "+ Remove RPE/+ ConvFFN",
            )
        ),
        "hilo-improves-detector-efficiency": _all(
            [
                _tasks(
                    "retinanet",
                    _around("retinanet", "litv2_s"),
                    _around("retinanet", msa_inside),
                    q,
                    r,
                    "+ HiLo/+ Remove RPE",
                )
                for q, r in ((SPEED, HIGHER), (MACS, LOWER))
            ]
        ),
        "hilo-improves-imagenet-efficiency": _all(
            _ours("litv2_s", msa_inside, MACS, LOWER, "flops"),
            _ours("litv2_s", msa_inside, MEMORY, LOWER, "train memory", pass_="train"),
        ),
        "msa-costly-on-dense-prediction": _all(
            replace(
                _tasks(
                    "retinanet",
                    _around("retinanet", msa_inside),
                    _around("retinanet", "litv2_s"),
                    MACS,
                    HIGHER,
                    "MSA/HiLo",
                ),
                optional=True,
            ),
            _formula("six stage-3 layers only at 50x80 tokens", by.msa(4000, D) / by.hilo(4000, D, 12, 2, 0.9), HIGHER),
        ),
        "litv2-s-fastest-on-four-gpus": _all(
            _models([("LITv2-S", n) for n in TABLE6], SPEED, HIGHER), device_name="A100, V100, RTX 6000, RTX 3090"
        ),
        "litv2-s-vs-pvtv2-b2-v100": _all(_factor("LITv2-S", "PVTv2-B2", 2.1, "gpu", BACKBONES), device_name=V100),
        "litv2-s-vs-xcit-s12-v100": _all(_factor("LITv2-S", "XCiT-S12", 1.7, "gpu", BACKBONES), device_name=V100),
        "litv2-s-vs-convnext-ti-v100": _all(_factor("LITv2-S", "ConvNext-Ti", 1.7, "gpu", BACKBONES), device_name=V100),
        "litv2-s-vs-focal-tiny-v100": _all(_factor("LITv2-S", "Focal-Tiny", 3.5, "gpu", BACKBONES), device_name=V100),
        "window-size-keeps-params": _all(_windows(PARAMS, NEAR, "params", 0.0)),
        "window-size-similar-cost-at-224": _all(
            _windows(MACS, NEAR, "flops", SIMILAR),
            _windows(SPEED, NEAR, "throughput", SIMILAR),
            _windows(MEMORY, NEAR, "train memory", SIMILAR, pass_="train"),
            _windows(MEMORY, NEAR, "test memory", SIMILAR),
        ),
        "pooled-queries-fewer-flops": _all(_ours("litv2_s[pooled=true]", "litv2_s", MACS, LOWER, "pooled/default")),
        "pooled-queries-slower-gpu": _all(_ours("litv2_s[pooled=true]", "litv2_s", SPEED, LOWER, "pooled/default")),
        "lightvit-t-faster-than-pvtv2-b0": _all(_factor("LightViT-T", "PVTv2-B0", 1.11, "gpu", BACKBONES)),
        "lightvit-t-faster-than-efficient-vits": _all(
            _models([("LightViT-T", n) for n in ("SimViT-Micro", "MobileViT-XS", "LVT", "PVTv2-B0")], SPEED, HIGHER),
            least=-1,
        ),
        "lightvit-b-speed-vs-peers": _all(
            _models([("LightViT-B", n) for n in ("PVTv2-B2", "Swin-T")], SPEED, HIGHER),
            _models([("LightViT-B", "DeiT-S")], SPEED, LOWER),
            _models([("LightViT-B", n) for n in ("PVTv2-B2", "DeiT-S", "Swin-T")], MACS, LOWER),
        ),
        "lightvit-s-efficiency": _all(_models([("LightViT-S", n) for n in ("PVTv2-B1", "ResT-Small")], MACS, LOWER)),
        "lightvit-global-tokens-linear": _all(
            _formula(
                "aggregation and broadcast at 2N/N tokens",
                by.lightvit_global(2 * N14, 768, 8) / by.lightvit_global(N14, 768, 8),
                NEAR,
                2.0,
            ),
            _formula(
                "aggregation and broadcast/MSA at N=196 D=768",
                by.lightvit_global(N14, 768, 8) / by.msa(N14, 768),
                LOWER,
                0.05,
            ),
        ),
        "lightvit-drop-stride4-stage": Rule(
            why_not="no variant of LightViT with a stride-4 stage is published, so none is here"
        ),
        "lightvit-s-coco-lower-flops": _all(_in_task("mask_rcnn", [("LightViT-S", "PVT-S")], MACS, LOWER)),
    }
