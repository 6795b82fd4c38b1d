"""LITv2: convolutional feed-forward networks first, HiLo attention at stride 16, plain attention at stride 32.

Paper   Pan, Cai, Zhuang: Fast Vision Transformers with HiLo Attention, NeurIPS 2022,
        https://arxiv.org/abs/2205.13213
Agrees  with the classifier of ziplab/LITv2: logits, parameter names, counts (tests/backbones/test_litv2.py)
Differs images of any size from 29x29 on are taken: broken patches and windows are filled with zeros, as in the
        authors' detection code; an odd map loses its last row or column in a merge, as there. The other
        attentions of the paper's comparison, and pooled queries, stand behind settings; the authors have
        published no code for those.

Shapes  images [B,3,h,w] -> maps [B,H,W,C] at strides 4, 8, 16, 32 with C, 2C, 4C, 8C channels -> [B,classes]
        stages 1 and 2: blocks of a ConvFFN alone; 3: HiLo and ConvFFN; 4: HiLo of window 1, ConvFFN
        between stages: deformable token merging (mechanisms/backbones/deform.py)
Cost    multiply-accumulates per image: 48 N C for the patches, a ConvFFN N (8 C^2 + 36 C), HiLo's, the merges', the
        head's; N and C of the stage
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnbench.declaration import AttnbenchError, Size, mechanism
from mechanisms import hilo
from mechanisms.backbones import lit
from mechanisms.backbones.lit import RATIO, SHAPES, Lit, Shape, grids, heads
from mechanisms.backbones.parts import ConvFFN
from mechanisms.backbones.swap import HILO, Third


def third(shape: Shape, settings: Mapping[str, Any], resolution: tuple[int, int]) -> Third:
    """The attention of stage 3."""
    dim = shape.dims[2]
    return Third(settings, dim=dim, heads=heads(dim), grid=grids(resolution)[2])


def ffn_macs(dim: int) -> int:
    """Of a ConvFFN, per token."""
    return 2 * RATIO * dim**2 + 9 * RATIO * dim


def _declare(letter: str, shape: Shape) -> None:
    last = shape.dims[3]
    plain: dict[str, Any] = {"window_size": 1, "alpha": 0.9}  # window 1: plain attention, whatever alpha says

    def declines(size: Size) -> str | None:
        reason = lit.declines(size)
        try:
            return reason or third(shape, size.settings, size.grid).declines()
        except AttnbenchError as error:  # an attention that nobody has registered
            return str(error)

    def macs(size: Size) -> int:
        def attention(stage: int, grid: tuple[int, int]) -> list[int]:
            if stage == 2:
                return third(shape, size.settings, size.grid).macs(shape.depths[2])
            whole = Size(dim=last, heads=heads(last), grid=grid, stride=32, settings=plain)
            return [hilo.macs(whole)] * shape.depths[3]

        return lit.macs(shape, size, ffn=ffn_macs, attention=attention)

    @mechanism(
        name=f"litv2_{letter}",
        title=f"LITv2-{letter.upper()}: HiLo attention, deformable merging, ConvFFN",
        paper="arXiv:2205.13213",
        year=2022,
        repository="ziplab/LITv2",
        scope="backbone",
        defaults={
            "num_classes": 1000,
            "attention": "hilo",
            **HILO,
            "deform": "torch",
            "drop_path_rate": shape.drop_path_rate,
        },
        macs=macs,
        declines=declines,
        kernels=("eager", "sdpa", "flex"),
        growth="quadratic",
        notes={"deform": "torchvision's operator is one that no counter knows: with it the count is a lower bound"},
    )
    def build(
        resolution: tuple[int, int],
        *,
        num_classes: int,
        attention: str,
        window_size: int,
        alpha: float,
        pooled: bool,
        deform: str,
        drop_path_rate: float,
    ) -> Lit:
        settings = {"attention": attention, "window_size": window_size, "alpha": alpha, "pooled": pooled}
        inside = third(shape, settings, resolution)
        return Lit(
            shape,
            attention=lambda stage: (
                inside.build(shape.depths[2])
                if stage == 2
                else [hilo.HiLo(last, heads(last), **plain) for _ in range(shape.depths[3])]
            ),
            ffn=ConvFFN,
            num_classes=num_classes,
            deform=deform,
            drop_path_rate=drop_path_rate,
            kernels=inside.kernels,
        )


for _letter, _shape in SHAPES.items():
    _declare(_letter, _shape)
