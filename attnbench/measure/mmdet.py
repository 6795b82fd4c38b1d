"""Count detectors and segmenters by the rules of mmdetection's counter, as the LIT papers did.

mmdetection counts in hooks on modules, selected by exact type. A convolution costs its products, and one per output
element for a bias; a linear layer its products only; a transposed convolution its products per input position, and
its bias; ReLU one per element; a norm one per input element, two with scale and shift; a pool one per input
element; nn.Upsample one per output element. Functions, GELU, softmax, nn.SyncBatchNorm, deformable kernels and
products of two activations are not counted. The LITv2 authors add the products of attention by formula.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnbench.measure.flops import on_meta

RULE = "mmdetection"


def total(module: nn.Module, x: Tensor) -> int | None:
    """The count that the LIT papers print for a detector or segmenter, per image; None for any other module.

    Args:
        module: a task model with the attribute `counted_as = "mmdetection"`.
        x: images [B, ...]; only the shape and the dtype of one image are used.
    """
    if getattr(module, "counted_as", None) != RULE:
        return None
    counts = _run(module, x)
    return counts.hooked + counts.products


def count(module: nn.Module, x: Tensor) -> int:
    """The operations per image that the hooks count, without products of activations."""
    return _run(module, x).hooked


def products(module: nn.Module, x: Tensor) -> int:
    """Multiply-accumulates per image of products of two activations, such as q k^T."""
    return _run(module, x).products


@dataclass(frozen=True)
class _Counts:
    hooked: int
    products: int


def _convolution(m: Any, x: Tensor, y: Tensor) -> int:
    per_position = m.weight[0].numel() * m.out_channels
    return (per_position + (m.out_channels if m.bias is not None else 0)) * (y.numel() // m.out_channels)


def _transposed(m: Any, x: Tensor, y: Tensor) -> int:
    per_position = m.weight.numel()  # in (out / groups) k k
    return per_position * (x.numel() // m.in_channels) + (y.numel() if m.bias is not None else 0)


def _linear(m: Any, x: Tensor, y: Tensor) -> int:
    return x.numel() * m.out_features


def _norm(m: Any, x: Tensor, y: Tensor) -> int:
    return x.numel() * (2 if getattr(m, "affine", False) or getattr(m, "elementwise_affine", False) else 1)


def _per_input(m: Any, x: Tensor, y: Tensor) -> int:
    return x.numel()


def _per_output(m: Any, x: Tensor, y: Tensor) -> int:
    return y.numel()


_HOOKS: dict[type, Callable[[Any, Tensor, Tensor], int]] = {
    nn.Conv1d: _convolution, nn.Conv2d: _convolution, nn.Conv3d: _convolution,
    nn.ConvTranspose2d: _transposed,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm, nn.GroupNorm: _norm, nn.LayerNorm: _norm, nn.InstanceNorm2d: _norm,
    nn.ReLU: _per_output, nn.ReLU6: _per_output, nn.PReLU: _per_output, nn.ELU: _per_output, nn.LeakyReLU: _per_output,
    nn.MaxPool2d: _per_input, nn.AdaptiveMaxPool2d: _per_input,
    nn.Upsample: _per_output,
}  # fmt: skip
# mean pooling is counted by operator: the authors' layers use modules for it, this project's use functions
_POOLS = (torch.ops.aten.avg_pool2d.default, torch.ops.aten._adaptive_avg_pool2d.default)
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}


class _Pools(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own class
    """Adds up the input elements of mean pooling, while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _POOLS:
            self.elements += args[0].numel()
        return func(*args, **(kwargs or {}))


class _Products(TorchFunctionMode):
    """Adds up the multiply-accumulates of matmul and similar calls; a linear layer is not such a call."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter, self.macs = counter, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        self.macs += (self.counter.get_total_flops() - before) // 2
        return result


def _run(module: nn.Module, x: Tensor) -> _Counts:
    """Run one image on the meta device with the hooks and the counters."""
    twin, hooked = on_meta(module), [0]

    def add(m: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        hooked[0] += _HOOKS[type(m)](m, inputs[0], output)

    for part in twin.modules():
        if type(part) in _HOOKS:
            part.register_forward_hook(add)
    image = torch.empty((1, *x.shape[1:]), device="meta", dtype=x.dtype)
    pools, counter = _Pools(), FlopCounterMode(display=False)
    products = _Products(counter)
    with warnings.catch_warnings(), torch.no_grad(), pools, counter, products:
        warnings.simplefilter("ignore")
        twin(image)
    return _Counts(hooked[0] + pools.elements, products.macs)
