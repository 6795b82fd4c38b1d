"""Anchors, regression, choice and reading inside boxes against loops in float64."""

import math
import sys
import types

import pytest
import torch

from mechanisms.dense import boxes
from mechanisms.dense.boxes import anchors, decode, keep, roi_align


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_boxes(B, K, h, w, seed=0):
    g = torch.Generator().manual_seed(seed)
    ends = torch.rand(B, K, 2, 2, generator=g, dtype=torch.float64) * torch.tensor([w, h], dtype=torch.float64)
    return torch.cat((ends.amin(2), ends.amax(2)), dim=-1)


def overlap(a, b):
    wide = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return wide / (area - wide)


def greedy(boxes, scores, groups, threshold):
    """What torchvision's batched_nms gives: places that survive, the best first."""
    kept = []
    for i in scores.argsort(descending=True).tolist():
        rivals = (j for j in kept if groups[j] == groups[i])
        if all(overlap(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in rivals):
            kept.append(i)
    return torch.tensor(kept)


def one_level(y, chosen, side, scale, *, sampling_ratio, aligned):
    """What torchvision's roi_align gives."""
    assert (sampling_ratio, aligned) == (2, True)
    return roi_align([y], torch.stack(chosen) * scale * 4, side)


@pytest.fixture
def torchvision(monkeypatch):
    """A package that has what is asked of torchvision."""
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    package.ops, ops.batched_nms, ops.roi_align = ops, greedy, one_level
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)


def bilinear(image, y, x):
    """One value of [C,H,W] between its places, the border going on outside."""
    _, H, W = image.shape
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    i, j = min(int(y), max(H - 2, 0)), min(int(x), max(W - 2, 0))
    below, right = min(i + 1, H - 1), min(j + 1, W - 1)
    dy, dx = y - i, x - j
    upper = image[:, i, j] * (1 - dx) + image[:, i, right] * dx
    lower = image[:, below, j] * (1 - dx) + image[:, below, right] * dx
    return upper * (1 - dy) + lower * dy


@pytest.mark.parametrize("side", [1, 3])
def test_regions_are_read_as_a_loop_reads_them(side):
    h, w, B, K = 60, 92, 2, 12
    levels = [random(B, 5, math.ceil(h / s), math.ceil(w / s), seed=s) for s in (4, 8, 16, 32)]
    chosen = some_boxes(B, K, h, w)
    chosen[0, 0] = torch.tensor([0.0, 0.0, 92.0, 60.0])  # the whole image
    chosen[1, 0] = torch.tensor([40.0, 30.0, 40.0, 30.0])  # nothing
    read = roi_align(levels, chosen, side, finest=8).view(B, K, 5, side, side)
    used = set()
    for b in range(B):
        for k in range(K):
            x1, y1, x2, y2 = chosen[b, k].tolist()
            size = math.sqrt((x2 - x1) * (y2 - y1))
            level = sum(size + 8e-6 >= 8 * 2**i for i in (1, 2, 3))
            used.add(level)
            stride = 4 * 2**level
            for r in range(side):
                for c in range(side):
                    parts = [
                        bilinear(
                            levels[level][b],
                            (y1 + (r + fy) * (y2 - y1) / side) / stride - 0.5,
                            (x1 + (c + fx) * (x2 - x1) / side) / stride - 0.5,
                        )
                        for fy in (0.25, 0.75)
                        for fx in (0.25, 0.75)
                    ]
                    torch.testing.assert_close(read[b, k, :, r, c], sum(parts) / 4)
    assert used == {0, 1, 2, 3}


@pytest.mark.usefixtures("torchvision")
def test_torchvisions_reading_takes_each_box_from_its_level():
    levels = [random(2, 5, 15 // 2**i + 1, 23 // 2**i + 1, seed=i) for i in range(3)]
    chosen = some_boxes(2, 12, 60, 92)
    ours = roi_align(levels, chosen, 3, finest=8)
    torch.testing.assert_close(roi_align(levels, chosen, 3, finest=8, operator="torchvision"), ours)


def test_a_constant_pyramid_reads_constant():
    levels = [torch.full((1, 2, 8 // 2**i, 12 // 2**i), 3.0) for i in range(3)]
    assert torch.allclose(roi_align(levels, some_boxes(1, 6, 32, 48).float(), 7), torch.tensor(3.0))


def test_anchors_are_a_loops():
    made = anchors(2, 3, 16, (4.0, 5.0), torch.device("cpu"), torch.float64)
    wanted = []
    for y in range(2):
        for x in range(3):
            for ratio in (0.5, 1, 2):
                for scale in (4, 5):
                    half_w, half_h = 8 * scale / math.sqrt(ratio), 8 * scale * math.sqrt(ratio)
                    wanted.append([16 * x - half_w, 16 * y - half_h, 16 * x + half_w, 16 * y + half_h])
    torch.testing.assert_close(made, torch.tensor(wanted, dtype=torch.float64))


def test_regression_moves_by_sides_and_stretches_by_powers():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    moved = decode(box, torch.tensor([[1.0, -0.5, math.log(2), 0.0]]), (100, 200), (0.5, 1.0))
    assert torch.allclose(moved, torch.tensor([[10.0, 10.0, 50.0, 50.0]]))
    inside = decode(box, torch.tensor([[9.0, 9.0, 50.0, 50.0]]), (100, 200))
    assert torch.equal(inside, torch.tensor([[0.0, 0.0, 200.0, 100.0]]))


@pytest.mark.usefixtures("torchvision")
def test_suppression_keeps_the_survivors_first_and_the_count():
    found, scores, groups = some_boxes(2, 30, 20, 20), random(2, 30).sigmoid(), torch.arange(60).view(2, 30) % 2
    places, survived = keep(found, scores, groups, overlap=0.1, count=25, nms="torchvision")
    for b in range(2):
        kept = greedy(found[b], scores[b], groups[b], 0.1)
        assert len(kept) < 25
        rest = [i for i in scores[b].argsort(descending=True).tolist() if i not in kept.tolist()]
        assert places[b].tolist() == (kept.tolist() + rest)[:25]
        assert survived[b].tolist() == [True] * len(kept) + [False] * (25 - len(kept))


def test_without_suppression_the_best_are_chosen_and_a_short_list_goes_on():
    scores = torch.tensor([[0.2, 0.9, 0.5]])
    places, survived = keep(torch.zeros(1, 3, 4), scores, torch.zeros(1, 3), overlap=0.5, count=5, nms="none")
    assert places.tolist() == [[1, 2, 0, 1, 2]]
    assert survived.tolist() == [[True, True, True, False, False]]


@pytest.mark.usefixtures("torchvision")
def test_auto_stands_for_torchvision_where_it_works():
    assert boxes.resolved("auto") == "torchvision"
    assert boxes.refusal("nms", "torchvision", boxes.SUPPRESSION) is None


@pytest.mark.usefixtures("no_torchvision")
def test_auto_stands_for_none_where_it_does_not_and_asking_is_refused():
    assert boxes.resolved("auto") == "none"
    assert "nms=torchvision needs torchvision; got" in boxes.refusal("nms", "torchvision", boxes.SUPPRESSION)
    assert boxes.refusal("roi", "grid", boxes.ROI) == "roi must be torch or torchvision; got roi=grid"
