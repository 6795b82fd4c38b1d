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
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

_PLAIN = (str, bool, float, type(None))  # that only one annotation takes, so that the first that fits is the one
LARGEST = 2**64  # a whole number of any kind: a seed has 64 bits
DEEPEST = 24  # levels of lists and objects in a value whose type is free
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")
_ALIKE = bytes.maketrans(b"123456789E]} \t\r\n", b"000000000e,,,,,,")  # each digit 0, what ends a number a comma
_EXPONENT, _LONG = re.compile(rb"e000+(?:,|\Z)"), b"0" * 200  # of a float beyond the largest; other text may match too
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
    doubtful = finite and _may_overflow(raw)  # elsewhere no float is looked at, which would take half the time
    try:
        return json.loads(text, parse_constant=_finite if finite else None, parse_float=_finite if doubtful else None)
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None


def _may_overflow(raw: bytes) -> bool:
    """Whether some number of these bytes may be too large for a float: 200 digits, or an exponent of 100 or more."""
    alike = raw.translate(_ALIKE, b"+")
    return _LONG in alike or _EXPONENT.search(alike) is not None


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
    hint: Any = cls
    made: _T = _decoder(hint)(data, where or cls.__name__)
    return made


@cache
def _hints(cls: type) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(cls).items() if get_origin(hint) is not ClassVar}


# What a value became, from the value and its place: a text, or the place around it with what is added to that.
_Decoder = Callable[[Any, Any], Any]


@cache
def _decoder(hint: Any) -> _Decoder:
    """What decodes the values of an annotation; made once for each, since a journal has millions of values."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        nested = f"nested at most {DEEPEST} levels deep"
        return lambda data, where: _expect(_depth(data) <= DEEPEST, data, where, nested)
    if origin in (Union, types.UnionType):
        return _one_of(arguments)
    if origin is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
        return lambda data, where: _expect(data in arguments, data, where, words)
    if origin is tuple:
        return _list(_decoder(arguments[0])) if arguments[1:] == (Ellipsis,) else _fixed([*map(_decoder, arguments)])
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_decoder(arguments[1]))
    if dataclasses.is_dataclass(hint):
        return _converted(hint) if hasattr(hint, "from_dict") else _fields(hint)
    if hint is float:
        return _float
    if hint is int:
        return lambda data, where: _expect(_is_whole(data), data, where, "a whole number")
    if hint is type(None):
        return lambda data, where: _expect(data is None, data, where, "null")
    kind, words = origin or hint, getattr(hint, "__name__", str(hint))
    return lambda data, where: _expect(isinstance(data, kind), data, where, words)


def _float(data: Any, where: Any) -> float:
    if type(data) is float:
        return data
    _expect(isinstance(data, float) or _is_whole(data), data, where, "a number")
    return float(data)


def _list(decoder: _Decoder) -> _Decoder:
    def decoded(data: Any, where: Any) -> Any:
        _expect(isinstance(data, list | tuple), data, where, "a list")
        return tuple([decoder(item, (where, f"[{i}]")) for i, item in enumerate(data)])

    return decoded


def _fixed(decoders: Sequence[_Decoder]) -> _Decoder:
    def decoded(data: Any, where: Any) -> Any:
        _expect(isinstance(data, list | tuple), data, where, "a list")
        _expect(len(data) == len(decoders), data, where, f"a list of {len(decoders)}")
        return tuple([decoder(item, where) for decoder, item in zip(decoders, data, strict=True)])

    return decoded


def _mapping(decoder: _Decoder) -> _Decoder:
    def decoded(data: Any, where: Any) -> Any:
        _expect(isinstance(data, Mapping), data, where, "an object")
        return {str(k): decoder(v, (where, ".", k)) for k, v in data.items()}

    return decoded


def _one_of(hints: tuple[Any, ...]) -> _Decoder:
    decoders, whole = [_decoder(hint) for hint in hints], int in hints

    def decoded(data: Any, where: Any) -> Any:
        if whole and _is_whole(data):
            return data  # and not the float that it would become where a float is named first
        if data.__class__ in hints and data.__class__ in _PLAIN:
            return data  # and no attempt at the hints before it
        problem = None
        for decoder in decoders:
            try:
                return decoder(data, where)
            except ValueError as error:
                problem = problem or error
        raise ValueError(str(problem))

    return decoded


def _converted(cls: Any) -> _Decoder:
    """Of a class that makes itself; what it made is checked."""
    checks = [(field.name, _decoder(_hints(cls)[field.name])) for field in dataclasses.fields(cls)]

    def decoded(data: Any, where: Any) -> Any:
        _expect(isinstance(data, Mapping), data, where, "an object")
        try:
            made = cls.from_dict(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{_place(where)} is damaged: {type(error).__name__}: {_short(error)}") from error
        for name, check in checks:
            check(getattr(made, name), (where, ".", name))
        return made

    return decoded


def _fields(cls: Any) -> _Decoder:
    of_fields = [
        (f.name, f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(cls)
    ]
    decoders = {name: _decoder(_hints(cls)[name]) for name, _ in of_fields}

    def decoded(data: Any, where: Any) -> Any:
        _expect(isinstance(data, Mapping), data, where, "an object")
        given = {}
        for name, needed in of_fields:
            if name in data:
                given[name] = decoders[name](data[name], (where, ".", name))
            elif needed:
                got = _short(", ".join(map(str, data))) or "nothing"
                raise ValueError(f"{_place(where)} must have {name}; got {got}")
        return cls(**given)

    return decoded


def _place(where: Any) -> str:
    """The place of a value, as text."""
    return f"{_place(where[0])}{''.join(map(_short, where[1:]))}" if isinstance(where, tuple) else str(where)


def _expect(holds: bool, data: Any, where: Any, what: str) -> Any:
    if not holds:
        raise ValueError(f"{_place(where)} must be {what}; got {_REPR.repr(data)}")
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
