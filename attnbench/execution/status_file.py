"""A few bytes that the runner and a worker share: whose turn it is, and whether to stop. Only this file knows them.

The file has no name, so nothing is left behind. The worker inherits its descriptor, maps the file into its memory and
closes the descriptor, so that a layer that writes to descriptors does not reach it. The file outlives the worker, so
that the arm that ended a process is known although the process can say nothing any more.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile

_ID_BYTES = 12  # of a cell's id
_STOP, _GO = b"S", b"-"


class StatusFile:
    """Byte 0: `S` asks the worker to stop. Bytes 1 to 12: the id of the cell whose code runs."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Make a new file, or use the one behind an inherited `descriptor`."""
        self._file = tempfile.TemporaryFile() if descriptor is None else None  # noqa: SIM115  closed by close()
        self._mapped = None if descriptor is None else _mapped(descriptor)
        self.descriptor = self._file.fileno() if self._file else -1

    def reset(self) -> None:
        """No cell, no wish to stop."""
        self._write(_GO + b"-" * _ID_BYTES, 0)

    def announce(self, cell: str) -> None:
        """From now on the code of this cell's layer runs; an empty id: none does."""
        self._write(cell.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"-"), 1)

    def cell(self) -> str:
        """The id that was announced last; empty when none was."""
        return self._read(_ID_BYTES, 1).decode("ascii", "replace").strip("-")

    def request_stop(self) -> None:
        """Ask the worker to stop before its next turn."""
        self._write(_STOP, 0)

    def stop_requested(self) -> bool:
        """Whether the worker should stop."""
        return self._read(1, 0) == _STOP

    def close(self) -> None:
        """Let the file go."""
        if self._file:
            self._file.close()

    def _write(self, data: bytes, offset: int) -> None:
        if self._mapped is None:
            os.pwrite(self.descriptor, data, offset)
        else:
            ctypes.memmove(self._mapped + offset, data, len(data))

    def _read(self, length: int, offset: int) -> bytes:
        if self._mapped is None:
            return os.pread(self.descriptor, length, offset)
        return ctypes.string_at(self._mapped + offset, length)


def _mapped(descriptor: int) -> int:
    """The address of the file's bytes in shared memory; the descriptor is closed.

    Python's own mmap would keep a copy of the descriptor open.

    Raises:
        OSError: the file cannot be mapped.
    """
    length = 1 + _ID_BYTES
    if os.fstat(descriptor).st_size < length:
        raise OSError("the status file must be reset before a worker opens it")
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    address = call(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "the status file cannot be mapped")
    os.close(descriptor)
    return int(address)
