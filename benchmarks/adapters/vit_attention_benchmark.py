"""Two layers of HubHop/vit-attention-benchmark that its classes alone do not give: for vit_attention_benchmark.toml.

The checkout's folder `attentions` is on the path when a layer is built.
"""

from __future__ import annotations

import sys
from types import ModuleType

from torch import Tensor, nn


class DAT(nn.Module):
    """Their deformable attention, which returns an image: [B,N,C], H, W to [B,N,C], a view."""

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        from dat import DAttentionBaseline

        self.layer = DAttentionBaseline(grid, grid, num_heads, dim // num_heads)

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        """Attend to samples of the map."""
        y: Tensor = self.layer(x, H, W)
        return y.flatten(2).transpose(1, 2)


def quadtree(dim: int, num_heads: int, sr_ratio: int) -> nn.Module:
    """Their layer in its form for CPUs, which calls no operator of the CUDA extension that its file imports."""
    for name in ("QuadtreeAttention", "QuadtreeAttention.modules", "QuadtreeAttention.modules.quadtree_attention"):
        sys.modules.setdefault(name, ModuleType(name))
    extension = sys.modules["QuadtreeAttention.modules.quadtree_attention"]
    for name in ("QTAttA", "QTAttB"):
        if not hasattr(extension, name):
            setattr(extension, name, None)
    from quadtree import QTAttention

    layer: nn.Module = QTAttention(dim, num_heads=num_heads, qkv_bias=True, sr_ratio=sr_ratio, attn_type="B", cpu=True)
    return layer
