"""Focal-Tiny: four stages of focal attention, the windows' surroundings and summaries ever fewer.

Paper   Yang et al.: Focal Self-attention for Local-Global Interactions in Vision Transformers, NeurIPS 2021,
        https://arxiv.org/abs/2107.00641
Agrees  with the parameters, their names and the counts of the classifier in microsoft/Focal-Transformer
        (tests/backbones/test_focal_tiny.py)
Differs images of any size are taken: incomplete patches, windows and merges are filled with zeros. As in the authors'
        code a stage whose map is no larger than a window has no ring around it, so that the parameters depend on
        the resolution; a smaller map is filled up where the authors shrink the window. For the attention itself
        see mechanisms/focal.py.

Shapes  images [B,3,h,w] -> maps [B,H,W,C] at strides 4, 8, 16, 32 with 96, 192, 384, 768 channels -> [B,classes]
        stage   blocks of attention and linear to 4 C, GELU, linear; heads of 32 channels; windows of 7,
                summaries of the 7, 5, 3, 1 nearest windows on each axis
        between a 2x2 convolution of stride 2 to 2 C, LayerNorm
Cost    multiply-accumulates per image: 48 N C for the patches, 8 N C^2 per feed-forward network, the attentions',
        8 N' C^2 per merge to N' tokens, the head's; N and C of the stage
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms import focal
from mechanisms.backbones import parts
from mechanisms.backbones.lit import RATIO, STRIDES, Block, Pyramid, Stage
from mechanisms.backbones.names import rename
from mechanisms.backbones.parts import FFN, PATCH, drop_rates
from mechanisms.grid import pad_to

DIMS = (96, 192, 384, 768)
DEPTHS = (2, 2, 6, 2)
FOCAL_WINDOWS = (7, 5, 3, 1)
WINDOW, EXPAND, LEVELS = 7, 3, 2


def grids(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Token maps of the four stages; an incomplete patch counts."""
    h, w = resolution
    return [(-(-h // (PATCH << i)), -(-w // (PATCH << i))) for i in range(4)]


def layer(stage: int, grid: tuple[int, int], wrap: bool) -> Size:
    """What the attention of a stage is built from."""
    settings = {
        "window_size": WINDOW,
        "expand_size": EXPAND if min(grid) > WINDOW else 0,
        "focal_window": FOCAL_WINDOWS[stage],
        "focal_level": LEVELS,
        "wrap": wrap,
    }
    return Size(dim=DIMS[stage], heads=DIMS[stage] // 32, grid=grid, stride=PATCH << stage, settings=settings)


def macs(size: Size) -> int:
    """MACs of the whole classifier, for an image of size.grid pixels."""
    total = 0
    for stage, (dim, depth, (H, W)) in enumerate(zip(DIMS, DEPTHS, grids(size.grid), strict=True)):
        total += H * W * (2 * dim**2 if stage else 3 * PATCH**2 * dim)  # from half the channels, four tokens each
        attention = focal.macs(layer(stage, (H, W), bool(size.settings["wrap"])))
        total += depth * (attention + 2 * RATIO * H * W * dim**2)
    return total + DIMS[-1] * int(size.settings["num_classes"])


def block(size: Size, drop: float) -> Block:
    """A block of Focal attention, whose summaries' weights have the authors' names in state dicts."""
    attention = focal.Focal(size.dim, size.heads, **size.settings)  # type: ignore[arg-type]  # as in `layer`
    made = Block(size.dim, attention, FFN(size.dim, RATIO * size.dim), drop)
    rename(made, "attn.pool_layers.", "pool_layers.")
    return made


class Merge(nn.Module):
    """Map [B,H,W,C] to [B,H/2,W/2,2C], rounded up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, 2 * dim, kernel_size=2, stride=2)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        return self.norm(self.proj(pad_to(x, 2).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


@mechanism(
    name="focal_tiny",
    title="Focal-Tiny: focal attention in every stage",
    paper="arXiv:2107.00641",
    year=2021,
    repository="microsoft/Focal-Transformer",
    scope="backbone",
    defaults={"num_classes": 1000, "wrap": True, "drop_path_rate": 0.2},
    macs=macs,
    refuses=parts.refuses,
    kernels=("eager", "sdpa"),
    growth="linear",
    pyramid=STRIDES,
    notes={
        "published": "4.9 G, 4,924,284,672 by the authors' formula, which counts 120 of the ring's 132 tokens, and "
        "norms at one per element; all products are 4.95 G",
        "params": "depend on the resolution: a last map larger than 7x7 adds the ring's biases to its blocks",
    },
)
class FocalTiny(Pyramid):
    """Map images [B,3,h,w] to logits [B,classes]; any h and w, also others than it was built for."""

    def __init__(self, resolution: tuple[int, int], *, num_classes: int, wrap: bool, drop_path_rate: float) -> None:
        rates = iter(drop_rates(sum(DEPTHS), drop_path_rate))

        def stages() -> Iterator[Stage]:
            for stage, (dim, depth, grid) in enumerate(zip(DIMS, DEPTHS, grids(resolution), strict=True)):
                blocks = [block(layer(stage, grid, wrap), next(rates)) for _ in range(depth)]
                yield Stage(blocks, Merge(dim) if stage < 3 else None)

        super().__init__(DIMS, stages(), num_classes)
