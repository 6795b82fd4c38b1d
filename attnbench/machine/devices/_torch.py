"""What the kinds of device share: precision switches, and errors that mean that memory ran out."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator

import torch

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "alloc_failed", "bad_alloc", "cudaerrormemoryallocation", "unable to allocate",
)  # fmt: skip


def dtype_of(precision: str) -> torch.dtype:
    """The dtype behind a precision's name."""
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}; got {precision!r}")
    return DTYPES[precision]


def switch_tf32(on: bool) -> None:
    """TF32 for matrix products and for convolutions alike; PyTorch's own defaults differ between the two."""
    torch.set_float32_matmul_precision("high" if on else "highest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch prefer the switches below, and still read this one
        torch.backends.cudnn.allow_tf32 = on
    for owner in ("conv", "rnn"):
        switch = getattr(torch.backends.cudnn, owner, None)
        if switch is not None and hasattr(switch, "fp32_precision"):
            switch.fp32_precision = "tf32" if on else "ieee"


def exact_on_host() -> None:
    """Full fp32 in oneDNN's products and convolutions: nothing may run them in bf16 unasked."""
    for owner in ("matmul", "conv", "rnn"):
        switch = getattr(torch.backends.mkldnn, owner, None)
        if switch is not None and hasattr(switch, "fp32_precision"):
            switch.fp32_precision = "ieee"


def settle(call: Callable[[], object], forget: Callable[[], object] | None) -> None:
    """One call, so that what is made once (an index table, a library's buffers) is held before and is not growth."""
    call()
    if forget is not None:
        forget()
    gc.collect()


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def out_of_memory(error: BaseException) -> bool:
    """Any error of the chain says that memory ran out."""
    own = getattr(torch, "OutOfMemoryError", MemoryError)
    return any(
        isinstance(e, MemoryError | own)
        or (isinstance(e, RuntimeError) and any(words in str(e).lower() for words in _OUT_OF_MEMORY))
        for e in chain(error)
    )
