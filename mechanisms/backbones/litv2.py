"""LITv2: convolutional feed-forward networks first, HiLo attention at stride 16, plain attention at stride 32.

Paper   Pan, Cai, Zhuang: Fast Vision Transformers with HiLo Attention, NeurIPS 2022,
        https://arxiv.org/abs/2205.13213
Agrees  with the classifier of ziplab/LITv2: logits, parameter names, counts (tests/backbones/test_litv2.py)
Differs images of any size from 29x29 on are taken: incomplete patches and windows are filled with zeros, as in the
        authors' detection code; an odd map loses its last row or column in a merge, as there. The other
        attentions of the paper's comparison, and pooled queries, are settings; the authors have
        published no code for those.

Shapes  images [B,3,h,w] -> maps [B,H,W,C] at strides 4, 8, 16, 32 with C, 2C, 4C, 8C channels -> [B,classes]
        stages 1 and 2: blocks of a ConvFFN alone; 3: HiLo and ConvFFN; 4: HiLo of window 1, ConvFFN
        between stages: deformable token merging (mechanisms/backbones/deform.py)
Cost    multiply-accumulates per image: 48 N C for the patches, a ConvFFN N (8 C^2 + 36 C), HiLo's, the merges', the
        head's; N and C of the stage
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Size, mechanism
from mechanisms import hilo
from mechanisms.backbones import lit
from mechanisms.backbones.lit import SHAPES, Lit, Shape, conv_ffn_macs, grids, heads
from mechanisms.backbones.parts import ConvFFN
from mechanisms.backbones.swap import HILO, Stage3Attention


def stage3(shape: Shape, settings: Mapping[str, Any], resolution: tuple[int, int]) -> Stage3Attention:
    """The attention of stage 3."""
    dim = shape.dims[2]
    return Stage3Attention(settings, dim=dim, heads=heads(dim), grid=grids(resolution)[2])


def plain(shape: Shape) -> Size:
    """What the fourth stage's attention is built from: HiLo of window 1, which is plain attention."""
    dim = shape.dims[3]
    return Size(dim=dim, heads=heads(dim), grid=(1, 1), stride=32, settings={"window_size": 1, "alpha": 0.9})


def litv2(shape: Shape, resolution: tuple[int, int], **settings: Any) -> Lit:
    """The classifier of any shape; settings as declared below."""
    inside, last = stage3(shape, settings, resolution), plain(shape)
    return Lit(
        shape,
        attention=lambda stage: (
            inside.build(shape.depths[2])
            if stage == 2
            else [hilo.HiLo(last.dim, last.heads, window_size=1, alpha=0.9) for _ in range(shape.depths[3])]
        ),
        ffn=ConvFFN,
        num_classes=settings["num_classes"],
        deform=settings["deform"],
        drop_path_rate=settings["drop_path_rate"],
    )


def litv2_macs(shape: Shape, size: Size) -> int:
    """Multiply-accumulates of the classifier for an image of size.grid pixels."""

    def attention(stage: int, grid: tuple[int, int]) -> list[int]:
        if stage == 2:
            return stage3(shape, size.settings, size.grid).macs(shape.depths[2])
        return [hilo.macs(replace(plain(shape), grid=grid))] * shape.depths[3]

    return lit.macs(shape, size, ffn=conv_ffn_macs, attention=attention)


def _declare(letter: str, shape: Shape) -> None:
    def refuses(
        resolution: tuple[int, int],
        num_classes: int,
        attention: str,
        window_size: int,
        alpha: float,
        pooled: bool,
        deform: str,
        drop_path_rate: float,
    ) -> str | None:
        reason = lit.refuses(resolution, num_classes, drop_path_rate, deform)
        settings = {"attention": attention, "window_size": window_size, "alpha": alpha, "pooled": pooled}
        try:
            return reason or stage3(shape, settings, resolution).refusal()
        except AttnbenchError as error:  # an unknown attention or setting
            return str(error)

    def kernels_at(size: Size) -> tuple[str, ...]:
        return stage3(shape, size.settings, size.grid).kernels

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
        macs=partial(litv2_macs, shape),
        refuses=refuses,
        kernels=("eager", "sdpa", "flex"),
        kernels_at=kernels_at,
        growth="quadratic",
        pyramid=lit.STRIDES,
        notes={"deform": lit.NOTE_DEFORM},
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
        return litv2(
            shape,
            resolution,
            num_classes=num_classes,
            attention=attention,
            window_size=window_size,
            alpha=alpha,
            pooled=pooled,
            deform=deform,
            drop_path_rate=drop_path_rate,
        )


for _letter, _shape in SHAPES.items():
    _declare(_letter, _shape)
