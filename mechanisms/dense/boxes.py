"""Anchors, box regression, suppression of duplicates and reading a pyramid inside boxes; all with fixed counts.

Boxes are [x1,y1,x2,y2] in pixels, in float32 at least: bfloat16 rounds 1277 to 1280.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mechanisms.backbones.deform import torchvision_error
from mechanisms.grid import per_grid

SUPPRESSION = ("auto", "torchvision", "none")
ROI = ("torch", "torchvision")
RATIOS = (0.5, 1.0, 2.0)  # height by width
NOTE_NMS = "auto: torchvision's suppression where torchvision works, else none; the module's `nms` says which"
_WIDEST = math.log(1000 / 16)  # of a box by its anchor
_SAMPLES = 2  # per bin and axis


def refusal(setting: str, value: str, allowed: Sequence[str]) -> str | None:
    """Why an operator is not available, or None."""
    if value not in allowed:
        return f"{setting} must be {', '.join(allowed[:-1])} or {allowed[-1]}; got {setting}={value}"
    error = torchvision_error() if value == "torchvision" else None
    return f"{setting}=torchvision needs torchvision; got {error}" if error else None


def resolved(nms: str) -> str:
    """What `auto` means on this machine."""
    if nms == "auto":
        return "none" if torchvision_error() else "torchvision"
    return nms


def anchors(H: int, W: int, stride: int, scales: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Of an H x W level, place by place, ratio by ratio, scale by scale: [H W ratios scales, 4]."""
    # a compiled graph takes one kept constant of a kind, and every level needs one
    make = _anchors if torch.compiler.is_compiling() else _anchors_kept
    return make(H, W, stride, scales, device, dtype)


def _anchors(
    H: int, W: int, stride: int, scales: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    ratio = torch.tensor(RATIOS, dtype=dtype, device=device).sqrt()[:, None]
    side = stride * torch.tensor(scales, dtype=dtype, device=device)
    half = torch.stack((side / ratio, side * ratio), dim=-1).view(-1, 2) / 2  # width, height
    y, x = (torch.arange(n, dtype=dtype, device=device) * stride for n in (H, W))
    middle = torch.stack((x.expand(H, W), y[:, None].expand(H, W)), dim=-1).view(-1, 1, 2)
    return torch.cat((middle - half, middle + half), dim=-1).view(-1, 4)


_anchors_kept = per_grid(_anchors)


def decode(boxes: Tensor, deltas: Tensor, image: tuple[int, int], spread: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Move and stretch [...,4] boxes by regression's (dx, dy, dw, dh), inside an image of (height, width).

    `spread` scales the regression's places and its sizes.
    """
    deltas = deltas.to(boxes.dtype)
    side = boxes[..., 2:] - boxes[..., :2]
    middle = (boxes[..., 2:] + boxes[..., :2]) / 2 + deltas[..., :2] * spread[0] * side
    half = side * (deltas[..., 2:] * spread[1]).clamp(-_WIDEST, _WIDEST).exp() / 2
    h, w = image
    x1, y1 = (middle - half).unbind(-1)
    x2, y2 = (middle + half).unbind(-1)
    return torch.stack((x1.clamp(0, w), y1.clamp(0, h), x2.clamp(0, w), y2.clamp(0, h)), dim=-1)


def pick(x: Tensor, places: Tensor) -> Tensor:
    """Rows of [B,N,...] at [B,K]: [B,K,...]."""
    index = places.view(*places.shape, *[1] * (x.dim() - 2)).expand(*places.shape, *x.shape[2:])
    return x.gather(1, index)


def keep(
    boxes: Tensor, scores: Tensor, groups: Tensor, *, overlap: float, count: int, nms: str
) -> tuple[Tensor, Tensor]:
    """Choose `count` of [B,N] boxes by score, suppressing duplicates inside a group: places [B,count], survived.

    The count is fixed: the best of the suppressed follow the survivors, and where N is smaller than count all
    follow once more. On the meta device, where no box has a value, nothing is suppressed.
    """
    survived = torch.ones_like(scores, dtype=torch.bool)
    if nms == "torchvision" and not scores.is_meta:
        from torchvision.ops import batched_nms

        survived = torch.zeros_like(survived)
        for b in range(len(scores)):
            survived[b, batched_nms(boxes[b], scores[b], groups[b], overlap)] = True
    order = (scores + 2 * survived).topk(min(count, scores.shape[1])).indices  # scores lie in [0, 1]
    turns = torch.arange(count, device=order.device) % order.shape[1]
    places = order[:, turns]
    first = torch.arange(count, device=order.device) < order.shape[1]
    return places, survived.gather(1, places) & first


def roi_align(
    levels: Sequence[Tensor], boxes: Tensor, side: int, *, finest: int = 56, operator: str = "torch"
) -> Tensor:
    """Read boxes [B,K,4] from the level that suits their size: [B K,C,side,side].

    Args:
        levels: [B,C,H,W] at strides 4, 8, ...
        boxes: in pixels.
        side: bins per axis; each is the mean of 2x2 bilinear samples.
        finest: boxes up to twice this side are read at stride 4, up to four times at stride 8, and so on.
        operator: `torch` or `torchvision`.
    """
    B, K, _ = boxes.shape
    size = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).sqrt()
    level = (size / finest + 1e-6).log2().floor().clamp(0, len(levels) - 1).long()  # b k
    if operator == "torchvision":
        return _by_torchvision(levels, boxes, level, side)
    tokens = torch.cat([y.permute(0, 2, 3, 1).flatten(0, 2) for y in levels])  # (level b h w) c
    C = tokens.shape[1]
    H, W, stride, start = _tables(tuple((B, *y.shape[2:]) for y in levels), boxes.device)[level].unbind(-1)
    first = start + torch.arange(B, device=boxes.device)[:, None] * H * W  # b k
    n = side * _SAMPLES
    part = (torch.arange(n, device=boxes.device, dtype=boxes.dtype) + 0.5) / n
    corner = boxes / stride[..., None]
    x = corner[..., 0:1] + (corner[..., 2:3] - corner[..., 0:1]) * part - 0.5  # b k n
    y = corner[..., 1:2] + (corner[..., 3:4] - corner[..., 1:2]) * part - 0.5
    rows, columns = _around(y, H[..., None]), _around(x, W[..., None])
    read = tokens.new_zeros(B * K, side, side, C)
    for i, above in rows:
        for j, left in columns:
            place = (first[..., None, None] + i[..., :, None] * W[..., None, None] + j[..., None, :]).view(-1, n, n)
            weight = (above[..., :, None] * left[..., None, :]).view(-1, n, n, 1).to(tokens.dtype) / _SAMPLES**2
            for dy in range(_SAMPLES):
                for dx in range(_SAMPLES):
                    at = (slice(None), slice(dy, None, _SAMPLES), slice(dx, None, _SAMPLES))
                    read = torch.addcmul(read, F.embedding(place[at], tokens), weight[at])
    return read.permute(0, 3, 1, 2)


@per_grid
def _tables(shapes: tuple[tuple[int, int, int], ...], device: torch.device) -> Tensor:
    """Rows, columns, stride and first token of each level: [levels,4]."""
    found, start = [], 0
    for i, (B, H, W) in enumerate(shapes):
        found.append((H, W, 4 * 2**i, start))
        start += B * H * W
    return torch.tensor(found, device=device)


def _around(place: Tensor, length: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two tokens around positions on one axis, as (index, weight); positions outside read the border."""
    last = length - 1
    place = torch.minimum(place.clamp(min=0), last.to(place.dtype))
    low = place.floor()
    part, index = place - low, low.long()
    return (index, 1 - part), (torch.minimum(index + 1, last), part)


def _by_torchvision(levels: Sequence[Tensor], boxes: Tensor, level: Tensor, side: int) -> Tensor:
    """Level by level; what belongs to another level is read too and not taken, so that counts stay fixed."""
    from torchvision.ops import roi_align as align

    result = None
    for i, y in enumerate(levels):
        read = align(
            y.contiguous(), list(boxes.to(y.dtype)), side, 1 / (4 * 2**i), sampling_ratio=_SAMPLES, aligned=True
        )
        chosen = (level == i).view(-1, 1, 1, 1)
        result = read * chosen if result is None else torch.where(chosen, read, result)
    assert result is not None
    return result
