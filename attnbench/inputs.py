"""What comes in from users and plugins: numbers, names, lists, paths, files and reasons, checked and bounded.

Every reader of options, sweep files, variants, declarations and checkpoints uses these, so that a limit and its message
stand once. The limits are far above what can be measured. No torch here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from attnbench import inert
from attnbench.errors import AttnbenchError

MOST = 1_000_000  # of what is typed as a whole number: pixels, images, channels, calls
MOST_SETTING = 1 << 53  # of a setting: what a float, and a reader of JSON, holds exactly
MOST_SEED = (1 << 63) - 1
LONGEST_LIST, MOST_ITEMS = 100_000, 10_000  # characters and items of a comma list
LONGEST_VARIANT, DEEPEST = 2_000, 8  # characters of a variant, brackets within brackets
LONGEST_NAME = 64
LONGEST_WORD = 1_000  # characters of a setting's value, of a declaration's title and of the like
LONGEST_REASON = 500
LARGEST_SWEEP_FILE = 1 << 20  # bytes
_LONGEST_PATH, _LONGEST_PART = 4095, 255  # bytes, as Linux has it
_SHOWN = 60

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{LONGEST_NAME - 1}}}")


def brief(value: object, longest: int = _SHOWN) -> str:
    """A value for a message: its `repr`, or the first `longest` characters of it; never raises."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value[: 2 * longest] if isinstance(value, str | bytes | list | tuple) else value)
    except BaseException:  # a plugin's code may raise anything; or a number inside of a list is too long to print
        return f"a {type(value).__name__} that cannot be printed"
    if len(text) > longest:
        length = f" ({len(value)} characters)" if isinstance(value, str) else ""
        text = f"{text[: longest - 3]}...{length}"
    return text


def printable(text: str, longest: int = LONGEST_REASON) -> str:
    """Text of a plugin or a file for messages, records and tables: one line, bounded, and valid Unicode.

    Control characters, lone surrogates and marks that reorder the line are written as escapes (`attnbench.inert`).
    """
    safe = inert.plain(" ".join(text[: longest + 1].split()))
    return f"{safe[: longest - 3]}..." if len(safe) > longest or len(text) > longest else safe


def describe_error(error: BaseException, *, first_line: bool = False) -> str:
    """`Type: message`, or its first line, of an exception that a plugin or a library raised; never raises."""
    try:
        text = str(error)
    except BaseException:  # a plugin's code
        text = "its message cannot be printed"
    if first_line:
        text = text.strip().partition("\n")[0]
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def is_name(text: object) -> bool:
    """Whether it is a name that can be typed: ASCII letters, digits and `_`, at most `LONGEST_NAME` of them."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_mechanism_name(text: object) -> bool:
    """Whether it is a name, or NAMESPACE:NAME of a mechanism of a plugin that has a namespace."""
    return isinstance(text, str) and text.count(":") < 2 and all(map(is_name, text.split(":")))


def parse_whole(text: str) -> int | None:
    """The whole number that the text is, in ASCII digits; None for anything else, or for more than 30 digits."""
    return int(text) if _WHOLE.fullmatch(text) else None


def parse_number(text: str) -> float | None:
    """The finite number that the text is, in ASCII digits; None for anything else, `nan` and `inf` included."""
    if len(text) > LONGEST_WORD or not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) != float("inf") else None


def whole(name: str, value: object, *, least: int = 1, most: int = MOST) -> int:
    """A whole number within its limits, of an int or of text.

    Raises:
        AttnbenchError: it is another value.
    """
    found = parse_whole(value.strip()) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        below = isinstance(found, int) and not isinstance(found, bool) and found < least
        limits = f"of at least {least}" if below else f"from {least} to {most}"
        raise AttnbenchError(f"{name} must be a whole number {limits}; got {brief(value if found is None else found)}")
    return found


def positive(name: str, value: object, *, most: float) -> float:
    """A finite number above 0, of an int, a float or text.

    Raises:
        AttnbenchError: it is another value.
    """
    found = parse_number(value.strip()) if isinstance(value, str) else value
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 < found <= most:
        raise AttnbenchError(f"{name} must be a number above 0, at most {most:g}; got {brief(value)}")
    return float(found)


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """One of the known words.

    Raises:
        AttnbenchError: it is another value.
    """
    words = tuple(known)
    if not isinstance(value, str) or value not in words:
        raise AttnbenchError(f"{name} must be one of {', '.join(words)}; got {brief(value)}")
    return value


def path(name: str, text: object) -> str:
    """The text of a path that a file system can have.

    Raises:
        AttnbenchError: it is no text, is empty, has a NUL, or is too long.
    """
    if not isinstance(text, str | os.PathLike):
        raise AttnbenchError(f"{name} must be a path; got {brief(text)}")
    given = os.fspath(text)
    try:
        parts = [os.fsencode(part) for part in given.split(os.sep)]
    except UnicodeEncodeError:
        parts = [b"\0"]
    if not given or any(b"\0" in part for part in parts):
        raise AttnbenchError(f"{name} must be a path without control characters; got {brief(given)}")
    if max(map(len, parts)) > _LONGEST_PART or sum(map(len, parts)) + len(parts) > _LONGEST_PATH:
        raise AttnbenchError(
            f"{name} must be a path of at most {_LONGEST_PATH} bytes, each name in it of at most {_LONGEST_PART}; "
            f"got {brief(given)}"
        )
    return given


def regular_file(name: str, text: str, *, kind: str) -> Path:
    """The path of a regular file that is there; `kind` says what it should be, for the message.

    Raises:
        AttnbenchError: it is not there, or it is a folder, a device, a pipe.
    """
    file = Path(path(name, text))
    try:
        mode = file.stat().st_mode
    except OSError as error:
        remark = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise AttnbenchError(f"{name} must be {kind}; got {_shown(file)}, which {remark}") from error
    if not stat.S_ISREG(mode):
        raise AttnbenchError(f"{name} must be {kind}; got {_shown(file)}, which is no regular file")
    return file


def read_text(name: str, text: str, *, kind: str, largest: int) -> str:
    """The text of a regular file of at most `largest` bytes, in UTF-8.

    Raises:
        AttnbenchError: it is not there, is no regular file, is too large, or is no UTF-8.
    """
    file = regular_file(name, text, kind=kind)
    try:
        with file.open("rb") as opened:
            content = opened.read(largest + 1)
        if len(content) > largest:
            raise AttnbenchError(f"{name} must be {kind} of at most {largest} bytes; {_shown(file)} is larger")
        return content.decode("utf-8")
    except OSError as error:
        raise AttnbenchError(
            f"{name} must be {kind}; {_shown(file)} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise AttnbenchError(f"{name} must be {kind}; {_shown(file)} is no UTF-8 text: {error.reason}") from error


def _shown(file: Path) -> str:
    return brief(str(file), LONGEST_REASON)
