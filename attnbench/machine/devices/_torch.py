"""What the kinds of device share: precision switches, ceilings, and how memory errors read."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from attnbench.machine.devices import Ceilings, Turn

if TYPE_CHECKING:
    from attnbench.machine.devices import Device

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "alloc_failed", "bad_alloc", "cudaerrormemoryallocation", "unable to allocate",
)  # fmt: skip
_LARGEST_SIDE = 16384
_LARGEST_COPY = 1 << 28


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


def ceilings(device: Device, dtype: torch.dtype, seconds: float) -> Ceilings:
    """Time a large square product, as large as about a tenth of `seconds` allows, and a large copy."""
    where = device.torch_device()
    room = device.free_bytes() // 8
    with torch.inference_mode():
        side = 512
        while True:
            a, b = (torch.randn(side, side, device=where).to(dtype) for _ in range(2))
            c = torch.empty_like(a)
            product = _bind(torch.mm, a, b, out=c)
            took = _best(device, product, 2)
            if took >= seconds / 10 or 2 * side > _LARGEST_SIDE or 16 * side**2 * a.element_size() > room:
                break
            side *= 2
        took = min(took, _best(device, product, _calls(took, seconds / 2)))
        del a, b, c, product
        source = torch.empty(max(1 << 20, min(_LARGEST_COPY, room)), dtype=torch.uint8, device=where).fill_(1)
        copy = _bind(torch.empty_like(source).copy_, source)
        once = _best(device, copy, 2)
        once = min(once, _best(device, copy, _calls(once, seconds / 2)))
    return Ceilings(macs_per_s=side**3 / took, bytes_per_s=2 * source.numel() / once)


def _bind(call: Callable[..., object], *args: object, **kwargs: object) -> Callable[[], object]:
    return lambda: call(*args, **kwargs)


def _best(device: Device, call: Callable[[], object], calls: int) -> float:
    turn: Turn = device.time_calls(call, calls)
    return max(min(turn.device_s), 1e-9)


def _calls(once: float, seconds: float) -> int:
    return max(2, min(200, int(seconds / once)))
