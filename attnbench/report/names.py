"""Variants -> names as figures and papers write them: `HiLo`, `HiLo (α 0.5)`, `LITv2-S`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from attnbench.errors import AttnbenchError
from attnbench.published.partners import BACKBONES
from attnbench.registry.defaults import declared_display
from attnbench.registry.variant import parse_variant, value_text

SETTINGS = {"alpha": "α", "window_size": "window", "sr_ratio": "ratio"}  # the words of papers


@cache
def display(variant: str) -> str:
    """The name of a variant with the settings that it states; a plugin's name as it is."""
    try:
        parsed = parse_variant(variant)
    except AttnbenchError:
        return variant
    name = declared_display(parsed.name) or _backbones().get(parsed.name, parsed.name)
    settings = [f"{SETTINGS.get(key, key)} {value_text(value)}" for key, value in parsed.settings]
    return f"{name} ({', '.join(settings)})" if settings else name


@cache
def _backbones() -> Mapping[str, str]:
    """Our variant -> the published name of a classifier, the first where several are."""
    found: dict[str, str] = {}
    for name, (_, variants) in BACKBONES.items():
        for variant in variants:
            found.setdefault(variant, name)
    return found
