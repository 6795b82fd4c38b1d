"""LITv1: two stages without attention, two with full attention and a relative position bias of the whole map.

Paper   Pan et al.: Less is More: Pay Less Attention in Vision Transformers, AAAI 2022,
        https://arxiv.org/abs/2105.14217
Agrees  with the parameter names and the counts of ziplab/LIT's classifier (tests/backbones/test_litv1.py)
Differs images of any size from 29x29 on are taken, as in the authors' detection code: on a map that the model was
        not built for, the table of biases is resized bicubically at every call (align_corners=False). On the
        map that it was built for, nothing is resized. `ffn=conv` gives the networks of LITv2, a step of the
        LITv2 paper's ablation.

Shapes  images [B,3,h,w] -> maps [B,H,W,C] at strides 4, 8, 16, 32 with C, 2C, 4C, 8C channels -> [B,classes]
        attention  b n (h w) d over all tokens, bias [n, H W, H W] from a table [(2H-1)(2W-1), n]
        between stages: deformable token merging (mechanisms/backbones/deform.py)
Cost    multiply-accumulates per image: 48 N C for the patches, a network 8 N C^2, attention 4 N C^2 + 2 N^2 C,
        the merges', the head's; N and C of the stage
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel, Size, mechanism
from mechanisms import msa
from mechanisms.attend import attend
from mechanisms.backbones import lit
from mechanisms.backbones.lit import SHAPES, Lit, Shape, conv_ffn_macs, ffn_macs, grids, heads
from mechanisms.backbones.parts import FFN, ConvFFN
from mechanisms.grid import per_grid

KERNELS = ("eager", "sdpa", "flex")
FFNS = {"mlp": (FFN, ffn_macs), "conv": (ConvFFN, conv_ffn_macs)}


@per_grid
def relative_position_index(H: int, W: int, device: torch.device) -> Tensor:
    """Row of the table for each pair of the map's tokens: [H W, H W]."""
    rows, columns = torch.arange(H, device=device), torch.arange(W, device=device)
    down = (rows[:, None] - rows + H - 1) * (2 * W - 1)  # H H
    right = columns[:, None] - columns + W - 1  # W W
    return (down[:, None, :, None] + right[None, :, None, :]).reshape(H * W, H * W)


class BiasedAttention(ReadsKernel, nn.Module):
    """Full attention with a relative position bias; maps [B,H,W,C] to [B,H,W,C]."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        H, W = grid
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * H - 1) * (2 * W - 1), heads))
        nn.init.normal_(self.relative_position_bias_table, std=0.02)
        index = relative_position_index(H, W, self.relative_position_bias_table.device)
        self.register_buffer("relative_position_index", index)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from every token to every token."""
        B, H, W, C = x.shape
        qkv = self.qkv(x).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each b n (h w) d
        y = attend(q, k, v, self.bias(H, W), kernel=self.kernel)
        return self.proj(y.transpose(1, 2).reshape(B, H, W, C))

    def bias(self, H: int, W: int) -> Tensor:
        """Of each pair of tokens on an H x W map: [1, heads, H W, H W]."""
        table: Tensor = self.relative_position_bias_table
        index = self.relative_position_index
        if self.grid != (H, W):
            h, w = (2 * side - 1 for side in self.grid)
            image = table.t().view(1, self.heads, h, w)
            wide = F.interpolate(image, size=(2 * H - 1, 2 * W - 1), mode="bicubic", align_corners=False)
            table, index = wide.flatten(2)[0].t(), relative_position_index(H, W, table.device)
        return table[index].permute(2, 0, 1).contiguous()[None]


def litv1(shape: Shape, resolution: tuple[int, int], **settings: Any) -> Lit:
    """The classifier of any shape; settings as declared below."""
    maps = grids(resolution)

    def attention(stage: int) -> list[nn.Module]:
        dim = shape.dims[stage]
        return [BiasedAttention(dim, heads(dim), grid=maps[stage]) for _ in range(shape.depths[stage])]

    return Lit(
        shape,
        attention=attention,
        ffn=FFNS[settings["ffn"]][0],
        num_classes=settings["num_classes"],
        deform=settings["deform"],
        drop_path_rate=settings["drop_path_rate"],
    )


def litv1_macs(shape: Shape, size: Size) -> int:
    """Multiply-accumulates of the classifier for an image of size.grid pixels."""

    def attention(stage: int, grid: tuple[int, int]) -> list[int]:
        dim = shape.dims[stage]
        layer = Size(dim=dim, heads=heads(dim), grid=grid, stride=4 * 2**stage, settings={})
        return [msa.macs(layer)] * shape.depths[stage]

    return lit.macs(shape, size, ffn=FFNS[str(size.settings["ffn"])][1], attention=attention)


def refuses(resolution: tuple[int, int], num_classes: int, ffn: str, deform: str, drop_path_rate: float) -> str | None:
    """Why the model cannot be built with these values, or None."""
    if ffn not in FFNS:
        return f"ffn must be {' or '.join(FFNS)}; got ffn={ffn}"
    return lit.refuses(resolution, num_classes, drop_path_rate, deform)


def square(resolution: tuple[int, int]) -> tuple[int, int]:
    """The authors' detectors build the tables of biases for a square of the shorter side, and resize them in calls."""
    return (min(resolution),) * 2


def _declare(letter: str, shape: Shape) -> None:
    @mechanism(
        name=f"litv1_{letter}",
        title=f"LITv1-{letter.upper()}: full attention late, deformable merging",
        paper="arXiv:2105.14217",
        year=2022,
        repository="ziplab/LIT",
        scope="backbone",
        defaults={
            "num_classes": 1000,
            "ffn": "mlp",
            "deform": "torch",
            "drop_path_rate": shape.drop_path_rate,
        },
        macs=partial(litv1_macs, shape),
        refuses=refuses,
        kernels=KERNELS,
        growth="quadratic",
        pyramid=lit.STRIDES,
        dense_resolution=square,
        notes={
            "deform": lit.NOTE_DEFORM,
            "params": "the paper prints 27, 48 and 86 M, which are the counts without the head, cut off",
        },
    )
    def build(
        resolution: tuple[int, int],
        *,
        num_classes: int,
        ffn: str,
        deform: str,
        drop_path_rate: float,
    ) -> Lit:
        return litv1(shape, resolution, num_classes=num_classes, ffn=ffn, deform=deform, drop_path_rate=drop_path_rate)


for _letter, _shape in SHAPES.items():
    _declare(_letter, _shape)
