"""How a mechanism is described: the `@mechanism` decorator and the `Declaration` it makes.

This is the only part of the harness that a mechanism's file imports. No torch here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from attnbench.registry.declared import check, check_keywords, parameters
from attnbench.registry.native import NATIVE

Setting = bool | int | float | str
Layout = Literal["grid", "tokens", "image"]
Scope = Literal["layer", "backbone", "task"]
Growth = Literal["linear", "quadratic"]
Approximated = Literal["", "msa"]
Kind = Literal["attention", "gate", "convolution", "pooling", "fourier", "state-space"]
Extent = Literal["global", "sparse", "local", ""]
ReachWord = Literal["global", "data-dependent"]
Resolution = tuple[int, int]

BUILT_FROM = ("dim", "heads", "grid", "stride", "resolution")
KERNELS = ("eager", "sdpa", "flex", *NATIVE)
REACHES: tuple[str, ...] = get_args(ReachWord)


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

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, of which a constructor or `refuses` takes those that it names."""
        given = {"dim": self.dim, "heads": self.heads, "grid": self.grid, "stride": self.stride}
        return {**self.settings, **given, "resolution": self.grid}


class ReadsKernel:
    """Mixin of a module that computes softmax(q k^T) v with the kernel named by its attribute `kernel`.

    The registry calls `use_kernel` on every such module inside of what it has built.
    """

    kernel: str = "eager"

    def use_kernel(self, kernel: str) -> None:
        """Compute with `kernel`, one of those that the mechanism declares, from the next call on."""
        self.kernel = kernel


Reach = Callable[[Size, int, int], Iterable[tuple[int, int]]]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an author says about a mechanism, a backbone or a task model.

    Attributes:
        name: registered name; equals the file's name for a layer of this project.
        display: the name as figures and papers write it; empty: `name`.
        title: the idea in a few words.
        paper: a link or identifier; `year` of publication.
        repository: the authors' code, as owner/name; empty when there is none.
        scope: a layer, a whole backbone or a task model.
        kind: how tokens are mixed: `attention` (weights computed by comparing tokens, or channels), `gate` (a product
            with a map computed from the tokens), `convolution`, `pooling`, `fourier` or `state-space` (a scan).
        defaults: the settings' default values; the constructor has none.
        per_stride: the authors' settings where a stride's differ from `defaults`.
        macs: closed formula: multiply-accumulates of linear layers, convolutions and matrix products per
            image; `None` when the author gives none.
        refuses: why the mechanism cannot be built, or None; its parameters are any of the constructor's: `dim`,
            `heads`, `grid`, `stride` (`resolution` for a backbone) and settings, by name. It is called before
            anything is built.
        heads_divide_dim: whether `heads` must divide `dim`; only asked of a layer whose constructor takes `heads`.
        declines: as `refuses`, as a function of Size: the form of plugins written before 0.2.
        kernels: kernels that the mechanism can run with; `("eager",)` for one without softmax(q k^T) v.
        kernels_at: which of them a size can run with, where that depends on its settings (a backbone with another
            attention inside); `None` where all can.
        layout: what `forward` takes: `grid` [B,H,W,C], `tokens` ([B,N,C], H, W) or `image` [B,C,H,W].
        reach: which tokens may influence the output at (y, x): "global" (all must), "data-dependent"
            (chosen by content) or a function of (size, y, x) that gives exactly them; `None` where the author says
            nothing: then it is reported and not judged.
        growth: how the memory of one call grows with the number of tokens.
        approximates: "msa" for one whose output approximates msa's with the same projections; empty: nothing.
        random: the output differs between two calls on the same input.
        batch_coupled: why an image's result may depend on the rest of its batch, or a function of size that says it;
            empty when it does not.
        pyramid: strides of the maps that a backbone's `features(x)` returns; `()` for a backbone without them,
            `None` where the declaration does not say.
        dense_resolution: the image size in pixels that dense tasks build a backbone for, from the task's own image
            size; `None` for the latter itself.
        notes: what qualifies the counts (for example a published figure that is counted in another way).
    """

    name: str
    display: str = ""
    title: str = ""
    paper: str = ""
    year: int | None = None
    repository: str = ""
    scope: Scope = "layer"
    kind: Kind = "attention"
    defaults: Mapping[str, Setting] = field(default_factory=dict)
    per_stride: Mapping[int, Mapping[str, Setting]] = field(default_factory=dict)
    macs: Callable[[Size], int] | None = None
    refuses: Callable[..., str | None] | None = None
    heads_divide_dim: bool = True
    declines: Callable[[Size], str | None] | None = None
    kernels: tuple[str, ...] = ("eager",)
    kernels_at: Callable[[Size], tuple[str, ...]] | None = None
    layout: Layout = "grid"
    reach: ReachWord | Reach | None = None
    growth: Growth | None = None
    approximates: Approximated = ""
    random: bool = False
    batch_coupled: str | Callable[[Size], str] = ""
    pyramid: tuple[int, ...] | None = None
    dense_resolution: Callable[[Resolution], Resolution] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Declaration(Description):
    """A registered mechanism: its author's description, what builds it, and where it was declared.

    Attributes:
        build: the `nn.Module` class (or a function that returns a module).
        source: where it was declared, for messages.
    """

    build: Callable[..., Any]
    source: str = ""

    def settings_at(self, stride: int) -> dict[str, Setting]:
        """The default settings of a layer at this stride."""
        return {**self.defaults, **self.per_stride.get(stride, {})}

    def extent(self, size: Size) -> Extent:
        """From how far a token may be influenced at this size; empty for a whole model.

        `global`: from everywhere (or from where the content chooses); `sparse`: from border to border, but not by
        every token (stripes, grids); `local`: from a part of the map.
        """
        if self.scope != "layer":
            return ""
        if not callable(self.reach):
            return "global"
        seen = set(self.reach(size, size.grid[0] // 2, size.grid[1] // 2))
        if len(seen) == size.tokens:
            return "global"
        sides = [max(at) - min(at) + 1 for at in zip(*seen, strict=True)]
        return "sparse" if all(side >= full - 1 for side, full in zip(sides, size.grid, strict=True)) else "local"

    def coupling(self, size: Size) -> str:
        """Why images of one batch depend on each other at this size; empty where they do not."""
        return self.batch_coupled(size) if callable(self.batch_coupled) else self.batch_coupled

    def refusal(self, size: Size) -> str | None:
        """Why the mechanism cannot be built for this size, or None; raises what the author's functions raise."""
        splits = self.scope == "layer" and self.heads_divide_dim and "heads" in parameters(self.build)
        if splits and (size.heads < 1 or size.dim % size.heads):
            return f"heads must divide dim; got heads={size.heads}, dim={size.dim}"
        if self.refuses is not None:
            named, given = parameters(self.refuses), size.arguments
            reason = self.refuses(**{name: given[name] for name in named if name in given})
            if reason:
                return reason
        return self.declines(size) if self.declines is not None else None


_T = TypeVar("_T", bound=Callable[..., Any])
_declared: list[Declaration] = []


class mechanism(Description):  # noqa: N801  # a decorator
    """Declare the decorated class as a mechanism; see `Description` for what each word means.

    The class is built as `Class(dim, heads, **settings)`, and is given `grid` and `stride` too where its
    `__init__` has parameters of these names (a backbone: `resolution`). Settings are keyword-only. What the
    constructor cannot be built from is said by `refuses`, so `__init__` need not check it again.

    Example:
        >>> def refuses(window_size):
        ...     return None if window_size > 0 else f"window_size must be at least 1; got window_size={window_size}"
        >>> @mechanism(name="mine", defaults={"window_size": 7}, refuses=refuses)  # doctest: +SKIP
        ... class Mine(nn.Module):
        ...     def __init__(self, dim, heads, *, window_size): ...
    """

    if not TYPE_CHECKING:  # type checkers read the keywords from Description
        __signature__ = inspect.signature(Description)

        def __new__(cls, *given: object, **words: object) -> mechanism:
            """Check the keywords before Python does."""
            caller = sys._getframe(1)
            source = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            check_keywords(given, words, [f.name for f in fields(Description)], source)
            return super().__new__(cls)

    def __call__(self, build: _T) -> _T:
        """Record the declaration and return the class as it is."""
        words = {f.name: getattr(self, f.name) for f in fields(self)}
        kernels = tuple(self.kernels) if isinstance(self.kernels, list) else self.kernels
        declaration = Declaration(**{**words, "kernels": kernels}, build=build, source=_where(build, sys._getframe(1)))
        check(declaration)
        _declared.append(declaration)
        return build


def drain() -> list[Declaration]:
    """Return what has been declared since the last call (the registry collects declarations this way)."""
    taken = list(_declared)
    _declared.clear()
    return taken


def _where(build: Callable[..., Any], caller: FrameType) -> str:
    """The file and line of the class, or of the call that declares it where the class is in another file."""
    try:
        path = inspect.getsourcefile(build)
        if path == caller.f_code.co_filename:
            return f"{path}:{inspect.getsourcelines(build)[1]}"
    except (OSError, TypeError):
        if getattr(build, "__module__", "") == "__main__":  # a notebook's, which may declare it again
            return "__main__"
    return f"{caller.f_code.co_filename}:{caller.f_lineno}"
