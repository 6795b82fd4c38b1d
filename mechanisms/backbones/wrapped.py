"""A classifier that a library built, as this project uses models: logits, kernels by name, maps for dense tasks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from attnbench.registry.declaration import ReadsKernel
from mechanisms.backbones.names import rename

Maps = Callable[[nn.Module, Tensor], list[Tensor]]


def _no_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    raise ValueError(f"dense tasks read maps at strides 4 to 32, which {type(model).__name__} does not give here")


class LibraryModel(ReadsKernel, nn.Module):
    """Map images [B,3,h,w] to logits [B,classes].

    Args:
        model: the library's.
        kernels: the kernels of its attention.
        dims: channels of the maps that dense tasks read; None for a model without a pyramid.
        maps: from the model and images to these maps [B,C,H,W].
        prune: takes out what the maps do not need.
        norm_maps: whether dense tasks put a LayerNorm on each map.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        kernels: tuple[str, ...],
        dims: list[int] | None = None,
        maps: Maps = _no_maps,
        prune: Callable[[nn.Module], object] = nn.Module.eval,
        norm_maps: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.kernels, self.norm_maps = model, kernels, norm_maps
        self._maps, self._prune = maps, prune
        if dims is not None:
            self.dims = dims
        rename(self, "model.", "")
        self.use_kernel(kernels[0])

    def use_kernel(self, kernel: str) -> None:
        """Switch the fused attention of every layer inside that has one on (`sdpa`) or off (`eager`).

        Raises:
            ValueError: a kernel that the model does not have.
        """
        if kernel not in self.kernels:
            raise ValueError(f"this model runs with kernel {' or '.join(self.kernels)}; got kernel={kernel}")
        super().use_kernel(kernel)
        for part in self.model.modules():
            if hasattr(part, "fused_attn"):
                part.fused_attn = kernel == "sdpa"  # type: ignore[assignment]  # a plain attribute

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        y = self.model(x)
        return y if isinstance(y, Tensor) else y.logits

    def features(self, x: Tensor) -> list[Tensor]:
        """The pyramid for dense tasks: maps [B,C,H,W] with channels as in `dims`, before a norm."""
        return self._maps(self.model, x)

    def without_classifier(self) -> None:
        """Take out what `features` does not use."""
        self._prune(self.model)
