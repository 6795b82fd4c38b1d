"""softmax(q k^T + b) v: the one place where an attention kernel is chosen.

Kernels: `eager` (matmul, softmax, matmul: what the papers timed), `sdpa` (PyTorch's fused call, which chooses among
kernels of its own) and `flex` (torch.nn.attention.flex_attention). None falls back on another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_FLEX_ON_CPU = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float | None = None,
    kernel: str = "eager",
) -> Tensor:
    """Softmax attention.

    Args:
        q: queries [..., N, D]; four dimensions let the fused kernels run.
        k: keys [..., M, D].
        v: values [..., M, E].
        bias: added to the logits, broadcastable to [..., N, M]; -inf (or a large negative number) masks.
        scale: of the logits; D^-1/2 unless given.
        kernel: `eager`, `sdpa` or `flex`.

    Returns:
        [..., N, E]

    Raises:
        ValueError: an unknown kernel.
        RuntimeError: flex on the CPU with torch below 2.6.
    """
    if kernel == "eager":
        logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
        if bias is not None:
            logits = logits + bias
        return logits.softmax(dim=-1) @ v
    if kernel == "sdpa":
        if bias is not None and bias.requires_grad and torch.is_grad_enabled() and _on_gpu(q):
            return _without_cudnn(q, k, v, bias, scale)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    if kernel == "flex":
        return _flex(q, k, v, bias, scale)
    raise ValueError(f"kernel must be eager, sdpa or flex; got {kernel!r}")


def _on_gpu(q: Tensor) -> bool:
    return q.device.type == "cuda"


def _without_cudnn(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float | None) -> Tensor:
    """PyTorch's fused call without cuDNN's kernel, which it prefers on some GPUs and which cannot train a bias."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def _flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    if q.device.type == "cpu" and not _FLEX_ON_CPU:
        raise RuntimeError(
            f"flex_attention runs on the CPU from torch 2.6; got torch {torch.__version__}; use another kernel"
        )
    modify = None
    if bias is not None:
        table = bias.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])

        def modify(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + table[b, h, i, j]

    result: Tensor = _compiled_flex()(q, k, v, score_mod=modify, scale=scale)
    return result


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # one graph for one shape: without `fullgraph`, Dynamo runs the ninth shape unfused and says nothing
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)
