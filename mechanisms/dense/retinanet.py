"""RetinaNet: nine anchors at every place of a five-level pyramid, classified and moved by two small towers.

Paper   Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002
Agrees  with the parameters and counts of the LIT papers' detectors (tests/dense/test_dense_counts.py)
Differs the numbers of candidates and detections are fixed: 1000 candidates per level without a threshold on the
        score, 100 detections; one that was suppressed fills up with score 0. `nms=none` ends before suppression.
        In training the towers' maps are given and nothing is chosen. As in mmdetection the sixth level is made of
        the backbone's last map, and no ReLU stands before the seventh.

Shapes  images [B,3,h,w] -> maps at strides 8, 16, 32, normed -> levels [B,256,H,W] at strides 8 to 128
        towers: 4 x (3x3 convolution, ReLU), then [B,9 classes,H,W] and [B,9 4,H,W], the same for all levels
        detections: boxes [B,100,4], scores [B,100], labels [B,100]
Cost    multiply-accumulates per image: the backbone's, the pyramid's, and per place of a level
        9 256 (8 256 + 9 classes + 36)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attnbench.registry.declaration import mechanism
from mechanisms.dense import pyramid
from mechanisms.dense.boxes import NOTE_NMS, RATIOS, SUPPRESSION, anchors, decode, keep, pick, refusal, resolved
from mechanisms.dense.pyramid import FPN, KERNELS, NOTES, WIDTH, Backbone, kernels_at

SCALES = tuple(4 * 2 ** (i / 3) for i in range(3))  # of anchors, in strides
ANCHORS = len(RATIOS) * len(SCALES)
STRIDES = (8, 16, 32, 64, 128)
CANDIDATES, DETECTIONS, OVERLAP = 1000, 100, 0.5
PRIOR = 0.01  # a place's first guess that something is there


def refuses(resolution: tuple[int, int], backbone: str, num_classes: int, nms: str) -> str | None:
    """Why the model cannot be built with these values, or None: the backbone's reasons are among them."""
    return pyramid.refuses(resolution, backbone, num_classes) or refusal("nms", nms, SUPPRESSION)


def tower() -> nn.Sequential:
    """Four convolutions with ReLU."""
    convolutions = (nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1) for _ in range(4))
    return nn.Sequential(*(part for conv in convolutions for part in (conv, nn.ReLU())))


class Neck(nn.Module):
    """Five levels from three maps."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.fpn = FPN(dims)
        self.sixth = nn.Conv2d(dims[-1], WIDTH, kernel_size=3, stride=2, padding=1)
        self.seventh = nn.Conv2d(WIDTH, WIDTH, kernel_size=3, stride=2, padding=1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Strides 8, 16, 32, 64, 128."""
        sixth = self.sixth(maps[-1])
        return [*self.fpn(maps), sixth, self.seventh(sixth)]


@mechanism(
    name="retinanet",
    title="one-stage detection on a pyramid",
    paper="arXiv:1708.02002",
    year=2017,
    scope="task",
    defaults={"backbone": "litv2_s", "num_classes": 80, "nms": "auto"},
    refuses=refuses,
    kernels=KERNELS,
    kernels_at=kernels_at,
    notes={**NOTES, "nms": NOTE_NMS},
)
class RetinaNet(nn.Module):
    """Map images [B,3,h,w] to detections; in training to logits and regressions of every level."""

    counted_as = "mmdetection"

    def __init__(self, resolution: tuple[int, int], *, backbone: str, num_classes: int, nms: str) -> None:
        super().__init__()
        self.num_classes, self.nms = num_classes, resolved(nms)
        self.backbone = Backbone(backbone, resolution, first=1)
        self.neck = Neck(self.backbone.dims[-3:])
        self.cls_convs, self.reg_convs = tower(), tower()
        self.retina_cls = nn.Conv2d(WIDTH, ANCHORS * num_classes, kernel_size=3, padding=1)
        self.retina_reg = nn.Conv2d(WIDTH, ANCHORS * 4, kernel_size=3, padding=1)
        assert self.retina_cls.bias is not None
        nn.init.constant_(self.retina_cls.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x: Tensor) -> dict[str, Tensor] | dict[str, list[Tensor]]:
        """Detect."""
        levels = self.neck(self.backbone(x)[-3:])
        logits = [self.retina_cls(self.cls_convs(y)) for y in levels]
        moves = [self.retina_reg(self.reg_convs(y)) for y in levels]
        if self.training:
            return {"logits": logits, "deltas": moves}
        return self._detect(logits, moves, (x.shape[2], x.shape[3]))

    def _detect(self, logits: list[Tensor], moves: list[Tensor], image: tuple[int, int]) -> dict[str, Tensor]:
        found = [self._candidates(*level, image) for level in zip(logits, moves, STRIDES, strict=True)]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        places, survived = keep(boxes, scores, labels, overlap=OVERLAP, count=DETECTIONS, nms=self.nms)
        return {
            "boxes": pick(boxes, places),
            "scores": scores.gather(1, places) * survived,
            "labels": labels.gather(1, places),
        }

    def _candidates(
        self, logits: Tensor, moves: Tensor, stride: int, image: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The level's best (anchor, class) pairs: boxes [B,K,4], scores and labels [B,K]."""
        _, _, H, W = logits.shape
        flat = logits.permute(0, 2, 3, 1).flatten(1)  # b (h w anchors classes)
        best, places = flat.topk(min(CANDIDATES, flat.shape[1]))
        anchor = places // self.num_classes
        dtype = torch.promote_types(logits.dtype, torch.float32)
        deltas = pick(moves.permute(0, 2, 3, 1).reshape(len(flat), -1, 4), anchor)
        boxes = decode(anchors(H, W, stride, SCALES, logits.device, dtype)[anchor], deltas, image)
        return boxes, best.to(dtype).sigmoid(), places % self.num_classes
