"""Bytes -> plain JSON values -> frozen dataclass, checked against the dataclass's own annotations; and back.

The one door through which jobs, events, records and run.json pass, whether they cross a process or come from the disk:
a value of the wrong type is an error that names its place, and a key that the class does not have is ignored (a newer
version wrote it). A class with `as_dict` and `from_dict` converts itself; the types of what it made are checked.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

LARGEST = 2**64  # a whole number of any kind: a seed has 64 bits
DEEPEST = 24  # levels of lists and objects in a value whose type is free
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 60


def parse(raw: bytes, *, finite: bool = True) -> Any:
    """One JSON value from its bytes in UTF-8. Half of a surrogate pair, which is no character, becomes its escape.

    Args:
        raw: the bytes.
        finite: refuse NaN, infinities and numbers that are too large for a float.

    Raises:
        ValueError: the bytes are not JSON, or are nested more deeply than Python reads.
    """
    text = raw.decode("utf-8")
    if "\\ud" in text or "\\uD" in text:
        text = _ESCAPE.sub(_whole_characters, text)
    checks: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite} if finite else {}
    try:
        return json.loads(text, **checks)
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None


def _whole_characters(escape: re.Match[str]) -> str:
    """A JSON escape as it is; that of half a surrogate pair as text."""
    lone = len(escape[0]) == 6 and escape[0][1] == "u"
    return f"\\{escape[0]}" if lone else escape[0]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number must be finite; got {text[:20]}")
    return number


def encode(value: Any) -> Any:
    """Plain values for `json.dumps`: dataclasses become objects, tuples lists."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [encode(v) for v in value]
    return value


def decode(cls: type[_T], data: Any, where: str = "") -> _T:
    """The inverse of `encode`.

    Raises:
        ValueError: a part is missing or has the wrong type; the message names its place.
    """
    made: _T = _decode(cls, data, where or cls.__name__)
    return made


@cache
def _hints(cls: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(cls).items() if get_origin(hint) is not ClassVar}


def _decode(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _expect(_depth(data) <= DEEPEST, data, where, f"nested at most {DEEPEST} levels deep")
    if origin in (Union, types.UnionType):
        return _one_of(arguments, data, where)
    if origin is Literal:
        return _expect(data in arguments, data, where, f"one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        _expect(isinstance(data, list | tuple), data, where, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
        _expect(len(data) == len(arguments), data, where, f"a list of {len(arguments)}")
        return tuple(_decode(h, item, where) for h, item in zip(arguments, data, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), data, where, "an object")
        return {str(k): _decode(arguments[1], v, f"{where}.{_short(k)}") for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return _object(hint, data, where)
    if hint is float:
        _expect(isinstance(data, float) or _is_whole(data), data, where, "a number")
        return float(data)
    if hint is int:
        return _expect(_is_whole(data), data, where, "a whole number")
    if hint is type(None):
        return _expect(data is None, data, where, "null")
    return _expect(isinstance(data, hint), data, where, getattr(hint, "__name__", str(hint)))


def _one_of(hints: tuple[Any, ...], data: Any, where: str) -> Any:
    problems = []
    if _is_whole(data) and int in hints:
        return data  # and not the float that it would become where a float is named first
    for hint in hints:
        try:
            return _decode(hint, data, where)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0])


def _object(cls: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), data, where, "an object")
    if hasattr(cls, "from_dict"):
        try:
            made = cls.from_dict(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} is damaged: {type(error).__name__}: {_short(error)}") from error
        for field in dataclasses.fields(cls):
            _decode(_hints(cls)[field.name], getattr(made, field.name), f"{where}.{field.name}")
        return made
    hints, given = _hints(cls), {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            given[field.name] = _decode(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} must have {field.name}; got {_short(', '.join(map(str, data))) or 'nothing'}")
    return cls(**given)


def _expect(holds: bool, data: Any, where: str, what: str) -> Any:
    if not holds:
        raise ValueError(f"{where} must be {what}; got {_REPR.repr(data)}")
    return data


def _is_whole(data: Any) -> bool:
    return isinstance(data, int) and not isinstance(data, bool) and -LARGEST <= data <= LARGEST


def _depth(data: Any) -> int:
    """Levels of lists and objects, counted up to one more than are allowed."""
    depth, level = 0, [data]
    while depth <= DEEPEST and (level := [v for v in level if isinstance(v, list | tuple | Mapping)]):
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, Mapping) else v)]
    return depth


def _short(text: object, most: int = 80) -> str:
    words = str(text)
    return words if len(words) <= most else f"{words[: most - 3]}..."


def significant(value: float, digits: int = 7) -> float:
    """The number rounded to so many significant digits: what a clock reading means, and no more bytes than that."""
    if not value or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def finite(value: Any) -> Any:
    """Plain values for strict JSON: dataclasses become objects, tuples lists, what is not finite None."""
    plain = encode(value)
    if isinstance(plain, dict):
        return {k: finite(v) for k, v in plain.items()}
    if isinstance(plain, list):
        return [finite(v) for v in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
