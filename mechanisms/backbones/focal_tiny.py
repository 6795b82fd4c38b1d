"""Focal-Tiny: four stages of focal attention, the windows' surroundings and summaries ever fewer.

Paper   Yang et al.: Focal Self-attention for Local-Global Interactions in Vision Transformers, NeurIPS 2021,
        https://arxiv.org/abs/2107.00641
Agrees  with the parameters, their names and the counts of the classifier in microsoft/Focal-Transformer
        (tests/backbones/test_focal_tiny.py)
Differs images of any size are taken: broken patches, windows and merges are filled with zeros. As in the authors'
        code a stage whose map is no larger than a window has no ring around it, so that the parameters depend on
        the resolution; a smaller map is filled up where the authors shrink the window. What differs inside the
        attention stands in mechanisms/focal.py.

Shapes  images [B,3,h,w] -> maps [B,H,W,C] at strides 4, 8, 16, 32 with 96, 192, 384, 768 channels -> [B,classes]
        stage   blocks of attention and linear to 4 C, GELU, linear; heads of 32 channels; windows of 7,
                summaries of the 7, 5, 3, 1 nearest windows on each axis
        between a 2x2 convolution of stride 2 to 2 C, LayerNorm
Cost    multiply-accumulates per image: 48 N C for the patches, 8 N C^2 per feed-forward network, the attentions',
        8 N' C^2 per merge to N' tokens, the head's; N and C of the stage
"""

from __future__ import annotations

from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms import focal
from mechanisms.backbones.lit import Stage
from mechanisms.backbones.names import rename
from mechanisms.backbones.parts import FFN, PATCH, DropPath, PatchEmbed, drop_rates, init_linear
from mechanisms.grid import pad_to

DIMS = (96, 192, 384, 768)
DEPTHS = (2, 2, 6, 2)
FOCAL_WINDOWS = (7, 5, 3, 1)
WINDOW, EXPAND, LEVELS = 7, 3, 2
RATIO = 4  # hidden channels of a feed-forward network per channel


def grids(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Token maps of the four stages; a broken patch counts."""
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
    """Of the whole classifier, for an image of size.grid pixels."""
    total = 0
    for stage, (dim, depth, (H, W)) in enumerate(zip(DIMS, DEPTHS, grids(size.grid), strict=True)):
        total += H * W * (2 * dim**2 if stage else 3 * PATCH**2 * dim)  # from half the channels, four tokens each
        attention = focal.macs(layer(stage, (H, W), bool(size.settings["wrap"])))
        total += depth * (attention + 2 * RATIO * H * W * dim**2)
    return total + DIMS[-1] * int(size.settings["num_classes"])


def declines(size: Size) -> str | None:
    """Refuse settings that no model has."""
    if size.settings["num_classes"] < 1:  # type: ignore[operator]  # an int by declaration
        return f"num_classes must be at least 1; got num_classes={size.settings['num_classes']}"
    if not 0 <= size.settings["drop_path_rate"] < 1:  # type: ignore[operator]  # a float by declaration
        return f"drop_path_rate must lie in [0, 1); got drop_path_rate={size.settings['drop_path_rate']}"
    return None


class Block(nn.Module):
    """Pre-norm residuals: attention, then the feed-forward network; on [B,H,W,C]."""

    def __init__(self, size: Size, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.dim)
        self.attn = focal.Focal(size.dim, size.heads, **size.settings)  # type: ignore[arg-type]  # as in `layer`
        self.norm2 = nn.LayerNorm(size.dim)
        self.mlp = FFN(size.dim, RATIO * size.dim)
        self.drop_path = DropPath(drop)
        rename(self, "attn.pool_layers.", "pool_layers.")

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


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
    declines=declines,
    kernels=("eager", "sdpa"),
    growth="linear",
    notes={
        "published": "4.9 G, 4,924,284,672 by the authors' formula, which counts 120 of the ring's 132 tokens, and "
        "norms at one per element; all products are 4.95 G",
        "params": "depend on the resolution: a last map larger than 7x7 adds the ring's biases to its blocks",
    },
)
class FocalTiny(nn.Module):
    """Map images [B,3,h,w] to logits [B,classes]; any h and w, also others than it was built for."""

    def __init__(self, resolution: tuple[int, int], *, num_classes: int, wrap: bool, drop_path_rate: float) -> None:
        super().__init__()
        self.dims = list(DIMS)
        self.patch_embed = PatchEmbed(DIMS[0])
        rates = iter(drop_rates(sum(DEPTHS), drop_path_rate))
        stages = []
        for stage, (dim, depth, grid) in enumerate(zip(DIMS, DEPTHS, grids(resolution), strict=True)):
            blocks = [Block(layer(stage, grid, wrap), next(rates)) for _ in range(depth)]
            stages.append(Stage(blocks, Merge(dim) if stage < 3 else None))
        self.layers = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(DIMS[-1])
        self.head = nn.Linear(DIMS[-1], num_classes)
        init_linear(self)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Each stage's map [B,H,W,C], before the merge."""
        x, maps = self.patch_embed(x), []
        for stage in self.layers:
            assert isinstance(stage, Stage)
            x = stage(x)
            maps.append(x)
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps

    def features(self, x: Tensor) -> list[Tensor]:
        """The pyramid for dense tasks: four maps [B,C,H,W] at strides 4, 8, 16 and 32, before a norm."""
        return [y.permute(0, 3, 1, 2) for y in self.stages(x)]

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the mean of the normed last map."""
        return self.head(self.norm(self.stages(x)[-1]).mean(dim=(1, 2)))
