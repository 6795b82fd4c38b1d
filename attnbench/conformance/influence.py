"""Who influences whom, and how much is alive at once: what can be seen of a layer from outside."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A mask of -100 leaves e^-100 of an influence, a transform leaves rounding; both are none.
NONE = 1e-14
FUSED = ("scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd")


def influence(layer: nn.Module, x: Tensor, places: Sequence[tuple[int, int]], *, alone: bool = False) -> Tensor:
    """Which tokens the output at each of `places` depends on, by gradients.

    Args:
        layer: in float64.
        x: one image [1,H,W,C].
        places: positions (y, x) of the output.
        alone: one call for each place, for a layer whose images influence each other.

    Returns:
        bool [places, H, W]
    """
    if alone:
        return torch.cat([influence(layer, x, [place]) for place in places])
    copies = x.repeat(len(places), 1, 1, 1).requires_grad_()
    y = layer(copies)
    weight = torch.randn(y.shape[-1], generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    picked = torch.stack([y[i, place[0], place[1]] for i, place in enumerate(places)])
    (gradient,) = torch.autograd.grad((picked @ weight).sum(), copies, allow_unused=True)
    if gradient is None:
        return torch.zeros(copies.shape[:3], dtype=torch.bool)
    size = gradient.abs().amax(-1)
    return size > NONE * size.amax(dim=(1, 2), keepdim=True)


def peak_bytes(layer: nn.Module, x: Tensor) -> int:
    """The most that a forward call holds at once besides weights and input, by counting storages on `meta`."""
    with torch.no_grad(), _Alive() as alive:
        layer(x)
    return alive.peak


def fused_calls(layer: nn.Module, x: Tensor) -> set[str]:
    """Names of the fused attention functions of PyTorch that a forward call calls."""
    with torch.no_grad(), _FusedCalls() as seen:
        layer(x)
    return seen.names


class _FusedCalls(TorchFunctionMode):
    """Collects the names of fused attention functions; nn.MultiheadAttention's fast path is one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in FUSED:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class
    """Adds up the storages that operators make until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._watch((args, kwargs), made=False)
        result = func(*args, **(kwargs or {}))
        self._watch(result, made=True)
        return result

    def _watch(self, tensors: Any, *, made: bool) -> None:
        for leaf in tree_leaves(tensors):
            if not isinstance(leaf, Tensor):
                continue
            storage = leaf.untyped_storage()
            key, size = storage._cdata, storage.nbytes() if made else 0
            if key in self._known:
                continue
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)  # another storage may get this address
        self.now -= size
