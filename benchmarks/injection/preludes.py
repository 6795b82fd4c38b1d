"""What every process of a session runs first when a fault needs it (sitecustomize)."""

from __future__ import annotations

PRELUDE = """
import sys
def _fault(sign={sign!r}):
    open(sign, "a").close()
_runner = "attnbench.execution.worker" not in " ".join(sys.orig_argv)
"""
REFUSES = """
import os, errno
_left, _write, _truncate = [{room}], os.write, os.ftruncate
def _refuse(*_):
    _fault()
    raise OSError({code}, os.strerror({code}))
def _nearly_full(descriptor, data):
    if not _left[0]:
        _refuse()
    part = data[: _left[0]]
    _left[0] -= len(part)
    return _write(descriptor, part)
if _runner:
    os.write = _nearly_full
    if {also}:
        os.ftruncate = lambda *a: _refuse() if not _left[0] else _truncate(*a)
"""
CLOCK = """
import datetime, time
_left, _time, _now = [{calls}], time.time, datetime.datetime.now
def _set(seconds):
    _left[0] -= 1
    if _left[0] < 0:
        _fault()
    return seconds + ({by} if _left[0] < 0 else 0)
class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
time.time = lambda: _set(_time())
time.time_ns = lambda: int(time.time() * 1e9)
datetime.datetime = _Datetime
"""
