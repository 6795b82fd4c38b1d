"""What each published table holds: its rows' partners, and per column the quantity and the conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnbench.published.partners import LAYERS, STEPS, Partner, backbone, on_task, swap

Row = Mapping[str, str]
NO_ACCURACY = "accuracy needs training and data; it stands as published"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One column: what is printed, and what of ours stands beside it."""

    key: str
    heading: str
    unit: str = ""
    scale: float = 1.0
    quantity: str = ""
    also: tuple[str, ...] = ()
    device: str = ""
    device_name: str = ""
    batch: int = 64
    pass_: str = "forward"
    partner: Callable[[Row], Partner] = lambda row: ("", ())
    resolution: Callable[[Row], tuple[int, int]] = lambda row: (224, 224)
    why_not: str = NO_ACCURACY
    over: str = ""
    over_label: str = ""
    published: bool = True
    digits: int = 5
    word: str = "measured"

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantity, then what may stand in for it."""
        return (self.quantity, *self.also)

    def printed(self, row: Row, rows: Sequence[Row]) -> str:
        """The published text; of a ratio, the quotient of two published numbers."""
        if not self.published:
            return ""
        text = row[self.over or self.key]
        if not self.over:
            return text
        base = next(r[self.over] for r in rows if r["mechanism"] == self.over_label)
        return f"{float(text) / float(base):.3f}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One published table."""

    file: str
    title: str
    caption: str
    row: str
    label: Callable[[Row], str]
    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()


def _params(key: str = "params_m", heading: str = "parameters", **more: object) -> Metric:
    return replace(Metric(key=key, heading=heading, unit="M", scale=1e6, quantity="params", word="counted"), **more)  # type: ignore[arg-type]  # names are Metric's


def _macs(key: str = "flops_g", heading: str = "MACs", **more: object) -> Metric:
    base = Metric(key=key, heading=heading, unit="G", scale=1e9, quantity="macs", word="counted")
    return replace(base, **more)  # type: ignore[arg-type]  # names are Metric's


def _speed(key: str, heading: str = "throughput", **more: object) -> Metric:
    base = Metric(key=key, heading=heading, unit="img/s", quantity="throughput_img_per_s", device="gpu")
    return replace(base, **more)  # type: ignore[arg-type]  # names are Metric's


def _memory(key: str, heading: str, pass_: str, **more: object) -> Metric:
    base = Metric(
        key=key, heading=heading, unit="GB", scale=1e9, quantity="peak_memory_bytes", device="gpu", pass_=pass_
    )
    return replace(base, **more)  # type: ignore[arg-type]  # names are Metric's


def _printed(key: str, heading: str, unit: str = "", why: str = NO_ACCURACY) -> Metric:
    return Metric(key=key, heading=heading, unit=unit, why_not=why)


def _all(
    partner: Callable[[Row], Partner], *metrics: Metric, at: Callable[[Row], tuple[int, int]] | None = None
) -> tuple[Metric, ...]:
    return tuple(replace(m, partner=partner, resolution=at or m.resolution) for m in metrics)


def _named(key: str) -> Callable[[Row], str]:
    return lambda row: row[key]


def _layer(row: Row) -> Partner:
    return LAYERS[row["mechanism"]]


def _classifier(row: Row) -> Partner:
    return backbone(row["model"], int(row.get("resolution_px", "224")))


def _side(row: Row) -> tuple[int, int]:
    return int(row["resolution_px"]), int(row["resolution_px"])


def _litv2_s(setting: str, key: str) -> Callable[[Row], Partner]:
    return lambda row: ("backbone", (f"litv2_s[{setting}={row[key]}]",))


def _window(row: Row) -> Partner:
    made = f"litv2_s[window_size={row['window_size']}"
    return "backbone", (f"{made},num_classes=100]", f"{made}]")


def _task(task: str) -> Callable[[Row], Partner]:
    def partner(row: Row) -> Partner:
        window = row.get("hilo_window_size", "")
        return on_task(task, row["backbone"], *([f"window_size={window}"] if window == "4" else []))

    return partner


def _step(task: str = "") -> Callable[[Row], Partner]:
    def partner(row: Row) -> Partner:
        inside = STEPS[row["step"]]
        return ("task", (f"{task}[backbone={inside}]",)) if task else ("backbone", (inside,))

    return partner


def _coco(row: Row) -> tuple[int, int]:
    return 800, 1280


def _ade(row: Row) -> tuple[int, int]:
    return 512, 512


def _detector(task: str, mask: bool) -> tuple[Metric, ...]:
    title = {"retinanet": "RetinaNet", "mask_rcnn": "Mask R-CNN"}[task]
    accuracy: tuple[Metric, ...] = (_printed(f"{task}_box_ap", f"{title} box AP"),)
    accuracy += (_printed(f"{task}_mask_ap", f"{title} mask AP"),) if mask else ()
    return (
        *_all(
            _task(task),
            _params(f"{task}_params_m", f"{title} parameters"),
            _macs(f"{task}_flops_g", f"{title} MACs", quantity="macs_mmdet", also=("macs",)),
            _speed(f"{task}_fps", f"{title} speed", batch=1),
            at=_coco,
        ),
        *accuracy,
    )


def _swapped(row: Row) -> Partner:
    return "backbone", (swap(row["attention"]),)


def _swapped_task(row: Row) -> Partner:
    return "task", (f"semantic_fpn[backbone={swap(row['attention'])}]",)


GPUS = (("a100", "A100"), ("v100", "V100"), ("rtx6000", "RTX 6000"), ("rtx3090", "RTX 3090"))
THREE_090 = "throughput_rtx3090_img_per_s"
AT_DEFAULT = "Published: one RTX 3090, batch 64, 224x224, 30 runs after 50."

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        file="imagenet_models",
        title="Table 1: ImageNet-1K classifiers",
        row="model",
        caption=f"Table 1 of the LITv2 paper. {AT_DEFAULT} The last three rows are 384x384.",
        label=lambda row: row["model"] + (" at 384" if row["resolution_px"] == "384" else ""),
        metrics=(
            *_all(
                _classifier,
                _params(),
                _macs(),
                _speed(THREE_090),
                _memory("train_mem_gb", "training memory", "train"),
                _memory("test_mem_gb", "inference memory", "forward"),
                at=_side,
            ),
            _printed("train_mem_status", "published training", why="the published outcome"),
            _printed("top1_pct", "top-1", "%"),
        ),
        notes=("Published memory is max_memory_allocated; ours is weights, input and the peak growth of one call.",),
    ),
    Layout(
        file="coco_detection",
        title="Table 2: COCO detectors",
        row="backbone",
        caption="Table 2 of the LITv2 paper. Published: MACs at 1280x800 by mmdetection's rule, speed on one "
        "RTX 3090, batch 1.",
        label=lambda row: row["backbone"] + ("*" if row["starred"] == "yes" else ""),
        metrics=(*_detector("retinanet", mask=False), *_detector("mask_rcnn", mask=True)),
        notes=("* window 4 in place of 2.",),
    ),
    Layout(
        file="ade20k_segmentation",
        title="Table 3: ADE20K segmenters (Semantic FPN)",
        row="backbone",
        caption="Table 3 of the LITv2 paper. Published: MACs at 512x512; the GPU is not stated, an RTX 3090 is "
        "assumed.",
        label=_named("backbone"),
        metrics=(
            *_all(
                _task("semantic_fpn"),
                _params(),
                _macs(quantity="macs_mmdet", also=("macs",)),
                _speed("fps", "speed", batch=1),
                at=_ade,
            ),
            _printed("miou_pct", "mIoU", "%"),
        ),
    ),
    Layout(
        file="attention_swap",
        title="Table 4: other attentions inside LITv2-S",
        row="attention",
        caption=f"Table 4 of the LITv2 paper: the attention of stage 3. {AT_DEFAULT} ADE20K: Semantic FPN, 512x512.",
        label=_named("attention"),
        metrics=(
            *_all(
                _swapped,
                _params("imagenet_params_m"),
                _macs("imagenet_flops_g"),
                _speed(f"imagenet_{THREE_090}"),
                _memory("imagenet_train_mem_gb", "training memory", "train"),
                _memory("imagenet_test_mem_gb", "inference memory", "forward"),
            ),
            _printed("imagenet_top1_pct", "top-1", "%"),
            *_all(
                _swapped_task,
                _params("ade20k_params_m", "ADE20K parameters"),
                _macs("ade20k_flops_g", "ADE20K MACs", quantity="macs_mmdet", also=("macs",)),
                at=_ade,
            ),
            _printed("ade20k_miou_pct", "mIoU", "%"),
        ),
    ),
    Layout(
        file="architecture_ablation",
        title="Table 5: from LITv1-S to LITv2-S",
        row="step",
        caption="Table 5 of the LITv2 paper: cumulative steps. Published: 224x224, batch 64; RetinaNet at "
        "1280x800, batch 1.",
        label=_named("step"),
        metrics=(
            *_all(_step(), _macs("imagenet_flops_g"), _memory("imagenet_train_mem_gb", "training memory", "train")),
            _printed("imagenet_top1_pct", "top-1", "%"),
            *_all(
                _step("retinanet"),
                _macs("retinanet_flops_g", "RetinaNet MACs", quantity="macs_mmdet", also=("macs",)),
                _speed("retinanet_fps", "RetinaNet speed", batch=1),
                at=_coco,
            ),
            _printed("retinanet_box_ap", "RetinaNet box AP"),
        ),
    ),
    Layout(
        file="gpu_throughput",
        title="Table 6: speed on four GPUs",
        row="model",
        caption="Table 6 of the LITv2 paper. Published: 224x224, batch 64 (assumed). A published GPU's partner "
        "is that GPU alone.",
        label=_named("model"),
        metrics=(
            *_all(
                _classifier,
                _params(),
                _macs(),
                *(_speed(f"throughput_{key}_img_per_s", name, device_name=name) for key, name in GPUS),
                _speed("here", "on the GPU of these runs", published=False),
            ),
            _printed("top1_pct", "top-1", "%"),
        ),
    ),
    Layout(
        file="litv2_variants",
        title="Table I: the LITv2 architecture",
        row="variant and stage",
        caption="Table I of the LITv2 paper: settings of the architecture, stage by stage.",
        label=lambda row: f"{row['variant']} stage {row['stage']}",
        metrics=tuple(
            _printed(key, key.replace("_", " "), why="a setting of the architecture; its counts stand in Table 1")
            for key in (
                "output_stride",
                "merge_layer",
                "patch_size",
                "channels",
                "block_type",
                "mlp_ratio",
                "depth_blocks",
                "num_heads",
                "lofi_heads",
                "hifi_heads",
                "window_size",
                "alpha",
            )
        ),
        notes=("Nothing here is measured: the parameters and MACs of Table 1 are this architecture's.",),
    ),
    Layout(
        file="window_size",
        title="Table II: the window of HiLo in LITv2-S",
        row="window",
        caption=f"Table II of the LITv2 paper. {AT_DEFAULT} The published parameters are of a model with 100 classes.",
        label=_named("window_size"),
        metrics=(
            *_all(
                _window,
                _params(),
                _macs(),
                _speed(THREE_090),
                _memory("train_mem_gb", "training memory", "train"),
                _memory("test_mem_gb", "inference memory", "forward"),
            ),
            _printed("cifar100_top1_pct", "CIFAR-100 top-1", "%"),
        ),
    ),
    Layout(
        file="pooled_queries",
        title="Table III: queries from the pooled map",
        row="model",
        caption=f"Table III of the LITv2 paper. {AT_DEFAULT}",
        label=_named("model"),
        metrics=(
            *_all(
                lambda row: ("backbone", ("litv2_s[pooled=true]" if "pooled" in row["model"] else "litv2_s",)),
                _params(),
                _macs(),
                _speed(THREE_090),
            ),
            _printed("top1_pct", "top-1", "%"),
        ),
    ),
    Layout(
        file="layer_benchmark",
        title="Table IV: single attention layers",
        row="mechanism",
        caption="Table IV of the LITv2 paper: 14x14 tokens, dim 768, 12 heads, batch 64. Published: Core "
        "i9-10900X and RTX 3090, PyTorch 1.8, "
        "30 calls, no warm-up, autograd on.",
        label=_named("mechanism"),
        metrics=_all(
            _layer,
            _params(),
            _macs("flops_m", unit="M", scale=1e6),
            _macs("flops_m_2dp", "fvcore's count", unit="M", scale=1e6, quantity="macs_fvcore"),
            _speed("throughput_cpu_img_per_s", "CPU throughput", device="cpu"),
            Metric(
                key="cpu_over_msa",
                heading="CPU speed over MSA",
                quantity="ratio_to_reference",
                device="cpu",
                over="throughput_cpu_img_per_s",
                over_label="MSA",
                digits=3,
            ),
            _speed(THREE_090, "GPU throughput"),
            Metric(
                key="gpu_over_msa",
                heading="GPU speed over MSA",
                quantity="ratio_to_reference",
                device="gpu",
                over=THREE_090,
                over_label="MSA",
                digits=3,
            ),
        ),
    ),
    Layout(
        file="layer_benchmark_settings",
        title="Table IV: settings of the layers",
        row="mechanism",
        caption="What the authors' scripts pass to each layer, and the settings of these runs.",
        label=_named("mechanism"),
        metrics=_all(
            _layer,
            Metric(
                key="hyperparameters", heading="settings", quantity="settings", also=("params", "macs"), word="here"
            ),
        ),
    ),
    Layout(
        file="alpha",
        title="Alpha: the share of low-frequency heads in LITv2-S",
        row="alpha",
        caption=f"The alpha table of the LITv2 repository (data of Figure 4). {AT_DEFAULT}",
        label=_named("alpha"),
        metrics=(
            *_all(_litv2_s("alpha", "alpha"), _params(), _macs()),
            _printed("lofi_heads", "Lo-Fi heads", why="a setting"),
            _printed("hifi_heads", "Hi-Fi heads", why="a setting"),
            _printed("top1_pct", "top-1", "%"),
            _printed("ade20k_miou_pct", "ADE20K mIoU", "%"),
        ),
    ),
    Layout(
        file="lightvit_imagenet",
        title="LightViT: ImageNet-1K classifiers",
        row="model",
        caption="The ImageNet table of LightViT. Published: 224x224 on an unnamed GPU at an unnamed batch.",
        label=_named("model"),
        metrics=(
            *_all(_classifier, _params(), _macs(), _speed("throughput_img_per_s")),
            _printed("top1_pct", "top-1", "%"),
            _printed("repo_top1_pct", "repository's top-1", "%"),
            _printed("repo_top5_pct", "repository's top-5", "%"),
        ),
    ),
    Layout(
        file="lightvit_coco",
        title="LightViT: Mask R-CNN on COCO",
        row="backbone and schedule",
        caption="Mask R-CNN with LightViT; the input size of the published MACs is not stated, 1280x800 is assumed.",
        label=lambda row: f"{row['backbone']} {row['schedule']}",
        metrics=(
            *_all(_task("mask_rcnn"), _params(), _macs(quantity="macs_mmdet", also=("macs",)), at=_coco),
            _printed("box_ap", "box AP"),
            _printed("mask_ap", "mask AP"),
        ),
    ),
)
