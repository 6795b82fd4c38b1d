"""Separable self-attention of MobileViTv2: one score per token makes one context vector, which gates every value.

Paper   Mehta, Rastegari: Separable Self-attention for Mobile Vision Transformers, TMLR 2023,
        https://arxiv.org/abs/2206.02680
Agrees  with timm's separable self-attention, weights included, on maps that the patch divides
        (tests/mechanisms/test_separable.py). The parameters have the authors' names, with `.block.conv` in the
        middle where timm has nothing. The authors' code was not run.
Differs the authors resize a map that the patch does not divide; here nothing is resized or padded, the tokens of
        a place in the patch are simply fewer where the map ends. `heads` has no meaning here.

Shapes  B images, N = H W tokens, C channels, p = patch_size; tokens at the same place of their p x p patches form
        a group (patch_size 1: one group):
        qkv  b (1 + c + c) h w -> score, k, v;  context = sum over the group of softmax(score) k  [b p p c]
        y = W (relu(v) context)
Cost    multiply-accumulates per image: N (3 C^2 + C); the weighted sum is element-wise
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.registry.declaration import Size, mechanism


def refuses(patch_size: int) -> str | None:
    """Why it cannot be built with these values, or None."""
    return None if patch_size >= 1 else f"patch_size must be at least 1; got patch_size={patch_size}"


def macs(size: Size) -> int:
    """MACs of the two projections."""
    return size.tokens * (3 * size.dim**2 + size.dim)


def reach(size: Size, y: int, x: int) -> Iterable[tuple[int, int]]:
    """The tokens at the same place of their patches."""
    p, (H, W) = int(size.settings["patch_size"]), size.grid
    return ((i, j) for i in range(y % p, H, p) for j in range(x % p, W, p))


def _projection(dim: int, width: int) -> nn.Sequential:
    """A 1x1 convolution whose parameters are `block.conv.*`, the names in the authors' checkpoints."""
    conv = nn.Sequential(OrderedDict(conv=nn.Conv2d(dim, width, 1)))
    return nn.Sequential(OrderedDict(block=conv))


@mechanism(
    name="separable",
    display="Separable",
    title="separable self-attention: one context vector gates the values",
    paper="arXiv:2206.02680",
    year=2022,
    repository="apple/ml-cvnets",
    defaults={"patch_size": 2},
    macs=macs,
    refuses=refuses,
    reach=reach,
    growth="linear",
)
class Separable(nn.Module):
    """Map [B,H,W,C] to [B,H,W,C]."""

    def __init__(self, dim: int, *, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.qkv_proj = _projection(dim, 1 + 2 * dim)
        self.out_proj = _projection(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Gate every value by the context of its group."""
        _, H, W, C = x.shape
        p = self.patch_size
        below, right = -H % p, -W % p
        score, k, v = self.qkv_proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).split([1, C, C], dim=-1)
        v = v.relu()
        if below or right:  # what the map lacks of its last patches weighs nothing
            score = F.pad(score, (0, 0, 0, right, 0, below), value=-torch.inf)
            k, v = (F.pad(t, (0, 0, 0, right, 0, below)) for t in (k, v))
        h, w = (H + below) // p, (W + right) // p
        score, k, v = (t.unflatten(2, (w, p)).unflatten(1, (h, p)) for t in (score, k, v))  # b h p w p c
        weight = score.transpose(2, 3).flatten(1, 2).softmax(dim=1)  # b (h w) p p 1
        weight = weight.unflatten(1, (h, w)).transpose(2, 3)
        context = (weight * k).sum(dim=(1, 3), keepdim=True)  # b 1 p 1 p c
        y = (v * context).flatten(3, 4).flatten(1, 2)[:, :H, :W]
        return self.out_proj(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
