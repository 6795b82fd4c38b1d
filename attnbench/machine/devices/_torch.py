"""Code for every kind of device: precision switches, and errors that mean that memory ran out."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator

import torch

# int8: weights of projections and the input of each product are quantized; everything else is fp32.
DTYPES = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32,
}  # fmt: skip
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "alloc_failed", "bad_alloc", "cudaerrormemoryallocation", "unable to allocate",
    "resource temporarily unavailable",  # no room for the stack of a thread
)  # fmt: skip


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of a precision.

    Raises:
        ValueError: the name is unknown.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}; got {precision!r}")
    return DTYPES[precision]


def switch_tf32(on: bool) -> None:
    """Switch TF32 on or off for matrix products and convolutions alike; PyTorch's defaults differ between the two."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch deprecate this switch, and still read it
        torch.backends.cudnn.allow_tf32 = on
    for owner in ("conv", "rnn"):
        switch = getattr(torch.backends.cudnn, owner, None)
        if switch is not None and hasattr(switch, "fp32_precision"):
            switch.fp32_precision = "tf32" if on else "ieee"


def require_fp32_on_cpu() -> None:
    """Compute fp32 matrix products and convolutions of oneDNN in full fp32, never in bf16."""
    for owner in ("matmul", "conv", "rnn"):
        switch = getattr(torch.backends.mkldnn, owner, None)
        if switch is not None and hasattr(switch, "fp32_precision"):
            switch.fp32_precision = "ieee"


def warm_up(call: Callable[[], object], forget: Callable[[], object] | None) -> None:
    """Call once, so that memory allocated only once (an index table, a library's buffers) does not count as growth."""
    call()
    if forget is not None:
        forget()
    gc.collect()


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes; each once, also where the chain is a cycle."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def out_of_memory(error: BaseException) -> bool:
    """Whether any error of the chain says that memory ran out: by its class, or by the words of a library."""
    own = getattr(torch, "OutOfMemoryError", MemoryError)
    return any(
        isinstance(e, MemoryError | own)
        or (isinstance(e, RuntimeError) and any(words in str(e).lower() for words in _OUT_OF_MEMORY))
        for e in chain(error)
    )
