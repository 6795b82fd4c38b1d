"""A layer written for [B,N,C] is used on [B,H,W,C]."""

from __future__ import annotations

from torch import Tensor, nn


class FromSequence(nn.Module):
    """Call `layer(x)` with x [B,N,C], a view."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        y: Tensor = self.layer(x.flatten(1, 2))
        return y.view(x.shape)
