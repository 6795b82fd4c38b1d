"""An append-only file of JSON lines that survives a kill and a full disk at any byte."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError, UnfinishedError

# No fault of the request: with room, or on another disk, the same command resumes.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Journal:
    """An append-only file of JSON lines; a torn last line is dropped when it is opened for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._file = -1
        self._whole, self._torn = 0, False

    def open(self) -> Journal:
        """Read what is there and make ready to append."""
        self.lines, whole = read_lines(self.path)
        with disk_errors(self.path):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._whole = whole
            if os.fstat(self._file).st_size > whole:
                os.ftruncate(self._file, whole)
        return self

    def append(self, line: Mapping[str, Any], *, sync: bool = True) -> None:
        """Write one line at once; when this returns (with `sync`) it is on the disk.

        Raises:
            UnfinishedError: the disk refused it. Nothing of it stays, or a torn last line, which the next append or the
                next `open` removes.
            ValueError: the journal is not open, or the line holds a value that JSON has not.
        """
        if self._file < 0:
            raise ValueError("a journal is opened before it is written")
        data = (json.dumps(line, separators=(",", ":"), allow_nan=False, default=str) + "\n").encode()
        with disk_errors(self.path, UnfinishedError):
            if self._torn:
                os.ftruncate(self._file, self._whole)
            self._torn = True
            try:
                written = 0
                while written < len(data):  # a nearly full disk takes a part, and refuses the rest with its reason
                    written += os.write(self._file, data[written:])
                if sync:
                    os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._whole)
                raise
        self._torn = False
        self._whole += len(data)
        self.lines.append(dict(line))

    def close(self) -> None:
        """Close the file; it never raises, for nothing is buffered."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole JSON lines of a file and the number of bytes that they fill; a torn last line is not whole.

    Raises:
        AttnbenchError: a line before the last is not JSON.
    """
    if not path.exists():
        return [], 0
    with disk_errors(path):
        content = path.read_bytes()
    lines: list[dict[str, Any]] = []
    whole = 0
    for number, raw in enumerate(content.splitlines(keepends=True), 1):
        try:
            if not raw.endswith(b"\n"):
                break
            value = json.loads(raw)
            if not isinstance(value, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if whole + len(raw) == len(content):
                break  # the last line: torn while it was written
            raise AttnbenchError(
                f"{path.name} must hold one JSON object a line; line {number} of {path} is damaged; "
                "fix or delete that line (its cell will be measured again)"
            ) from error
        lines.append(value)
        whole += len(raw)
    return lines, whole


class disk_errors:  # noqa: N801  used as a function
    """Turn an error of the disk into a sentence: a `kind`, or an `UnfinishedError` where no request is at fault."""

    def __init__(self, path: Path, kind: type[AttnbenchError] = AttnbenchError) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise (UnfinishedError if error.errno in _OF_THE_DISK else self.kind)(
                f"{self.path} cannot be read or written: {error.strerror or error}; "
                "make room or choose another --out; what was written before is kept"
            ) from error
