"""A mechanism with settings, as text: `hilo[window_size=4,alpha=0.5]`, or `base:mine` of a plugin with a namespace.

The same spelling is typed, recorded and reported. A setting's value may itself be a variant
(`litv2_s[attention=hilo[alpha=0.5]]`). No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief
from attnbench.registry.declaration import Setting


@dataclass(frozen=True)
class Variant:
    """A mechanism's name and the given settings, in the order given."""

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __str__(self) -> str:
        if not self.settings:
            return self.name
        return f"{self.name}[{','.join(f'{key}={value_text(value)}' for key, value in self.settings)}]"

    def having(self, /, **settings: Setting) -> Variant:
        """Return the variant with more settings; one that is there already is replaced."""
        return Variant(self.name, tuple({**dict(self.settings), **settings}.items()))


def value_text(value: Setting) -> str:
    """A setting's value as it is typed: `true`, `4`, `0.5`, `bilinear`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_value(text: str) -> Setting:
    """Read a setting's value: true or false, an integer, a finite number in ASCII digits, else the text itself."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    whole = inputs.parse_whole(text)
    if whole is not None:
        return whole
    number = inputs.parse_number(text)
    return text if number is None else number


def parse_variant(text: str) -> Variant:
    """Read `name` or `name[key=value,...]`.

    Raises:
        AttnbenchError: the text has another form, or is longer or nested more deeply than any variant.
    """
    if not isinstance(text, str) or len(text) > inputs.LONGEST_VARIANT:
        raise AttnbenchError(
            f"a mechanism is written in at most {inputs.LONGEST_VARIANT} characters, name or name[setting=value,...]; "
            f"got {brief(text)}"
        )
    text = text.strip()
    name, bracket, rest = text.partition("[")
    if not inputs.is_mechanism_name(name) or (bracket and not rest.endswith("]")):
        raise AttnbenchError(
            f"a mechanism is written name or name[setting=value,...]; got {brief(text)}; "
            "for example 'hilo[window_size=4,alpha=0.5]', or base:hilo of a plugin with the namespace base"
        )
    settings: dict[str, Setting] = {}
    for item in split_list(rest[:-1]) if bracket else ():
        key, equals, value = item.partition("=")
        if not equals or not inputs.is_name(key.strip()) or not value.strip():
            raise AttnbenchError(f"a setting is written key=value; got {brief(item)} in {brief(text)}")
        if key.strip() in settings:
            raise AttnbenchError(f"a setting may be given once; got {key.strip()} twice in {brief(text)}")
        settings[key.strip()] = parse_value(value)
    return Variant(name, tuple(settings.items()))


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside brackets; an empty item is an error.

    Raises:
        AttnbenchError: an empty item, brackets that do not match, or more text, items or depth than a list may have.
    """
    if len(text) > inputs.LONGEST_LIST:
        raise AttnbenchError(f"a comma list has at most {inputs.LONGEST_LIST} characters; got {len(text)}")
    items, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth < 0:
            break
        if depth > inputs.DEEPEST:
            raise AttnbenchError(f"brackets may stand {inputs.DEEPEST} deep; got more in {brief(text)}")
        if letter == "," and not depth:
            items.append(text[start:place])
            start = place + 1
    if depth:
        raise AttnbenchError(f"brackets must match; got {brief(text)}")
    items.append(text[start:])
    if len(items) > inputs.MOST_ITEMS:
        raise AttnbenchError(f"a comma list has at most {inputs.MOST_ITEMS} items; got {len(items)}: {brief(text)}")
    if any(not item.strip() for item in items):
        raise AttnbenchError(f"a comma list has no empty item; got {brief(text)}")
    return [item.strip() for item in items]


def join_list(variants: Iterable[Variant]) -> str:
    """The inverse of reading a comma list of variants."""
    return ",".join(map(str, variants))
