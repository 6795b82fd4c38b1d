"""Mask R-CNN: proposals from a pyramid, each read out, classified, moved; the best are given a mask.

Paper   He et al.: Mask R-CNN, ICCV 2017, https://arxiv.org/abs/1703.06870
Agrees  with the parameters and counts of the LIT papers' detectors (tests/dense/test_dense_counts.py)
Differs counts are fixed: 1000 proposals, 1000 candidates, 100 detections with a mask each, without a threshold on
        the score; what was suppressed fills up, a detection with score 0. `nms=none` leaves suppression out.
        A bin of a region is the mean of 2x2 samples, where mmdetection takes more in large regions; with
        `roi=torchvision` regions have the precision of the maps. In training every head's output is given and
        the 100 best proposals are given masks. A backbone whose maps begin at stride 8 gets a level at stride 4
        by a transposed convolution.

Shapes  images [B,3,h,w] -> maps at strides 4 to 32, of which all but the first are normed -> levels [B,256,H,W]
        at strides 4 to 64, the last by taking every other token
        proposals: 3x3 convolution, ReLU, [B,3,H,W] and [B,12,H,W]; K = 1000 boxes
        boxes: (b k) 256 7 7 -> 1024 -> 1024 -> classes + 1 and 4 classes; L = 100 of (b k classes)
        masks: (b l) 256 14 14 -> 4 x (3x3 convolution, ReLU) -> 28x28 -> classes; boxes [B,L,4], scores [B,L],
        labels [B,L], masks [B,L,28,28]
Cost    multiply-accumulates per image: the backbone's, the pyramid's, 9 256^2 + 15 256 per place of a level,
        K (12544 1024 + 1024^2 + 1024 (5 classes + 1)) and L 196 (40 256^2 + 4 256 classes) of the heads
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import mechanism
from mechanisms.dense import pyramid
from mechanisms.dense.boxes import (
    NOTE_NMS,
    RATIOS,
    ROI,
    SUPPRESSION,
    anchors,
    decode,
    keep,
    pick,
    refusal,
    resolved,
    roi_align,
)
from mechanisms.dense.pyramid import FPN, KERNELS, NOTES, WIDTH, Backbone, kernels_at

STRIDES = (4, 8, 16, 32, 64)
SCALES = (8.0,)  # of anchors, in strides
PROPOSALS, CANDIDATES, DETECTIONS = 1000, 1000, 100
BOX_SIDE, MASK_SIDE, HIDDEN = 7, 14, 1024
SPREAD = (0.1, 0.2)  # of the second regression


def refuses(resolution: tuple[int, int], backbone: str, num_classes: int, nms: str, roi: str) -> str | None:
    """Why the model cannot be built with these values, or None: the backbone's reasons are among them."""
    reason = pyramid.refuses(resolution, backbone, num_classes) or refusal("nms", nms, SUPPRESSION)
    return reason or refusal("roi", roi, ROI)


class Proposer(nn.Module):
    """Choose 1000 boxes that may hold an object."""

    def __init__(self, nms: str) -> None:
        super().__init__()
        self.nms = nms
        self.rpn_conv = nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1)
        self.rpn_cls = nn.Conv2d(WIDTH, len(RATIOS), kernel_size=1)
        self.rpn_reg = nn.Conv2d(WIDTH, 4 * len(RATIOS), kernel_size=1)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness and regression of every level."""
        seen = [F.relu(self.rpn_conv(y)) for y in levels]
        return [self.rpn_cls(y) for y in seen], [self.rpn_reg(y) for y in seen]

    def choose(self, logits: list[Tensor], moves: list[Tensor], image: tuple[int, int]) -> Tensor:
        """Boxes [B,1000,4], the best first; no gradient goes through the choice."""
        boxes, scores, groups = [], [], []
        for i, (logit, move, stride) in enumerate(zip(logits, moves, STRIDES, strict=True)):
            flat = logit.detach().permute(0, 2, 3, 1).flatten(1)  # b (h w anchors)
            best, places = flat.topk(min(CANDIDATES, flat.shape[1]))
            dtype = torch.promote_types(flat.dtype, torch.float32)
            at = anchors(logit.shape[2], logit.shape[3], stride, SCALES, logit.device, dtype)
            deltas = pick(move.detach().permute(0, 2, 3, 1).reshape(len(flat), -1, 4), places)
            boxes.append(decode(at[places], deltas, image))
            scores.append(best.to(dtype).sigmoid())
            groups.append(torch.full_like(places, i))
        every = torch.cat(boxes, dim=1)
        places, _ = keep(every, torch.cat(scores, 1), torch.cat(groups, 1), overlap=0.7, count=PROPOSALS, nms=self.nms)
        return pick(every, places)


class BoxHead(nn.Module):
    """Classify and move regions [N,256,7,7]."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.shared_fcs = nn.Sequential(
            nn.Linear(WIDTH * BOX_SIDE**2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
        )
        self.fc_cls = nn.Linear(HIDDEN, num_classes + 1)
        self.fc_reg = nn.Linear(HIDDEN, 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,classes+1], the last for nothing, and regression [N,4 classes]."""
        y = self.shared_fcs(x.flatten(1))
        return self.fc_cls(y), self.fc_reg(y)


class MaskHead(nn.Sequential):
    """Map regions [N,256,14,14] to logits [N,classes,28,28]."""

    def __init__(self, num_classes: int) -> None:
        convolutions = (nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1) for _ in range(4))
        super().__init__(
            *(part for conv in convolutions for part in (conv, nn.ReLU())),
            nn.ConvTranspose2d(WIDTH, WIDTH, kernel_size=2, stride=2),
            nn.ReLU(),
            nn.Conv2d(WIDTH, num_classes, kernel_size=1),
        )


@mechanism(
    name="mask_rcnn",
    title="two-stage detection with masks",
    paper="arXiv:1703.06870",
    year=2017,
    scope="task",
    defaults={"backbone": "litv2_s", "num_classes": 80, "nms": "auto", "roi": "torch"},
    refuses=refuses,
    kernels=KERNELS,
    kernels_at=kernels_at,
    notes={**NOTES, "nms": NOTE_NMS},
)
class MaskRCNN(nn.Module):
    """Map images [B,3,h,w] to detections with masks; in training to every head's output."""

    counted_as = "mmdetection"

    def __init__(self, resolution: tuple[int, int], *, backbone: str, num_classes: int, nms: str, roi: str) -> None:
        super().__init__()
        self.num_classes, self.nms, self.roi = num_classes, resolved(nms), roi
        self.backbone = Backbone(backbone, resolution, first=1)
        self.neck = FPN(self.backbone.dims, finest=len(self.backbone.dims) == 3)
        self.rpn_head = Proposer(self.nms)
        self.bbox_head = BoxHead(num_classes)
        self.mask_head = MaskHead(num_classes)

    def forward(self, x: Tensor) -> dict[str, Tensor] | dict[str, Tensor | list[Tensor]]:
        """Propose, detect, draw."""
        image = (x.shape[2], x.shape[3])
        levels = self.neck(self.backbone(x))
        objectness, moves = self.rpn_head([*levels, levels[-1][:, :, ::2, ::2]])
        proposals = self.rpn_head.choose(objectness, moves, image)
        logits, deltas = self.bbox_head(roi_align(levels, proposals, BOX_SIDE, operator=self.roi))
        if self.training:
            masks = self.mask_head(roi_align(levels, proposals[:, :DETECTIONS], MASK_SIDE, operator=self.roi))
            return {"objectness": objectness, "moves": moves, "logits": logits, "deltas": deltas, "masks": masks}
        found = self._detect(proposals, logits, deltas, image)
        masks = self.mask_head(roi_align(levels, found["boxes"], MASK_SIDE, operator=self.roi))
        label = found["labels"].view(-1, 1, 1, 1).expand(-1, 1, *masks.shape[2:])
        return {**found, "masks": masks.gather(1, label).sigmoid().view(len(x), DETECTIONS, *masks.shape[2:])}

    def _detect(self, proposals: Tensor, logits: Tensor, deltas: Tensor, image: tuple[int, int]) -> dict[str, Tensor]:
        """The best (proposal, class) pairs."""
        B, K, _ = proposals.shape
        scores = logits.to(proposals.dtype).softmax(dim=-1)[:, :-1].reshape(B, -1)  # b (k classes)
        best, places = scores.topk(min(CANDIDATES, scores.shape[1]))
        labels = places % self.num_classes
        each = pick(deltas.view(B, K * self.num_classes, 4), places)
        boxes = decode(pick(proposals, places // self.num_classes), each, image, SPREAD)
        chosen, survived = keep(boxes, best, labels, overlap=0.5, count=DETECTIONS, nms=self.nms)
        return {
            "boxes": pick(boxes, chosen),
            "scores": best.gather(1, chosen) * survived,
            "labels": labels.gather(1, chosen),
        }
