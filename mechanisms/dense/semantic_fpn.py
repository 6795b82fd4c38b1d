"""Semantic FPN: every level of a feature pyramid is enlarged to stride 4; their sum is classified.

Paper   Kirillov et al.: Panoptic Feature Pyramid Networks, CVPR 2019, https://arxiv.org/abs/1901.02446
Agrees  with the parameters and counts of the LIT papers' segmenters (tests/dense/test_dense_counts.py)
Differs dropout before the classifier, which acts in training alone, is left out. A backbone whose maps begin at
        stride 8 gets a level at stride 4 by a transposed convolution.

Shapes  images [B,3,h,w] -> maps at strides 4 to 32, normed -> levels [B,256,H,W]
        a level at stride 4 2^i: max(i, 1) times 3x3 convolution to 128, norm, ReLU and, for i > 0, twofold bilinear
        sum [B,128,h/4,w/4] -> logits [B,classes,h/4,w/4] -> [B,classes,h,w]
Cost    multiply-accumulates per image: the backbone's, 256 N_i (C_i + 9 256) per level, 9 128 M Cin per
        convolution on M places, 128 classes h w / 16
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import mechanism
from mechanisms.dense.pyramid import FPN, KERNELS, NOTES, WIDTH, Backbone, kernels_at, refuses

INNER = 128


def enlarger(step: int) -> nn.Sequential:
    """From a level at stride 4 2^step to stride 4."""
    layers: list[nn.Module] = []
    for i in range(max(step, 1)):
        layers += [
            nn.Conv2d(INNER if i else WIDTH, INNER, kernel_size=3, padding=1, bias=False),
            nn.SyncBatchNorm(INNER),
            nn.ReLU(),
        ]
        if step:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


@mechanism(
    name="semantic_fpn",
    title="semantic segmentation by a feature pyramid",
    paper="arXiv:1901.02446",
    year=2019,
    scope="task",
    defaults={"backbone": "litv2_s", "num_classes": 150},
    refuses=refuses,
    kernels=KERNELS,
    kernels_at=kernels_at,
    notes=NOTES,
)
class SemanticFPN(nn.Module):
    """Map images [B,3,h,w] to logits [B,classes,h,w]."""

    counted_as = "mmdetection"

    def __init__(self, resolution: tuple[int, int], *, backbone: str, num_classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, resolution, first=0)
        self.neck = FPN(self.backbone.dims, finest=len(self.backbone.dims) == 3)
        self.scale_heads = nn.ModuleList([enlarger(step) for step in range(4)])
        self.conv_seg = nn.Conv2d(INNER, num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel."""
        levels = self.neck(self.backbone(x))
        total: Tensor = self.scale_heads[0](levels[0])
        for head, level in zip(self.scale_heads[1:], levels[1:], strict=True):
            y = head(level)
            if y.shape[2:] != total.shape[2:]:  # a map whose odd side was halved
                y = F.interpolate(y, size=total.shape[2:], mode="bilinear", align_corners=False)
            total = total + y
        return F.interpolate(self.conv_seg(total), size=x.shape[2:], mode="bilinear", align_corners=False)
