"""LightViT: windows and global tokens, and a feed-forward network whose output is gated in both dimensions.

Paper   Huang et al.: LightViT: Towards Light-Weight Convolution-Free Vision Transformers, 2022,
        https://arxiv.org/abs/2207.05557
Agrees  with the parameter names and the counts of the classifiers in hunto/image_classification_sota
        (tests/backbones/test_lightvit_models.py)
Differs images of any size are taken, where the authors' classifier wants multiples of 224: windows are filled with
        zeros, as in their detection code, and so is an odd map before a merge. In spite of the title the
        stem is convolutional, as the authors' is. The paper prints 0.7, 1.7 and 3.9 G by a formula that
        divides the windows' products by 49 and leaves `kv_global` out.

Shapes  images [B,3,h,w] -> [B,H,W,C] at strides 8, 16, 32; T = num_tokens global tokens [B,T,C] go through every
        block and merge before the map's tokens, as one sequence z [B, T + H W, C]
        block   attention (mechanisms/lightvit.py), then linear to m C, GELU, linear, and the gate
                (mechanisms/lightvit_biattn.py); m = 8, 4, 4
        merge   2x2 neighbours (4 C) -> LayerNorm -> C', and their maximum (C) -> C', added
        head    LayerNorm, linear to 1280, LayerNorm, GELU, mean over all T + N tokens, linear to classes
Cost    multiply-accumulates per image: the stem's convolutions; per block the attention's, the gate's and
        2 (T + N) m C^2; per merge (5 N + T) C C'; 1280 (T + N) C for the neck; the head's
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism
from mechanisms import lightvit, lightvit_biattn
from mechanisms.backbones import parts
from mechanisms.backbones.parts import DropPath, drop_rates, init_linear
from mechanisms.grid import pad_to

NECK = 1280  # channels before the last linear layer
ACT_RATIO = 0.25  # of the gates: inner channels per channel
KERNELS = ("eager", "sdpa")


@dataclass(frozen=True)
class Shape:
    """One size of model; three stages, heads have 32 channels."""

    dims: tuple[int, int, int]
    depths: tuple[int, int, int]
    num_tokens: int
    drop_path_rate: float
    ratios: tuple[int, int, int] = (8, 4, 4)  # hidden channels of the networks per channel


SHAPES = {
    "t": Shape((64, 128, 256), (2, 6, 6), 8, 0.1),
    "s": Shape((96, 192, 384), (2, 6, 6), 16, 0.1),
    "b": Shape((128, 256, 512), (3, 8, 6), 24, 0.3),
}


def halved(grid: tuple[int, int], times: int = 1) -> tuple[int, int]:
    """A map after convolutions of stride 2, or merges; an incomplete pair counts."""
    H, W = grid
    return -(-H // 2**times), -(-W // 2**times)


def grids(resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Token maps of the three stages."""
    return [halved(resolution, times) for times in (3, 4, 5)]


def apart(z: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The global tokens [B,T,C] and the map [B,H,W,C] in a sequence [B, T + H W, C], as views."""
    T = z.shape[1] - grid[0] * grid[1]
    return z[:, :T], z[:, T:].view(z.shape[0], *grid, z.shape[2])


class Stem(nn.Module):
    """Map images [B,3,h,w] to [B,H,W,C] at stride 8."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half, parts = dim // 2, list[nn.Module]()
        for before, stride in ((3, 2), (half, 1), (half, 1), (half, 2)):
            groups = 1 if before == 3 else half
            parts += [
                nn.Conv2d(before, half, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False),
                nn.BatchNorm2d(half),
                nn.GELU(),
            ]
        self.stem = nn.Sequential(*parts)
        self.proj = nn.Conv2d(half, dim, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        return self.norm(self.proj(self.stem(x)).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Pre-norm residuals: attention, then the gated network; on T global tokens and a map in one sequence."""

    def __init__(self, dim: int, ratio: int, window_size: int, drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = lightvit.GlobalTokenAttention(dim, dim // 32, window_size=window_size)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = lightvit_biattn.BiAttentionFFN(dim, ratio * dim, act_ratio=ACT_RATIO)
        self.drop_path = DropPath(drop)

    def attend(self, z: Tensor, grid: tuple[int, int]) -> Tensor:
        """The first residual: [B, T + H W, C] to the same."""
        tokens, x = apart(self.norm1(z), grid)
        tokens, x = self.attn.exchange(tokens, x)
        return z + self.drop_path(torch.cat((tokens, x.flatten(1, 2)), dim=1))

    def feed(self, z: Tensor) -> Tensor:
        """The second residual, on tokens of either kind [B,L,C]."""
        y = self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(z))))
        return z + self.drop_path(self.mlp.attn.gated(y))

    def forward(self, z: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map [B, T + H W, C] to the same."""
        return self.feed(self.attend(z, grid))


class Merge(nn.Module):
    """Map z [B, T + H W, C] to [B, T + H/2 W/2, C']: neighbours together, and their maximum beside them."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, out, bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, out, bias=False)
        self.res_proj = nn.Linear(dim, out, bias=False)

    def forward(self, z: Tensor, grid: tuple[int, int]) -> Tensor:
        """An odd map is filled with zeros."""
        tokens, x = apart(z, grid)
        x = pad_to(x, 2)
        B, H, W, C = x.shape
        four = x.view(B, H // 2, 2, W // 2, 2, C)  # b h y w x c
        side_by_side = four.permute(0, 1, 3, 4, 2, 5).reshape(B, -1, 4 * C)  # down before right
        largest = four.amax(dim=(2, 4)).view(B, -1, C)
        merged = self.reduction(self.norm(side_by_side)) + self.res_proj(largest)
        return torch.cat((self.proj(self.norm2(tokens)), merged), dim=1)


class LightViT(nn.Module):
    """Map images [B,3,h,w] of any size to logits [B,classes].

    Args:
        shape: the model's size.
        num_classes: logits.
        num_tokens: global tokens.
        window_size: of the local attention.
        drop_path_rate: of the last block, in training.
    """

    def __init__(
        self, shape: Shape, *, num_classes: int, num_tokens: int, window_size: int, drop_path_rate: float
    ) -> None:
        super().__init__()
        self.dims = list(shape.dims)
        self.global_token = nn.Parameter(torch.empty(1, num_tokens, shape.dims[0]))
        nn.init.normal_(self.global_token, std=0.02)
        self.patch_embed = Stem(shape.dims[0])
        rates = iter(drop_rates(sum(shape.depths), drop_path_rate))
        stages = []
        for i, (dim, depth, ratio) in enumerate(zip(shape.dims, shape.depths, shape.ratios, strict=True)):
            first: Sequence[nn.Module] = [Merge(shape.dims[i - 1], dim)] if i else []
            stages.append(nn.ModuleList([*first, *(Block(dim, ratio, window_size, next(rates)) for _ in range(depth))]))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(shape.dims[-1], eps=1e-6)
        self.neck = nn.Sequential(nn.Linear(shape.dims[-1], NECK), nn.LayerNorm(NECK), nn.GELU())
        self.head = nn.Linear(NECK, num_classes)
        init_linear(self)

    def features(self, x: Tensor) -> list[Tensor]:
        """The pyramid for dense tasks: three maps [B,C,H,W] at strides 8, 16 and 32, C as in `dims`.

        Each is what its stage's last block gives, before the merge, without a norm and without the global
        tokens: the detectors put a LayerNorm of their own on each map. As in the authors' detection code the
        very last network does not see the global tokens. The maps are views of [B,H,W,C] tensors
        (channels_last memory). Any image size is accepted.
        """
        return [apart(z, grid)[1].permute(0, 3, 1, 2) for z, grid in self._run(x, keep_tokens=False)]

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the mean over all tokens, the global ones included."""
        z, _ = self._run(x, keep_tokens=True)[-1]
        return self.head(self.neck(self.norm(z)).mean(dim=1))

    def _run(self, x: Tensor, *, keep_tokens: bool) -> list[tuple[Tensor, tuple[int, int]]]:
        """Each stage's sequence and its map's size; `keep_tokens`: also through the last network."""
        x = self.patch_embed(x)
        grid = (x.shape[1], x.shape[2])
        z = torch.cat((self.global_token.expand(x.shape[0], -1, -1), x.flatten(1, 2)), dim=1)
        stages = [stage for stage in self.stages if isinstance(stage, nn.ModuleList)]
        last, given = stages[-1][-1], []
        for stage in stages:
            for part in stage:
                if isinstance(part, Merge):
                    z, grid = part(z, grid), halved(grid)
                elif part is last and isinstance(part, Block) and not keep_tokens:
                    z = part.feed(apart(part.attend(z, grid), grid)[1].flatten(1, 2))
                else:
                    z = part(z, grid)
            given.append((z, grid))
        return given


def block_macs(dim: int, ratio: int, layer: Size) -> int:
    """MACs of one block: attention, network, gate."""
    L = layer.tokens + int(layer.settings["num_tokens"])
    return lightvit.macs(layer) + 2 * L * ratio * dim**2 + lightvit_biattn.macs(layer)


def lightvit_macs(shape: Shape, size: Size) -> int:
    """Multiply-accumulates of the classifier for an image of size.grid pixels."""
    T, half, maps = int(size.settings["num_tokens"]), shape.dims[0] // 2, grids(size.grid)
    (h1, w1), (h2, w2), (h3, w3) = (halved(size.grid, times) for times in (1, 2, 3))
    total = 9 * half * (h1 * w1 * (3 + 1 + 1) + h2 * w2 + h3 * w3 * shape.dims[0])
    layer = replace(size, settings={**size.settings, "act_ratio": ACT_RATIO})
    for i, (dim, depth, ratio, grid) in enumerate(zip(shape.dims, shape.depths, shape.ratios, maps, strict=True)):
        at = replace(layer, dim=dim, heads=dim // 32, grid=grid, stride=8 * 2**i)
        total += depth * block_macs(dim, ratio, at)
        total += (5 * at.tokens + T) * shape.dims[i - 1] * dim if i else 0
    H, W = maps[-1]
    return total + (H * W + T) * shape.dims[-1] * NECK + NECK * int(size.settings["num_classes"])


def refuses(num_classes: int, num_tokens: int, window_size: int, drop_path_rate: float) -> str | None:
    """Why the model cannot be built with these values, or None."""
    return parts.refuses(num_classes, drop_path_rate) or lightvit.refuses(num_tokens, window_size)


def _declare(letter: str, shape: Shape) -> None:
    @mechanism(
        name=f"lightvit_{letter}",
        title=f"LightViT-{letter.upper()}: windows, global tokens, gated networks",
        paper="arXiv:2207.05557",
        year=2022,
        repository="hunto/LightViT",
        scope="backbone",
        defaults={
            "num_classes": 1000,
            "num_tokens": shape.num_tokens,
            "window_size": 7,
            "drop_path_rate": shape.drop_path_rate,
        },
        macs=partial(lightvit_macs, shape),
        refuses=refuses,
        kernels=KERNELS,
        growth="linear",
        pyramid=(8, 16, 32),
        notes={"published": "0.7, 1.7, 3.9 G by a formula that leaves some 5 % of the products out"},
    )
    def build(
        resolution: tuple[int, int],
        *,
        num_classes: int,
        num_tokens: int,
        window_size: int,
        drop_path_rate: float,
    ) -> LightViT:
        return LightViT(
            shape,
            num_classes=num_classes,
            num_tokens=num_tokens,
            window_size=window_size,
            drop_path_rate=drop_path_rate,
        )


for _letter, _shape in SHAPES.items():
    _declare(_letter, _shape)
