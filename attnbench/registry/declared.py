"""What a declaration must be like before a mechanism is registered: every value of the type that its readers expect."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief

if TYPE_CHECKING:
    from attnbench.registry.declaration import Declaration, Description

FUNCTIONS = ("macs", "refuses", "declines", "kernels_at", "dense_resolution")
# What other packages call the arguments that every layer is built with. Under such a name the layer would keep its own
# default, and its records would have the size of the sweep.
OTHER_NAMES = {
    "heads": ("num_heads", "n_heads", "n_head", "nhead", "nheads", "num_attention_heads", "head_count"),
    "dim": ("embed_dim", "d_model", "hidden_size", "hidden_dim", "channels", "in_channels", "num_channels", "in_dim"),
    "grid": ("input_resolution", "input_size", "feat_size", "fmap_size"),
}


def check_setting(name: str, value: object) -> None:
    """A setting is a bool, a bounded integer, a finite number or a short printable word.

    Args:
        name: of the setting, for the message.
        value: to be checked.

    Raises:
        AttnbenchError: it is another value.
    """
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > inputs.MOST_SETTING:
            raise AttnbenchError(f"{name} must be an integer from -2**53 to 2**53; got {brief(value)}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise AttnbenchError(f"{name} must be a finite number; got {value}")
    elif not isinstance(value, str):
        raise AttnbenchError(f"{name} must be true or false, a number or a word; got {brief(value)}")
    elif len(value) > inputs.LONGEST_VARIANT or not value.isprintable():
        raise AttnbenchError(
            f"{name} must be a word of at most {inputs.LONGEST_VARIANT} printable characters; got {brief(value)}"
        )


def check_keywords(given: Sequence[object], words: Iterable[str], known: Sequence[str], source: str) -> None:
    """Refuse a call of `@mechanism` that Python would end with a TypeError.

    Args:
        given: positional arguments, of which it takes none.
        words: keywords of the call.
        known: keywords that it takes.
        source: file and line of the call.

    Raises:
        AttnbenchError: the rule, the value, the nearest keyword, and where it was written.
    """
    words, where = list(words), f"in {inputs.printable(source)}"
    if given:
        raise AttnbenchError(f"@mechanism(name=...) takes keywords alone; got {brief(given[0])}; name it {where}")
    for word in words:
        if word not in known:
            raise AttnbenchError(
                f"a keyword of @mechanism must be one of {', '.join(known)}; got {brief(word)}"
                f"{_nearest(word, known)}; rename or remove it {where}"
            )
    if "name" not in words:
        raise AttnbenchError(f"@mechanism needs name; got {', '.join(words) or 'no keyword'}; add name=... {where}")


def check(declaration: Declaration) -> None:
    """Refuse a declaration that the harness could not plan, run or print.

    Raises:
        AttnbenchError: the rule, the value, and where it was declared.
    """
    try:
        if not inputs.is_name(declaration.name):
            raise AttnbenchError(
                f"a mechanism's name must be an identifier of ASCII letters, digits and _, at most "
                f"{inputs.LONGEST_NAME}; got {brief(declaration.name)}"
            )
        for problem in (*_words(declaration), *_functions(declaration), *_choices(declaration)):
            raise AttnbenchError(f"{declaration.name}: {problem}")
        _check_settings(declaration)
        _check_constructor(declaration)
    except AttnbenchError as error:
        raise AttnbenchError(f"{error} in {inputs.printable(str(declaration.source))}") from None


def parameters(build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a mechanism's constructor, without *args and **kwargs."""
    return {
        name: parameter
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def _words(d: Description) -> Iterator[str]:
    for name in ("display", "title", "paper", "repository"):
        text = getattr(d, name)
        if not isinstance(text, str) or len(text) > inputs.LONGEST_WORD or not text.isprintable():
            yield f"{name} must be printable text of at most {inputs.LONGEST_WORD} characters; got {brief(text)}"
    if d.year is not None and (type(d.year) is not int or not 0 < d.year < 10_000):
        yield f"year must be a year or None; got {brief(d.year)}"
    for name in ("random", "heads_divide_dim"):
        if not isinstance(getattr(d, name), bool):
            yield f"{name} must be True or False; got {brief(getattr(d, name))}"
    notes: object = d.notes
    if not isinstance(notes, Mapping) or not all(isinstance(x, str) for pair in notes.items() for x in pair):
        yield f"notes must map text to text; got {brief(notes)}"


def _functions(d: Description) -> Iterator[str]:
    for name in FUNCTIONS:
        if getattr(d, name) is not None and not callable(getattr(d, name)):
            yield f"{name} must be a function or None; got {brief(getattr(d, name))}"
    if not callable(d.batch_coupled) and not isinstance(d.batch_coupled, str):
        yield f"batch_coupled must be text or a function; got {brief(d.batch_coupled)}"


def _choices(d: Description) -> Iterator[str]:
    from attnbench.registry import declaration as words

    for name, known in (
        ("scope", get_args(words.Scope)),
        ("layout", get_args(words.Layout)),
        ("kind", get_args(words.Kind)),
        ("growth", (None, *get_args(words.Growth))),
        ("approximates", get_args(words.Approximated)),
    ):
        value = getattr(d, name)
        if not any(value is word or (isinstance(value, str) and value == word) for word in known):
            yield f"{name} must be one of {', '.join(map(repr, known))}; got {brief(value)}{_nearest(value, known)}"
    if d.reach is not None and not callable(d.reach) and d.reach not in words.REACHES:
        names = ", ".join(map(repr, words.REACHES))
        yield f"reach must be {names}, a function or None; got {brief(d.reach)}{_nearest(d.reach, words.REACHES)}"
    kernels: object = d.kernels
    if not isinstance(kernels, tuple) or not kernels or not all(k in words.KERNELS for k in kernels):
        wrong = [k for k in kernels if k not in words.KERNELS] if isinstance(kernels, tuple) else [kernels]
        hint = _nearest(wrong[0], words.KERNELS) if wrong else ""
        yield f"kernels must be a tuple of {', '.join(words.KERNELS)}; got {brief(kernels)}{hint}"
    pyramid: object = d.pyramid
    if pyramid is not None and not (
        isinstance(pyramid, tuple) and all(type(s) is int and 0 < s <= inputs.MOST for s in pyramid)
    ):
        yield f"pyramid must be a tuple of strides or None; got {brief(pyramid)}"


def _nearest(value: object, known: Iterable[object]) -> str:
    """`; did you mean 'tokens'?`, or nothing where no known word is near."""
    words = [word for word in known if isinstance(word, str) and word]
    near = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _check_settings(d: Declaration) -> None:
    tables: list[tuple[str, object]] = [("defaults", d.defaults)]
    per_stride: object = d.per_stride
    if not isinstance(per_stride, Mapping):
        raise AttnbenchError(f"{d.name}: per_stride must map strides to settings; got {brief(per_stride)}")
    for stride, at in per_stride.items():
        if type(stride) is not int or stride < 1:
            raise AttnbenchError(f"{d.name}: a stride of per_stride must be an integer above 0; got {brief(stride)}")
        tables.append((f"per_stride[{stride}]", at))
    for name, table in tables:
        if not isinstance(table, Mapping):
            raise AttnbenchError(f"{d.name}: {name} must map settings to values; got {brief(table)}")
        for key, value in table.items():
            if not inputs.is_name(key):
                raise AttnbenchError(
                    f"{d.name}: a setting's name has ASCII letters, digits and _, so that it can be typed; "
                    f"got {brief(key)}"
                )
            check_setting(f"{d.name}.{key}", value)


def _check_constructor(d: Declaration) -> None:
    from attnbench.registry.declaration import BUILT_FROM

    takes = parameters(d.build)
    for ours, theirs in OTHER_NAMES.items() if d.scope == "layer" else ():
        for p in takes:
            if p in theirs and ours not in takes:
                raise AttnbenchError(
                    f"{d.name}: a layer is built with {', '.join(BUILT_FROM[:4])} by these names; got {p} in its "
                    f"__init__; did you mean {ours}? Rename it, or wrap the class in one that takes {ours}"
                )
    wanted = [p for p in takes if p not in BUILT_FROM]
    stray = sorted({*d.defaults, *(key for at in d.per_stride.values() for key in at)} - set(wanted))
    if stray:
        raise AttnbenchError(
            f"{d.name} declares defaults that its __init__ does not take: {', '.join(stray)}; "
            f"it takes {', '.join(wanted) or 'no settings'}"
        )
    missing = [p for p in wanted if takes[p].default is inspect.Parameter.empty and p not in d.defaults]
    if missing:
        raise AttnbenchError(
            f"{d.name} declares no default for: {', '.join(missing)}; every setting needs one in "
            "@mechanism(defaults=...)"
        )
    asked = parameters(d.refuses) if d.refuses else {}
    known = (*BUILT_FROM, *d.defaults)
    unknown = [p for p in asked if p not in known and asked[p].default is inspect.Parameter.empty]
    if unknown:
        raise AttnbenchError(
            f"refuses takes what the constructor takes: {', '.join(known)}; "
            f"got {', '.join(unknown)} of {d.name}; rename or remove it"
        )
