"""What kind of token mixing a variant of a stored record does, and from how far: the declaration's words. No torch."""

from __future__ import annotations

from functools import cache

from attnbench.errors import AttnbenchError
from attnbench.registry.defaults import declared_mixing
from attnbench.registry.variant import parse_variant


@cache
def mixing(variant: str) -> tuple[str, str]:
    """Kind and reach of a variant, those of its backbone for a task model; `("attention", "")` where unknown."""
    try:
        parsed = parse_variant(variant)
    except AttnbenchError:
        return "attention", ""
    inside = dict(parsed.settings).get("backbone")
    name = str(inside).partition("[")[0] if inside else parsed.name
    return declared_mixing(name) or ("attention", "")
