"""One turn of one arm: primer calls by time, then the timed calls. When to stop is another file's affair."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from attnbench.machine.devices import Device, Turn

_AT_MOST = 10_000  # primer calls: an end for a call that takes no time at all


def prime(
    device: Device,
    call: Callable[[], object],
    seconds: float = 0.05,
    at_least: int = 1,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Call as often as fits into `seconds`, by the time of the last call, and at least `at_least` times; how often.

    A call that follows another, larger layer finds its weights out of the caches and ran up to 3.2 times slower; the
    one after it does not (docs/methods.md).
    The device is waited for after each call, so that the time is that of calls done and not of calls queued.
    """
    start, done, last = clock(), 0, 0.0
    now = start
    while done < at_least or (now - start + last < seconds and done < _AT_MOST):
        call()
        device.synchronize()
        done += 1
        before, now = now, clock()
        last = now - before
    return done


def turn(device: Device, call: Callable[[], object], calls: int, *, cold: bool = False) -> Turn:
    """Time `calls` calls of a primed arm, with Python's garbage collector at rest.

    Raises:
        ValueError: no calls are asked for.
    """
    if calls < 1:
        raise ValueError(f"a turn needs at least one timed call; got calls={calls}")
    collecting = gc.isenabled()
    gc.disable()
    try:
        return device.time_calls(call, calls, cold=cold)
    finally:
        if collecting:
            gc.enable()
