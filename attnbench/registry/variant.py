"""A mechanism with settings, as text: `hilo[window_size=4,alpha=0.5]`.

The same spelling is typed, recorded and reported. A setting's value may itself be a variant
(`litv2_s[attention=hilo[alpha=0.5]]`). No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.errors import AttnbenchError
from attnbench.registry.declaration import Setting

_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Variant:
    """A mechanism's name and the given settings, in the order given."""

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __str__(self) -> str:
        if not self.settings:
            return self.name
        return f"{self.name}[{','.join(f'{key}={value_text(value)}' for key, value in self.settings)}]"

    def having(self, **settings: Setting) -> Variant:
        """Return the variant with more settings; one that is there already is replaced."""
        return Variant(self.name, tuple({**dict(self.settings), **settings}.items()))


def value_text(value: Setting) -> str:
    """A setting's value as it is typed: `true`, `4`, `0.5`, `bilinear`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_value(text: str) -> Setting:
    """Read a setting's value: true or false, an integer, a number, else the text itself."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_variant(text: str) -> Variant:
    """Read `name` or `name[key=value,...]`.

    Raises:
        AttnbenchError: the text has another form.
    """
    text = text.strip()
    name, bracket, rest = text.partition("[")
    if not _NAME.fullmatch(name) or (bracket and not rest.endswith("]")):
        raise AttnbenchError(
            f"a mechanism is written name or name[setting=value,...]; got {text!r}; "
            "for example 'hilo[window_size=4,alpha=0.5]'"
        )
    settings: dict[str, Setting] = {}
    for item in split_list(rest[:-1]) if bracket else ():
        key, equals, value = item.partition("=")
        if not equals or not _NAME.fullmatch(key.strip()) or not value.strip():
            raise AttnbenchError(f"a setting is written key=value; got {item!r} in {text!r}")
        if key.strip() in settings:
            raise AttnbenchError(f"a setting may be given once; got {key.strip()} twice in {text!r}")
        settings[key.strip()] = parse_value(value)
    return Variant(name, tuple(settings.items()))


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside brackets; an empty item is an error.

    Raises:
        AttnbenchError: an empty item, or brackets that do not match.
    """
    items, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth < 0:
            break
        if letter == "," and not depth:
            items.append(text[start:place])
            start = place + 1
    if depth:
        raise AttnbenchError(f"brackets must match; got {text!r}")
    items.append(text[start:])
    if any(not item.strip() for item in items):
        raise AttnbenchError(f"a comma list has no empty item; got {text!r}")
    return [item.strip() for item in items]


def join_list(variants: Iterable[Variant]) -> str:
    """The inverse of reading a comma list of variants."""
    return ",".join(map(str, variants))
