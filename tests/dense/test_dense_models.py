"""Detectors and segmenters: real passes, detections against brute force, laws of the pyramid, refusals, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from around import declines, task
from test_boxes import no_torchvision, overlap, torchvision  # noqa: F401  fixtures

from attnbench.measure.arm import tensors_of
from mechanisms.dense.pyramid import FPN

NAMES = ["semantic_fpn", "retinanet", "mask_rcnn"]


def images(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


SHAPES = {
    "semantic_fpn": {(1, 150, 512, 512)},
    "retinanet": {(1, 100, 4), (1, 100)},
    "mask_rcnn": {(1, 100, 4), (1, 100), (1, 100, 28, 28)},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_real_pass_at_512(name):
    with torch.no_grad():
        found = tensors_of(task(name, (512, 512))(images(1, 3, 512, 512)))
    assert {tuple(t.shape) for t in found} == SHAPES[name]
    assert all(t.isfinite().all() for t in found)


@pytest.mark.parametrize("backbone", ["litv1_s", "lightvit_t"])
@pytest.mark.parametrize(
    "text",
    [
        "semantic_fpn[backbone={}]",
        "retinanet[nms=none,backbone={}]",
        pytest.param("mask_rcnn[nms=none,backbone={}]", marks=pytest.mark.slow),
    ],
)
def test_any_backbone_any_size_any_batch(text, backbone):
    model, x = task(text.format(backbone), (61, 90)), images(2, 3, 61, 90)
    with torch.no_grad():
        both, alone = model(x), model(x[1:])
    assert all(t.isfinite().all() for t in tensors_of(both))
    if isinstance(both, dict):  # which of two equal boxes comes first is open, their scores are not
        both, alone = both["scores"], alone["scores"]
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    model = task(name, (64, 96)).train()
    sum(t.square().mean() for t in tensors_of(model(images(1, 3, 64, 96)))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_pyramid_adds_each_coarser_map_to_the_finer():
    fpn = FPN([3, 4, 5]).double()
    maps = [images(2, c, *grid, dtype=torch.float64) for c, grid in ((3, (9, 10)), (4, (4, 5)), (5, (2, 2)))]
    with torch.no_grad():
        levels = fpn(maps)
        expected, above = [], None
        for conv, smooth, y in reversed(list(zip(fpn.lateral_convs, fpn.fpn_convs, maps, strict=True))):
            y = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], y) + conv.bias[:, None, None]
            if above is not None:
                H, W = y.shape[2:]
                rows = [i * above.shape[2] // H for i in range(H)]
                columns = [j * above.shape[3] // W for j in range(W)]
                y = y + above[:, :, rows][..., columns]
            above = y
            padded = F.pad(y, (1, 1, 1, 1))
            H, W = y.shape[2:]
            total = sum(
                torch.einsum("oc,bchw->bohw", smooth.weight[:, :, i, j], padded[:, :, i : i + H, j : j + W])
                for i in range(3)
                for j in range(3)
            )
            expected.insert(0, total + smooth.bias[:, None, None])
    for level, wanted in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_the_segmenter_is_the_sum_of_its_enlarged_levels():
    model = task("semantic_fpn[num_classes=3]", (64, 96)).double()
    x = images(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        y, total = model(x), 0
        for i, level in enumerate(model.neck(model.backbone(x))):
            weights = [m.weight for m in model.scale_heads[i] if isinstance(m, torch.nn.Conv2d)]
            assert len(weights) == max(i, 1)
            for weight in weights:
                level = (F.conv2d(level, weight, padding=1) / math.sqrt(1 + 1e-5)).clamp(min=0)
                level = F.interpolate(level, scale_factor=2, mode="bilinear") if i else level
            total = total + level
        logits = F.conv2d(total, model.conv_seg.weight, model.conv_seg.bias)
        torch.testing.assert_close(y, F.interpolate(logits, size=(64, 96), mode="bilinear"))


def test_retinanet_gives_the_best_of_all_anchors_and_classes():
    model = task("retinanet[num_classes=3,nms=none]", (32, 48)).double()
    x = images(1, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        found = model(x)
        raw = model.train()
        raw.backbone.eval()
        maps = raw(x)
    every = []
    for logits, deltas, stride in zip(maps["logits"], maps["deltas"], (8, 16, 32, 64, 128), strict=True):
        _, _, H, W = logits.shape
        for y in range(H):
            for k in range(W):
                for a in range(9):
                    ratio, scale = (0.5, 1, 2)[a // 3], 4 * 2 ** (a % 3 / 3)
                    w, h = stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio)
                    dx, dy, dw, dh = deltas[0, 4 * a : 4 * a + 4, y, k].tolist()
                    cx, cy, w, h = k * stride + dx * w, y * stride + dy * h, w * math.exp(dw), h * math.exp(dh)
                    ends = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                    box = [min(max(e, 0), (48, 32)[i % 2]) for i, e in enumerate(ends)]
                    for c in range(3):
                        every.append((1 / (1 + math.exp(-logits[0, 3 * a + c, y, k].item())), c, box))
    every.sort(key=lambda one: -one[0])
    score, label, box = (list(part) for part in zip(*every[:100], strict=True))
    torch.testing.assert_close(found["scores"][0], torch.tensor(score, dtype=torch.float64))
    assert found["labels"][0].tolist() == label
    torch.testing.assert_close(found["boxes"][0], torch.tensor(box, dtype=torch.float64))


@pytest.mark.usefixtures("torchvision")
def test_with_suppression_no_two_detections_of_a_class_overlap_by_half():
    model = task("retinanet[num_classes=2]", (32, 48)).double()
    assert model.nms == "torchvision"
    with torch.no_grad():
        found = model(images(1, 3, 32, 48, dtype=torch.float64))
    real = [i for i in range(100) if found["scores"][0, i] > 0]
    assert 0 < len(real) < 100
    boxes, labels = found["boxes"][0].tolist(), found["labels"][0].tolist()
    assert all(overlap(boxes[i], boxes[j]) <= 0.5 for i in real for j in real if i < j and labels[i] == labels[j])


@pytest.mark.usefixtures("no_torchvision")
def test_what_ran_is_told():
    assert task("retinanet", (64, 64), device="meta").nms == "none"
    assert task("mask_rcnn", (64, 64), device="meta").nms == "none"


def test_the_second_stage_gives_the_best_pairs_and_their_own_boxes_and_masks():
    model = task("mask_rcnn[num_classes=3,nms=none]", (64, 96)).double()
    proposals = torch.tensor([[[10.0 + i, 8, 40, 30 + i] for i in range(50)]], dtype=torch.float64)
    logits, deltas = images(50, 4, dtype=torch.float64), images(50, 12, dtype=torch.float64)
    found = model._detect(proposals, logits, deltas, (64, 96))
    pairs = sorted(((logits[k].softmax(0)[c].item(), k, c) for k in range(50) for c in range(3)), reverse=True)[:100]
    for place, (score, k, c) in enumerate(pairs):
        x1, y1, x2, y2 = proposals[0, k].tolist()
        dx, dy, dw, dh = deltas[k, 4 * c : 4 * c + 4].tolist()
        w, h = x2 - x1, y2 - y1
        cx, cy = (x1 + x2) / 2 + 0.1 * dx * w, (y1 + y2) / 2 + 0.1 * dy * h
        w, h = w * math.exp(0.2 * dw), h * math.exp(0.2 * dh)
        box = [max(cx - w / 2, 0), max(cy - h / 2, 0), min(cx + w / 2, 96), min(cy + h / 2, 64)]
        assert found["labels"][0, place] == c
        assert math.isclose(found["scores"][0, place], score, rel_tol=1e-9)
        torch.testing.assert_close(found["boxes"][0, place], torch.tensor(box, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("retinanet[num_classes=0]", "num_classes must be at least 1; got num_classes=0"),
        ("retinanet[backbone=hilo]", "backbone must be a backbone; got hilo, which is a layer"),
        ("mask_rcnn[backbone=litv9]", "got 'litv9'"),
        ("semantic_fpn[backbone=litv2_s[alpha=2.0]]", "alpha must lie between 0 and 1; got alpha=2.0"),
        ("retinanet[nms=soft]", "nms must be auto, torchvision or none; got nms=soft"),
        ("mask_rcnn[roi=pool]", "roi must be torch or torchvision; got roi=pool"),
    ],
)
def test_refusals(text, reason):
    assert reason in declines(text)
    with pytest.raises(ValueError, match=r".") as refused:
        task(text, (64, 96))
    assert reason in str(refused.value)


def test_an_image_that_the_backbone_refuses_is_refused():
    assert declines("retinanet", (16, 64)) == "resolution must be at least 29x29 for four stages; got 16x64"
