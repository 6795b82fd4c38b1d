"""Deformable token merging: each kernel tap of a 2x2, stride-2 convolution reads at offsets computed from the image.

Paper   Pan et al.: Less is More: Pay Less Attention in Vision Transformers, AAAI 2022,
        https://arxiv.org/abs/2105.14217; the operator: Dai et al., https://arxiv.org/abs/1703.06211
Agrees  with a loop over pixels and with torchvision's operator (tests/backbones/test_deformable_merge.py);
        with the authors' LITv2-S, weights included (tests/backbones/test_litv2.py)
Differs sampling positions of half-precision maps are computed in float32: bfloat16 cannot represent 56.3

Shapes  B images, a map H x W of C channels, h = H // 2, w = W // 2 (a last odd row or column is not read):
        offsets  b h w (t 2): dy, dx of the four taps t (row-major), from a plain 2x2 convolution
        samples  b h w t c: bilinear between the four tokens around a position, zero outside the map
        output   b h w (2 c): one linear map over (t c), BatchNorm, GELU
Cost    multiply-accumulates per image: 8 h w C^2 for the kernel, 32 h w C for the offsets
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mechanisms.grid import per_grid

OPERATORS = ("torch", "torchvision")


def torchvision_error() -> str | None:
    """Why torchvision's operators are not available, or None."""
    try:
        import torchvision.ops  # noqa: F401  asked whether it works, not only whether it is there
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        return f"{type(error).__name__}: {error}"
    return None


def refuses(deform: str) -> str | None:
    """Why the operator is not available, or None."""
    if deform not in OPERATORS:
        return f"deform must be {' or '.join(OPERATORS)}; got deform={deform}"
    error = torchvision_error() if deform == "torchvision" else None
    return f"deform=torchvision needs torchvision; got {error}" if error else None


def merge_macs(dim: int, H: int, W: int) -> int:
    """MACs of one merge that halves an H x W map of `dim` channels."""
    return (H // 2) * (W // 2) * (8 * dim**2 + 32 * dim)


@per_grid
def taps(h: int, w: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Where the kernel reads without offsets: [h,w,4,2], row and column."""
    rows = (2 * torch.arange(h, device=device)).view(h, 1, 1) + torch.arange(2, device=device).view(2, 1)  # h 2 1
    columns = (2 * torch.arange(w, device=device)).view(w, 1, 1) + torch.arange(2, device=device)  # w 1 2
    places = torch.stack((rows[:, None].expand(h, w, 2, 2), columns.expand(h, w, 2, 2)), dim=-1)
    return places.reshape(h, w, 4, 2).to(dtype)


def around(place: Tensor, length: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two tokens around positions on one axis, as (index, weight); the weight outside the axis is 0."""
    low = place.floor()
    part = place - low
    index = low.long()
    before = (1 - part) * ((low >= 0) & (low < length))
    after = part * ((low >= -1) & (low < length - 1))
    return (index.clamp(0, length - 1), before), ((index + 1).clamp(0, length - 1), after)


def sample(x: Tensor, places: Tensor) -> Tensor:
    """Read [B,H,W,C] bilinearly at [B,h,w,T,2] positions (row, column), zero outside: [B,h,w,T,C]."""
    B, H, W, C = x.shape
    tokens = x.reshape(B * H * W, C)
    first = torch.arange(0, B * H * W, H * W, device=x.device).view(B, 1, 1, 1)
    rows, columns = around(places[..., 0], H), around(places[..., 1], W)
    read = None
    for i, above in rows:
        for j, left in columns:
            # embedding: the quickest way to fetch rows of C channels, on the CPU by a third
            part = F.embedding(first + i * W + j, tokens)
            weight = (above * left).to(x.dtype).unsqueeze(-1)
            read = part * weight if read is None else torch.addcmul(read, part, weight)
    assert read is not None
    return read


class DeformableConv(nn.Conv2d):
    """2x2 convolution of stride 2 from [B,H,W,C] to [B,h,w,2C] whose taps are moved by learned offsets."""

    def __init__(self, dim: int, *, deform: str) -> None:
        super().__init__(dim, 2 * dim, kernel_size=2, stride=2)
        self.deform = deform
        # channels last: the kernel as a matrix over (tap, channel) is then a view
        self.weight = nn.Parameter(self.weight.detach().contiguous(memory_format=torch.channels_last))
        self.conv_offset = nn.Conv2d(dim, 8, kernel_size=2, stride=2)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Read at the moved taps, then mix."""
        image = x.permute(0, 3, 1, 2)
        offset = self.conv_offset(image)  # b (t 2) h w
        if self.deform == "torchvision":
            from torchvision.ops import deform_conv2d

            y: Tensor = deform_conv2d(image, offset, self.weight, self.bias, stride=2)
            return y.permute(0, 2, 3, 1)
        B, _, h, w = offset.shape
        dtype = torch.promote_types(x.dtype, torch.float32)
        moved = offset.permute(0, 2, 3, 1).reshape(B, h, w, 4, 2).to(dtype) + taps(h, w, x.device, dtype)
        kernel = self.weight.permute(0, 2, 3, 1).flatten(1)  # (2 c) (t c)
        return F.linear(sample(x, moved).flatten(3), kernel, self.bias)


class DeformableMerge(nn.Module):
    """Map [B,H,W,C] to [B,H//2,W//2,2C]."""

    def __init__(self, dim: int, *, deform: str) -> None:
        super().__init__()
        self.dconv = DeformableConv(dim, deform=deform)
        self.norm_layer = nn.BatchNorm2d(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, GELU."""
        y = self.norm_layer(self.dconv(x).permute(0, 3, 1, 2))
        return F.gelu(y).permute(0, 2, 3, 1)
