"""An append-only file of JSON lines that survives a kill and a full disk at any byte; and how any file is read.

What stands in a run folder may have been damaged, or made by somebody else. A file is read only if it is a plain one,
never beyond a limit, and line by line: a FIFO, a device or many GB in its place end in a sentence.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attnbench.errors import AttnbenchError, UnfinishedError
from attnbench.results.lines import parse

LINE_BYTES = 1 << 24  # the longest line; a round of 1,000 arms has 1 MB
FILE_BYTES = 1 << 31  # the largest file of lines, and of run.json
# No fault of the request: with room, or on another disk, the same command resumes.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Journal:
    """An append-only file of JSON lines; a torn last line is dropped before the next is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self._file = -1
        self._whole, self._torn = 0, False

    def open(self) -> Journal:
        """Read what is there and make ready to append. What is there stays as it is until `drop_torn` or `append`.

        Raises:
            AttnbenchError: it cannot be read or written, is damaged, or is no plain file or a link.
        """
        self.lines, self._whole = read_lines(self.path)
        with disk_errors(self.path):
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self.path, flags, 0o666)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise AttnbenchError(
                        f"what a run writes is a plain file; {self.path} is a symbolic link; put the file in its place"
                    ) from error
                raise
            self._torn = os.fstat(self._file).st_size > self._whole
        return self

    def drop_torn(self) -> None:
        """Cut a torn last line off, now that the lines before it were found whole.

        Raises:
            AttnbenchError: the disk refused it.
        """
        with disk_errors(self.path):
            if self._torn:
                os.ftruncate(self._file, self._whole)
        self._torn = False

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
        with disk_errors(self.path, kind=UnfinishedError):
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


def read_lines(path: Path, *, having: str = "") -> tuple[list[dict[str, Any]], int]:
    """The whole JSON lines of a file and the number of bytes that they fill; a torn last line is not whole.

    Args:
        path: of the file.
        having: leave out, unread, the lines that do not hold this text in quotation marks.

    Raises:
        AttnbenchError: a line before the last is not a JSON object, a line is too long, or it is no plain file.
    """
    lines: list[dict[str, Any]] = []
    whole, wanted = 0, f'"{having}"'.encode() if having else b""
    with open_plain(path) as file:
        if file is None:
            return [], 0
        number, broken, problem = 0, 0, ""
        while raw := file.readline(LINE_BYTES + 1):
            number += 1
            if len(raw) > LINE_BYTES:
                broken, problem = number, f"it has more than {LINE_BYTES} bytes"
            if broken:  # by this line, or by one before, which was not the last
                raise AttnbenchError(
                    f"{path.name} must hold one JSON object a line; line {broken} of {path} is damaged: {problem}; "
                    "fix or delete that line (its cell will be measured again)"
                )
            if wanted not in raw and raw.endswith(b"\n"):
                whole += len(raw)
                continue
            try:
                value = parse(raw) if raw.endswith(b"\n") else None
                if not isinstance(value, dict):
                    raise ValueError("it is no JSON object")
            except ValueError as error:
                broken, problem = number, str(error)
                continue
            lines.append(value)
            whole += len(raw)
    return lines, whole


def read_json(path: Path) -> Any:
    """The one JSON value of a file; infinities are allowed in it.

    Raises:
        AttnbenchError: the file is missing, no plain file, too large or cannot be read.
        ValueError: it is not JSON.
    """
    with open_plain(path) as file:
        if file is None:
            raise AttnbenchError(f"{path} must be a file; there is none")
        return parse(file.read(), finite=False)  # a number here would be allocated, however small the file is


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO | None]:
    """Open a plain file to read it, without waiting for a writer as a FIFO does; None where there is nothing.

    Raises:
        AttnbenchError: it is no plain file, larger than `FILE_BYTES`, or cannot be read.
    """
    with disk_errors(path, "find out why, or name another folder"):
        if not os.path.lexists(path):
            yield None
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "")
            if kind or status.st_size > FILE_BYTES:
                what = kind or f"a file of {status.st_size} bytes"
                raise AttnbenchError(
                    f"{path} must be a plain file of at most {FILE_BYTES} bytes; it is {what}; "
                    "put the file of the run in its place, or name another folder"
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class disk_errors:  # noqa: N801  used as a function
    """Turn an error of the disk into a sentence: of `kind`, or `UnfinishedError` where the disk is full or broken."""

    def __init__(
        self,
        path: Path,
        remedy: str = "make room or choose another --out; what was written is kept",
        kind: type[AttnbenchError] = AttnbenchError,
    ) -> None:
        self.path, self.remedy, self.kind = path, remedy, kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise (UnfinishedError if error.errno in _OF_THE_DISK else self.kind)(
                f"{self.path} cannot be read or written: {error.strerror or error}; {self.remedy}"
            ) from error
