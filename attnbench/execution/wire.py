"""One signed line a message: what a worker says reaches the runner only if the trusted loop wrote it.

A layer's code shares the process with the loop and inherits its descriptors, so it can write to the pipe. Each message
is therefore signed with a key that the runner draws for every job and hands to the loop before any plugin is imported.
A line that does not verify is noise and is skipped. This stops accidents and simple forgery; code that searches the
process's memory for the key is outside what one process can promise (SECURITY.md).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

# Bound before any plugin is imported, so that one that replaces them later does not reach what is signed.
_dumps, _loads, _write, _hmac, _same = json.dumps, json.loads, os.write, hmac.new, hmac.compare_digest
_set_blocking = os.set_blocking
_DIGEST = 16  # hexadecimal digits of the signature
_LONGEST = 1 << 26  # bytes of one line
_KEPT = 64  # bytes of a line that is longer
_CHUNKS = 64  # that one call reads at most, so that a flood of noise does not hold the reader past its deadline


def sign(message: Mapping[str, Any], key: str) -> bytes:
    """The message as a line of its own: a line break before it, too, ends whatever stands unfinished on the pipe."""
    text = _dumps(message, separators=(",", ":"), default=str)
    return f"\n{_signature(text, key)} {text}\n".encode()


def verify(line: bytes, *keys: str) -> dict[str, Any] | None:
    """The message of a line that one of the keys has signed; None for anything else."""
    signature, space, text = line.decode(errors="replace").partition(" ")
    if not space or not any(k and _same(signature, _signature(text, k)) for k in keys):
        return None
    message = _loads(text)
    return message if isinstance(message, dict) else None


def send(descriptor: int, message: Mapping[str, Any], key: str) -> None:
    """Write one message whole, also where a layer's code has set the pipe not to block."""
    data = sign(message, key)
    _set_blocking(descriptor, True)
    while data:
        data = data[_write(descriptor, data) :]


class Lines:
    """Whole lines from a descriptor that does not block; `closed` once the other end is."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.closed = False
        self._buffer = b""

    def discard(self) -> None:
        """Forget what has come so far, whole lines and a beginning."""
        self.read()
        self._buffer = b""

    def read(self) -> list[bytes]:
        """The lines that have come since the last call, without their breaks; of an endless one the beginning."""
        found: list[bytes] = []
        for _ in range(_CHUNKS):
            try:
                chunk = os.read(self.descriptor, 1 << 20)
            except BlockingIOError:
                return found
            if not chunk:
                self.closed = True
                return found
            *whole, self._buffer = (self._buffer + chunk).split(b"\n")
            found += whole
            if len(self._buffer) > _LONGEST:
                found.append(self._buffer[:_KEPT])
                self._buffer = b""
        return found


def _signature(text: str, key: str) -> str:
    return _hmac(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:_DIGEST]
