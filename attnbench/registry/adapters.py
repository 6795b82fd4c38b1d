"""Adapters that copy nothing: a layer written for [B,N,C] or [B,C,H,W] is used on [B,H,W,C]."""

from __future__ import annotations

from torch import Tensor, nn

from attnbench.registry.declaration import Layout


class FromTokens(nn.Module):
    """Call `layer(x, H, W)` with x [B,N,C]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        B, H, W, C = x.shape
        y = _tensor(self.layer(x.reshape(B, H * W, C), H, W))
        return y.view(B, H, W, C)


class FromImage(nn.Module):
    """Call `layer(x)` with x [B,C,H,W] in channels_last memory: the permuted view, no copy."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map [B,H,W,C] to [B,H,W,C]."""
        return _tensor(self.layer(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


def _tensor(output: object) -> Tensor:
    """The output of a layer.

    Raises:
        TypeError: it is no tensor.
    """
    if not isinstance(output, Tensor):
        length = f" of {len(output)}" if isinstance(output, tuple | list) else ""
        raise TypeError(f"forward must return one tensor; got a {type(output).__name__}{length}; return its first part")
    return output


def adapt(layer: nn.Module, layout: Layout) -> nn.Module:
    """Wrap `layer` according to its declared layout."""
    if layout == "tokens":
        return FromTokens(layer)
    return FromImage(layer) if layout == "image" else layer
