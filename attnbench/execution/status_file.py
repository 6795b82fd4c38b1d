"""A few bytes that the runner and a worker share: whose turn it is, and whether to stop. Only this file knows them.

The file has no name, so nothing is left behind; the worker inherits its descriptor. It outlives the worker, so that
the arm that ended a process is known although the process can say nothing any more.
"""

from __future__ import annotations

import os
import tempfile

_ID_BYTES = 12  # of a cell's id
_STOP, _GO = b"S", b"-"


class StatusFile:
    """Byte 0: `S` asks the worker to stop. Bytes 1 to 12: the id of the cell whose code runs."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Make a new file, or use the one behind an inherited `descriptor`."""
        self._file = tempfile.TemporaryFile() if descriptor is None else None  # noqa: SIM115  closed by close()
        self.descriptor = self._file.fileno() if self._file else descriptor or 0

    def reset(self) -> None:
        """No cell, no wish to stop."""
        os.pwrite(self.descriptor, _GO + b"-" * _ID_BYTES, 0)

    def announce(self, cell: str) -> None:
        """From now on the code of this cell's layer runs; an empty id: none does."""
        os.pwrite(self.descriptor, cell.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"-"), 1)

    def cell(self) -> str:
        """The id that was announced last; empty when none was."""
        return os.pread(self.descriptor, _ID_BYTES, 1).decode("ascii", "replace").strip("-")

    def request_stop(self) -> None:
        """Ask the worker to stop before its next turn."""
        os.pwrite(self.descriptor, _STOP, 0)

    def stop_requested(self) -> bool:
        """Whether the worker should stop."""
        return os.pread(self.descriptor, 1, 0) == _STOP

    def close(self) -> None:
        """Let the file go."""
        if self._file:
            self._file.close()
