"""Frozen dataclass <-> plain JSON values, checked against the dataclass's own annotations.

The one door through which jobs and events pass, whether they cross a process or come from the disk: a value of the
wrong type is an error that names its place, and a key that the class does not have is ignored (a newer version wrote
it). A class with `as_dict` and `from_dict` converts itself.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


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
        return data
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
        return {str(k): _decode(arguments[1], v, f"{where}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return _object(hint, data, where)
    if hint is float:
        _expect(isinstance(data, int | float) and not isinstance(data, bool), data, where, "a number")
        return float(data)
    if hint is int:
        return _expect(isinstance(data, int) and not isinstance(data, bool), data, where, "a whole number")
    if hint is type(None):
        return _expect(data is None, data, where, "null")
    return _expect(isinstance(data, hint), data, where, getattr(hint, "__name__", str(hint)))


def _one_of(hints: tuple[Any, ...], data: Any, where: str) -> Any:
    problems = []
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
            return cls.from_dict(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} is damaged: {type(error).__name__}: {error}") from error
    hints, given = _hints(cls), {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            given[field.name] = _decode(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} must have {field.name}; got {', '.join(map(str, data)) or 'nothing'}")
    return cls(**given)


def _expect(holds: bool, data: Any, where: str, what: str) -> Any:
    if not holds:
        text = repr(data)
        raise ValueError(f"{where} must be {what}; got {text if len(text) <= 60 else text[:57] + '...'}")
    return data


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
