"""Classifiers in four stages at strides 4, 8, 16 and 32; and LITv1 and LITv2, whose first two have no attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from attnbench.registry.declaration import Size
from mechanisms.backbones import parts
from mechanisms.backbones.deform import DeformableMerge, merge_macs
from mechanisms.backbones.deform import refuses as refuses_operator
from mechanisms.backbones.parts import PATCH, DropPath, PatchEmbed, drop_rates, init_linear

STRIDES = (4, 8, 16, 32)  # of the maps that dense tasks read
SMALLEST = 7 * PATCH + 1  # pixels that make eight patches, which three merges halve to one
RATIO = 4  # hidden channels of a feed-forward network per channel
NOTE_DEFORM = "no counter supports torchvision's operator: with deform=torchvision the count is a lower bound"


@dataclass(frozen=True)
class Shape:
    """One size of model. `depths` are blocks per stage; heads have 32 channels."""

    dim: int
    depths: tuple[int, int, int, int]
    drop_path_rate: float

    @property
    def dims(self) -> list[int]:
        """Channels of each stage."""
        return [self.dim * 2**i for i in range(4)]


SHAPES = {
    "s": Shape(96, (2, 2, 6, 2), 0.2),
    "m": Shape(96, (2, 2, 18, 2), 0.3),
    "b": Shape(128, (2, 2, 18, 2), 0.5),
}


def heads(dim: int) -> int:
    """Attention heads for `dim` channels."""
    return dim // 32


def grids(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Token maps of the four stages for an image of (height, width) pixels."""
    H, W = (-(-side // PATCH) for side in resolution)
    return [(H >> i, W >> i) for i in range(4)]


def refuses(resolution: tuple[int, int], num_classes: int, drop_path_rate: float, deform: str) -> str | None:
    """Why no model of this kind can be built, or None: the image is too small, or a setting is out of range."""
    h, w = resolution
    if min(h, w) < SMALLEST:
        return f"resolution must be at least {SMALLEST}x{SMALLEST} for four stages; got {h}x{w}"
    return parts.refuses(num_classes, drop_path_rate) or refuses_operator(deform)


def ffn_macs(dim: int) -> int:
    """MACs of a feed-forward network, per token."""
    return 2 * RATIO * dim**2


def conv_ffn_macs(dim: int) -> int:
    """MACs of a ConvFFN, per token."""
    return ffn_macs(dim) + 9 * RATIO * dim


def macs(
    shape: Shape, size: Size, *, ffn: Callable[[int], int], attention: Callable[[int, tuple[int, int]], Sequence[int]]
) -> int:
    """Multiply-accumulates of a whole classifier.

    Args:
        shape: the model's size.
        size: the image's, with settings.
        ffn: of a feed-forward network per token, from the stage's channels.
        attention: of the blocks of stage 2 or 3 (counted from 0) on a token map.
    """
    maps = grids(size.grid)
    total = maps[0][0] * maps[0][1] * 3 * PATCH**2 * shape.dim
    for stage, ((H, W), dim, depth) in enumerate(zip(maps, shape.dims, shape.depths, strict=True)):
        total += depth * H * W * ffn(dim)
        total += sum(attention(stage, (H, W))) if stage > 1 else 0
        total += merge_macs(dim, H, W) if stage < 3 else 0
    return total + shape.dims[-1] * int(size.settings["num_classes"])


class Block(nn.Module):
    """Pre-norm residuals: attention, where there is one, then the feed-forward network; on [B,H,W,C]."""

    def __init__(self, dim: int, attention: nn.Module | None, ffn: nn.Module, drop: float) -> None:
        super().__init__()
        if attention is not None:
            self.norm1 = nn.LayerNorm(dim)
            self.attn = attention
        self.has_attention = attention is not None
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = ffn
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        if self.has_attention:
            x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """Blocks, then the merge that leads to the next stage."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample: nn.Module | None = downsample

    def forward(self, x: Tensor) -> Tensor:
        """The blocks alone; the map before the merge is what dense tasks read."""
        for block in self.blocks:
            x = block(x)
        return x


class Pyramid(nn.Module):
    """Map images [B,3,h,w] to logits [B,classes] through four stages, or to the stages' maps.

    Args:
        dims: channels of each stage.
        stages: made one after the other once the patch embedding is there, so that a seed gives the same weights.
        num_classes: logits.
    """

    def __init__(self, dims: Sequence[int], stages: Iterable[Stage], num_classes: int) -> None:
        super().__init__()
        self.dims = list(dims)
        self.patch_embed = PatchEmbed(dims[0])
        self.layers = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)
        init_linear(self)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Each stage's map [B,H,W,C], before the merge."""
        x = self.patch_embed(x)
        maps = []
        for stage in self.layers:
            assert isinstance(stage, Stage)
            x = stage(x)
            maps.append(x)
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps

    def features(self, x: Tensor) -> list[Tensor]:
        """The pyramid for dense tasks: four maps [B,C,H,W] at strides 4, 8, 16 and 32, C as in `dims`.

        Each is the output of its stage's last block, before the merge and without a norm: the detectors and
        segmenters put a LayerNorm of their own on each map that they read. The maps are views of
        [B,H,W,C] tensors (channels_last memory), so `map.permute(0, 2, 3, 1)` copies nothing. Neither `norm`
        nor `head` is used. Any image size is accepted.
        """
        return [y.permute(0, 3, 1, 2) for y in self.stages(x)]

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the mean of the normed last map."""
        return self.head(self.norm(self.stages(x)[-1]).mean(dim=(1, 2)))


class Lit(Pyramid):
    """Map images [B,3,h,w] to logits [B,classes]; any h and w of at least 29, also others than it was built for.

    Args:
        shape: the model's size.
        attention: layers for the blocks of stage 2 or 3 (counted from 0).
        ffn: a feed-forward network from channels and hidden channels.
        num_classes: logits.
        deform: the operator of the merges, `torch` or `torchvision`.
        drop_path_rate: of the last block, in training.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        attention: Callable[[int], Sequence[nn.Module]],
        ffn: Callable[[int, int], nn.Module],
        num_classes: int,
        deform: str,
        drop_path_rate: float,
    ) -> None:
        rates = iter(drop_rates(sum(shape.depths), drop_path_rate))

        def stages() -> Iterator[Stage]:
            for stage, (dim, depth) in enumerate(zip(shape.dims, shape.depths, strict=True)):
                layers: Sequence[nn.Module | None] = attention(stage) if stage > 1 else [None] * depth
                blocks = [Block(dim, layer, ffn(dim, RATIO * dim), next(rates)) for layer in layers]
                yield Stage(blocks, DeformableMerge(dim, deform=deform) if stage < 3 else None)

        super().__init__(shape.dims, stages(), num_classes)
