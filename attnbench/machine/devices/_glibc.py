"""Make glibc's malloc release memory immediately, so that resident memory equals memory in use.

By default, malloc keeps freed blocks resident and does not always reuse them: the resident peak of one attention
layer was then up to 10 % above the memory in use, and differed from call to call.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_TOP_PAD, _MMAP_THRESHOLD = -2, -3  # parameter numbers of mallopt
_DIRECT = 64 << 10  # blocks of at least this many bytes get their own mapping, unmapped when freed


class _Info(ctypes.Structure):
    """`struct mallinfo2`: among others, bytes in use on the heap (uordblks) and in mappings (hblkhd)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


@contextmanager
def release_immediately() -> Iterator[bool]:
    """Inside this context a freed block is no longer resident. Yields False if malloc is not glibc's.

    Afterwards glibc uses the parameters of the environment variables again. Without these its threshold no longer
    adapts, so do not measure time in a process that has measured memory.
    """
    libc = _library()
    if libc is None:
        yield False
        return
    libc.mallopt(_MMAP_THRESHOLD, _DIRECT)
    libc.mallopt(_TOP_PAD, 0)
    libc.malloc_trim(0)  # reuse of a block freed before would not grow the resident memory
    holes = _fill(libc)
    try:
        yield True
    finally:
        for block in holes:
            libc.free(block)
        libc.mallopt(_MMAP_THRESHOLD, _number("MALLOC_MMAP_THRESHOLD_", 128 << 10))
        libc.mallopt(_TOP_PAD, _number("MALLOC_TOP_PAD_", 128 << 10))


def _library() -> ctypes.CDLL | None:
    """The C library if it is a recent glibc and its malloc is in use; None otherwise."""
    if os.name != "posix":
        return None
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallinfo2", "mallopt", "malloc_trim")):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    libc.mallinfo2.restype = _Info
    size, before = 8 << 20, _in_use(libc)
    block = libc.malloc(size)
    grown = _in_use(libc) - before
    libc.free(block)
    return libc if grown >= size else None


def _fill(libc: ctypes.CDLL) -> list[int]:
    """Allocate every free range of the heap that could hold a large block; none of it becomes resident."""
    holes, size = [], 1 << 30
    while size >= _DIRECT:
        before = libc.mallinfo2()
        block = libc.malloc(size)
        after = libc.mallinfo2()
        if block is None or after.hblkhd > before.hblkhd or after.arena > before.arena:  # no such range is left
            libc.free(block)
            size //= 2
        else:
            holes.append(block)
    return holes


def _in_use(libc: ctypes.CDLL) -> int:
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, "")
    return min(int(value), 2**31 - 1) if value.isdecimal() else default
