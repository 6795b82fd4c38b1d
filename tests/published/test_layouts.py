"""The layouts say which of our variants stands beside each row of each published table."""

from __future__ import annotations

import pytest

from attnbench import published
from attnbench.published.layouts import LAYOUTS, Layout, Metric, _metrics
from attnbench.published.toml_data import build


def layout(file: str) -> Layout:
    return next(found for found in LAYOUTS if found.file == file)


def partner(file: str, key: str, label: str) -> tuple[str, ...]:
    """The variants beside one published cell."""
    table = layout(file)
    metric = next(m for m in table.metrics if m.key == key)
    return next(metric.partner_of(row)[1] for row in published.read(file) if table.label_of(row) == label)


@pytest.mark.parametrize(
    ("file", "key", "label", "variants"),
    [
        ("imagenet_models", "params_m", "LITv2-S", ("litv2_s",)),
        ("imagenet_models", "flops_g", "DeiT-B at 384", ("deit_base_384", "deit_base_patch16_384")),
        ("imagenet_models", "top1_pct", "LITv2-S", ()),
        ("coco_detection", "retinanet_fps", "LITv2-S", ("retinanet[backbone=litv2_s]",)),
        ("coco_detection", "mask_rcnn_fps", "LITv2-S*", ("mask_rcnn[backbone=litv2_s[window_size=4]]",)),
        ("attention_swap", "ade20k_params_m", "T-MSA", ("semantic_fpn[backbone=litv2_s[attention=tmsa]]",)),
        ("architecture_ablation", "retinanet_fps", "+ ConvFFN", ("retinanet[backbone=litv1_s[ffn=conv]]",)),
        ("window_size", "flops_g", "3", ("litv2_s[window_size=3,num_classes=100]", "litv2_s[window_size=3]")),
        ("pooled_queries", "flops_g", "LITv2-S w/ pooled queries", ("litv2_s[pooled=true]",)),
        ("layer_benchmark", "flops_m", "Local Window", ("window",)),
        ("alpha", "params_m", "0.4", ("litv2_s[alpha=0.4]",)),
        ("lightvit_coco", "flops_g", "LightViT-T 1x", ("mask_rcnn[backbone=lightvit_t]",)),
    ],
)
def test_a_row_stands_beside_its_partner(file: str, key: str, label: str, variants: tuple[str, ...]) -> None:
    assert partner(file, key, label) == variants


def test_the_images_of_a_row_have_the_size_that_the_table_or_its_column_says() -> None:
    sizes = {
        file: {metric.resolution_of(row) for row in published.read(file) for metric in layout(file).metrics[:1]}
        for file in ("imagenet_models", "coco_detection", "ade20k_segmentation", "layer_benchmark")
    }
    assert sizes == {
        "imagenet_models": {(224, 224), (384, 384)},
        "coco_detection": {(800, 1280)},
        "ade20k_segmentation": {(512, 512)},
        "layer_benchmark": {(224, 224)},
    }


def test_a_published_ratio_is_the_quotient_of_two_printed_numbers() -> None:
    rows = published.read("layer_benchmark")
    metric = next(m for m in layout("layer_benchmark").metrics if m.key == "cpu_over_msa")
    speeds = {row["mechanism"]: float(row["throughput_cpu_img_per_s"]) for row in rows}
    hilo = next(row for row in rows if row["mechanism"] == "HiLo")
    assert metric.printed(hilo, rows) == f"{speeds['HiLo'] / speeds['MSA']:.3f}"


def test_every_column_that_a_layout_names_is_in_its_file() -> None:
    for table in LAYOUTS:
        columns = set(published.read(table.file)[0])
        named = {m.over or m.key for m in table.metrics if m.published} | {m.column for m in table.metrics}
        assert named - {""} <= columns, table.file


def test_a_column_that_nothing_of_ours_stands_beside_says_why() -> None:
    silent = [(table.file, m.key) for table in LAYOUTS for m in table.metrics if not m.quantity and not m.why_not]
    assert silent == []


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"metrics": [{"kind": "speeds", "key": "fps"}]}, "t: kind must be one of speed; got 'speeds'"),
        ({"names": "layer", "metrics": []}, "t: names must be one of layers, .*; got 'layer'"),
        ({"metrics": [{"kind": "speed", "key": "fps", "bach": 1}]}, "t: Metric has no bach; its keys: also, batch"),
        ({"metrics": [{"kind": "speed"}]}, "t: Metric needs key"),
    ],
)
def test_a_slip_in_a_group_is_refused(group: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(_metrics(group, {"speed": {"unit": "img/s"}}, "t"))


def test_what_a_metric_leaves_out_is_its_kinds_and_its_groups() -> None:
    (metric,) = _metrics({"task": "retinanet", "metrics": [{"kind": "k", "key": "a_b"}]}, {"k": {"batch": 1}}, "t")
    assert metric == build(Metric, {"key": "a_b", "heading": "a b", "task": "retinanet", "batch": 1}, "t")
