"""Layers of installed libraries, for the adapter `libraries.toml`: timm, openmixup, performer-pytorch and linformer.

A library's layer is built as it is; two are inside of something else, and are called by the classes below. Each package
is imported when its layer is built, so that one that is missing costs its own rows only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def unfused(layer: nn.Module) -> nn.Module:
    """Switch timm's fused attention off: the layers are compared in eager form."""
    for part in layer.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]  # a plain attribute
    return layer


@contextlib.contextmanager
def same_environment() -> Iterator[None]:
    """Undo what an import changes in os.environ: openmixup imports OpenCV, which adds its own folders."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def msa(dim: int, num_heads: int) -> nn.Module:
    """Self-attention of timm, [B,N,C] to the same."""
    from timm.layers.attention import Attention

    return unfused(Attention(dim, num_heads=num_heads, qkv_bias=True))


def xca(dim: int, num_heads: int) -> nn.Module:
    """Cross-covariance attention of timm, which is the authors' code, [B,N,C] to the same."""
    from timm.models.xcit import XCA

    return unfused(XCA(dim, num_heads=num_heads, qkv_bias=True))


def performer(dim: int, num_heads: int, nb_features: int) -> nn.Module:
    """FAVOR+ of performer-pytorch, [B,N,C] to the same."""
    from performer_pytorch import SelfAttention

    layer: nn.Module = SelfAttention(
        dim, heads=num_heads, dim_head=dim // num_heads, nb_features=nb_features, qkv_bias=True
    )
    return layer


def linformer(dim: int, num_heads: int, tokens: int, k: int) -> nn.Module:
    """The repository that the paper's layer benchmark names, [B,N,C] to the same; its projections have no bias."""
    from linformer import LinformerSelfAttention

    layer: nn.Module = LinformerSelfAttention(dim, tokens, k=k, heads=num_heads)
    return layer


def van(dim: int) -> nn.Module:
    """The form of openmixup, made from the authors' code, [B,C,H,W] to the same."""
    with same_environment():
        from openmixup.models.backbones.van import SpatialAttention

    layer: nn.Module = SpatialAttention(dim)
    return layer


def hornet(dim: int, order: int) -> nn.Module:
    """The form of openmixup, made from the authors' code, [B,C,H,W] to the same."""
    with same_environment():
        from openmixup.models.backbones.hornet import gnConv

    layer: nn.Module = gnConv(dim, order=order, scale=1 / 3)
    return layer


def hilo(dim: int, num_heads: int, window_size: int, alpha: float) -> nn.Module:
    """The form of openmixup, made from the authors' code, for square maps, [B,N,C] to the same."""
    with same_environment():
        from openmixup.models.utils import HiLoAttention

    layer: nn.Module = HiLoAttention(dim, num_heads=num_heads, window_size=window_size, alpha=alpha)
    return layer


class SRA(nn.Module):
    """Spatial-reduction attention of timm, the authors' of PVT v2 without pooling: [B,N,C], H, W to [B,N,C]."""

    def __init__(self, dim: int, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        from timm.models.pvt_v2 import Attention

        self.layer = unfused(Attention(dim, num_heads=num_heads, sr_ratio=sr_ratio, qkv_bias=True))

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        """Attend to the reduced map."""
        y: Tensor = self.layer(x, [H, W])
        return y


class Windows(nn.Module):
    """The attention of timm's Swin block with its partition into windows, without norms and MLP: [B,H,W,C]."""

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], shift_size: int) -> None:
        super().__init__()
        from timm.models.swin_transformer import SwinTransformerBlock

        block: Any = SwinTransformerBlock(dim, grid, num_heads, window_size=7, shift_size=shift_size)
        block.norm1, block.norm2, block.mlp = nn.Identity(), nn.Identity(), nn.Identity()
        self.block = unfused(block)

    def forward(self, x: Tensor) -> Tensor:
        """Attend inside windows."""
        y: Tensor = self.block._attn(x)  # type: ignore[operator]  # a method of timm's block
        return y
