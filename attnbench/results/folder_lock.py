"""A lock on a folder: one process at a time writes there, and the lock dies with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from attnbench.errors import AttnbenchError

LOCK = ".lock"


class FolderLock:
    """Held from its making until `close`, or until the process ends however it does.

    Raises:
        AttnbenchError: another process holds it, or a symbolic link stands in its place.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = _open(folder / LOCK)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise AttnbenchError(
                f"a run folder serves one run at a time; {folder} is in use by another process; wait, or use --out"
            ) from error

    def close(self) -> None:
        """Let go of the folder; a second call does nothing."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> int:
    """A descriptor of the lock file; a link there is refused, since opening it would touch what it points to.

    Raises:
        AttnbenchError: it is a symbolic link.
        OSError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AttnbenchError(f"a lock is a plain file; {path} is a symbolic link; delete it") from error
        raise
