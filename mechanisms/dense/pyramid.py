"""What dense tasks share: a backbone's maps, normed, and the feature pyramid network above them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Size
from attnbench.registry.variant import parse_variant
from mechanisms.backbones import parts
from mechanisms.backbones.swap import registered

WIDTH = 256  # channels of every level
KERNELS = ("eager", "sdpa", "flex")
NOTES = {
    "published": "the papers count by mmdetection's rule, which sees biases, norms and ReLU and no deformable kernel",
    "kernel": "of the backbone's attention",
}
_CLASSIFIER = ("norm", "neck", "head")  # what of a backbone `features` does not use


def refuses(resolution: tuple[int, int], backbone: str, num_classes: int) -> str | None:
    """Why no dense task can be built with these values, or None: the backbone's reasons are among them."""
    reason = parts.refuses(num_classes)
    if reason:
        return reason
    known = registered()
    try:
        variant = known.check(parse_variant(backbone))
    except AttnbenchError as error:  # an unknown mechanism or setting
        return str(error)
    declaration = known[variant.name]
    if declaration.scope != "backbone":
        return f"backbone must be a backbone; got {variant}, which is a {declaration.scope}"
    if declaration.pyramid == ():
        return f"backbone must give maps at strides 4 to 32; got {variant}, which does not"
    return known.declines(variant, known.size(variant, grid=resolution))


def kernels_at(size: Size) -> tuple[str, ...]:
    """The kernels of the backbone's attention."""
    known = registered()
    variant = known.check(parse_variant(str(size.settings["backbone"])))
    return known.kernels(variant, known.size(variant, grid=size.grid))


class Backbone(nn.Module):
    """Map images [B,3,h,w] to the backbone's maps [B,C,H,W], from fine to coarse, the last at stride 32.

    Args:
        backbone: a variant, as text.
        resolution: (height, width) in pixels that it is built for.
        first: the first stage (0 at stride 4) whose map goes through a LayerNorm of its own; earlier maps stay.
            A backbone with `norm_maps = False` has no such norms.
    """

    def __init__(self, backbone: str, resolution: tuple[int, int], *, first: int) -> None:
        super().__init__()
        known = registered()
        variant = known.check(parse_variant(backbone))
        built_for = known[variant.name].dense_resolution
        grid = built_for(resolution) if built_for else resolution
        model = known.build(variant, known.size(variant, grid=grid))
        if not (hasattr(model, "features") and hasattr(model, "dims")):
            raise ValueError(f"a dense task needs a backbone with features(x) and dims; got {variant}")
        for name in _CLASSIFIER:
            if hasattr(model, name):
                delattr(model, name)
        if hasattr(model, "without_classifier"):
            model.without_classifier()  # type: ignore[operator]  # a method by the contract
        self.model = model
        self.dims: list[int] = list(model.dims)  # type: ignore[arg-type]  # a list of ints by the contract
        self.stages = range(4 - len(self.dims), 4)
        for stage, dim in zip(self.stages, self.dims, strict=True):
            if stage >= first and getattr(model, "norm_maps", True):
                self.add_module(f"norm{stage}", nn.LayerNorm(dim))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps, normed in channels_last views."""
        maps: list[Tensor] = self.model.features(x)  # type: ignore[operator]  # a method by the contract
        return [self._norm(stage, y) for stage, y in zip(self.stages, maps, strict=True)]

    def _norm(self, stage: int, y: Tensor) -> Tensor:
        norm = self._modules.get(f"norm{stage}")
        return y if norm is None else norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FPN(nn.Module):
    """Map [B,C_i,H_i,W_i] to as many maps of 256 channels, each with what the coarser ones add.

    Args:
        dims: channels of the maps.
        finest: whether a level at twice the resolution of the first map is made too (a transposed convolution
            of the finest sum gives it), for backbones that begin at stride 8.
    """

    def __init__(self, dims: Sequence[int], *, finest: bool = False) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList([nn.Conv2d(dim, WIDTH, kernel_size=1) for dim in dims])
        self.finest = nn.ConvTranspose2d(WIDTH, WIDTH, kernel_size=2, stride=2) if finest else None
        levels = len(dims) + finest
        self.fpn_convs = nn.ModuleList([nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1) for _ in range(levels)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Add from coarse to fine, then smooth."""
        sums = [conv(y) for conv, y in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(sums) - 1, 0, -1):
            sums[i - 1] = sums[i - 1] + F.interpolate(sums[i], size=sums[i - 1].shape[2:], mode="nearest")
        if self.finest is not None:
            sums.insert(0, self.finest(sums[0]))
        return [conv(y) for conv, y in zip(self.fpn_convs, sums, strict=True)]
