"""What a mechanism says of itself: the `@mechanism` decorator and the `Declaration` it makes.

This is the only part of the harness that a mechanism's file imports. No torch here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from attnbench.errors import AttnbenchError

Setting = bool | int | float | str
Layout = Literal["grid", "tokens", "image"]
Scope = Literal["layer", "backbone", "task"]
Growth = Literal["linear", "quadratic"]
Approximated = Literal["", "msa"]

_EMPTY: Mapping[str, Any] = MappingProxyType({})
BUILT_FROM = ("dim", "heads", "grid", "stride", "resolution")


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a layer is built for. `grid` is (H, W) in tokens; `settings` are complete (defaults filled in).

    For a backbone or a task model `dim`, `heads` and `stride` are 0 and `grid` is the image in pixels.
    """

    dim: int
    heads: int
    grid: tuple[int, int]
    stride: int
    settings: Mapping[str, Setting]

    @property
    def tokens(self) -> int:
        """N = H W."""
        return self.grid[0] * self.grid[1]

    def padded(self, window: int) -> tuple[int, int]:
        """The grid rounded up to multiples of `window`."""
        return -(-self.grid[0] // window) * window, -(-self.grid[1] // window) * window


Reach = Callable[[Size, int, int], Iterable[tuple[int, int]]]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """All that the harness knows of a mechanism, a backbone or a task model.

    Attributes:
        name: registered name; equals the file's name for a layer of this project.
        build: the `nn.Module` class (or a function that returns a module).
        title: the idea in a few words.
        paper: a link or identifier; `year` of publication.
        repository: the authors' code, as owner/name; empty when there is none.
        defaults: the settings' default values, the only place where they stand.
        per_stride: the authors' settings where a stride's differ from `defaults`.
        macs: closed formula: multiply-accumulates of linear layers, convolutions and matrix products per
            image; `None` when the author gives none.
        declines: says why a size is outside the mechanism's domain, or returns None.
        kernels: kernels that the mechanism can run with; `("eager",)` for one without softmax(q k^T) v.
        kernels_at: which of them a size can run with, where that depends on its settings (a backbone with another
            attention inside); `None` where all can.
        layout: what `forward` takes: `grid` [B,H,W,C], `tokens` ([B,N,C], H, W) or `image` [B,C,H,W].
        reach: which tokens may influence the output at (y, x): "global" (all must), "data-dependent"
            (chosen by content) or a function of (size, y, x) that gives exactly them.
        growth: how the memory of one call grows with the number of tokens.
        approximates: "msa" for one whose output approximates msa's with the same projections; empty: nothing.
        random: the output differs between two calls on the same input.
        batch_coupled: why an image's result may depend on the rest of its batch, or a function of size that says it;
            empty when it does not.
        notes: what a reader of the counts must know (a published figure that is counted otherwise, say).
        source: where it was declared, for messages.
    """

    name: str
    build: Callable[..., Any]
    title: str = ""
    paper: str = ""
    year: int | None = None
    repository: str = ""
    scope: Scope = "layer"
    defaults: Mapping[str, Setting] = field(default_factory=dict)
    per_stride: Mapping[int, Mapping[str, Setting]] = field(default_factory=dict)
    macs: Callable[[Size], int] | None = None
    declines: Callable[[Size], str | None] | None = None
    kernels: tuple[str, ...] = ("eager",)
    kernels_at: Callable[[Size], tuple[str, ...]] | None = None
    layout: Layout = "grid"
    reach: Literal["global", "data-dependent"] | Reach = "data-dependent"
    growth: Growth | None = None
    approximates: Approximated = ""
    random: bool = False
    batch_coupled: str | Callable[[Size], str] = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def settings_at(self, stride: int) -> dict[str, Setting]:
        """The default settings of a layer at this stride."""
        return {**self.defaults, **self.per_stride.get(stride, {})}

    def coupling(self, size: Size) -> str:
        """Why images of one batch depend on each other at this size; empty where they do not."""
        return self.batch_coupled(size) if callable(self.batch_coupled) else self.batch_coupled


_T = TypeVar("_T", bound=Callable[..., Any])
_declared: list[Declaration] = []


def mechanism(
    *,
    name: str,
    title: str = "",
    paper: str = "",
    year: int | None = None,
    repository: str = "",
    scope: Scope = "layer",
    defaults: Mapping[str, Setting] = _EMPTY,
    per_stride: Mapping[int, Mapping[str, Setting]] = _EMPTY,  # type: ignore[assignment]
    macs: Callable[[Size], int] | None = None,
    declines: Callable[[Size], str | None] | None = None,
    kernels: tuple[str, ...] = ("eager",),
    kernels_at: Callable[[Size], tuple[str, ...]] | None = None,
    layout: Layout = "grid",
    reach: Literal["global", "data-dependent"] | Reach = "data-dependent",
    growth: Growth | None = None,
    approximates: Approximated = "",
    random: bool = False,
    batch_coupled: str | Callable[[Size], str] = "",
    notes: Mapping[str, str] = _EMPTY,
) -> Callable[[_T], _T]:
    """Declare the decorated class as a mechanism; see `Declaration` for what each word means.

    The class is built as `Class(dim, heads, **settings)`, and is given `grid` and `stride` too where its
    `__init__` has parameters of these names (a backbone: `resolution`). Settings are keyword-only.

    Example:
        >>> @mechanism(name="mine", defaults={"window_size": 7})          # doctest: +SKIP
        ... class Mine(nn.Module):
        ...     def __init__(self, dim, heads, *, window_size): ...
    """

    def declare(build: _T) -> _T:
        declaration = Declaration(
            name=name, build=build, title=title, paper=paper, year=year, repository=repository, scope=scope,
            defaults=dict(defaults), per_stride=dict(per_stride), macs=macs, declines=declines,
            kernels=kernels, kernels_at=kernels_at, layout=layout, reach=reach, growth=growth,
            approximates=approximates, random=random, batch_coupled=batch_coupled, notes=dict(notes),
            source=_where(build),
        )  # fmt: skip
        _check(declaration)
        _declared.append(declaration)
        return build

    return declare


def drain() -> list[Declaration]:
    """Hand over what has been declared since the last call (the registry's way to take it in)."""
    taken = list(_declared)
    _declared.clear()
    return taken


def parameters(build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The named parameters of a mechanism's constructor, without *args and **kwargs."""
    return {
        name: parameter
        for name, parameter in inspect.signature(build).parameters.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def _check(declaration: Declaration) -> None:
    name, takes = declaration.name, parameters(declaration.build)
    if not name.isidentifier():
        raise AttnbenchError(f"a mechanism's name must be an identifier; got {name!r} in {declaration.source}")
    wanted = [p for p in takes if p not in BUILT_FROM]
    stray = sorted(
        {*declaration.defaults, *(key for at in declaration.per_stride.values() for key in at)} - set(wanted)
    )
    if stray:
        raise AttnbenchError(
            f"{name} declares defaults that its __init__ does not take: {', '.join(stray)}; "
            f"it takes {', '.join(wanted) or 'no settings'} ({declaration.source})"
        )
    missing = [p for p in wanted if takes[p].default is inspect.Parameter.empty and p not in declaration.defaults]
    if missing:
        raise AttnbenchError(
            f"{name} declares no default for: {', '.join(missing)}; every setting needs one in "
            f"@mechanism(defaults=...) ({declaration.source})"
        )


def _where(build: Callable[..., Any]) -> str:
    try:
        path = inspect.getsourcefile(build) or build.__module__
        return f"{path}:{inspect.getsourcelines(build)[1]}"
    except (OSError, TypeError):
        return getattr(build, "__module__", "?")
