"""Name -> Declaration -> module: built-in mechanisms, installed packages' entry points, --plugin files.

A plugin that cannot be loaded is reported as a problem and never crashes a command; a name that is declared twice is
refused with both sources. Importing this module is cheap; `load` imports torch with the mechanisms.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import numbers
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache as cached
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, describe_error
from attnbench.registry import catalogue, notebook, plugin_import
from attnbench.registry.declaration import BUILT_FROM, KERNELS, Declaration, ReadsKernel, Scope, Setting, Size, drain
from attnbench.registry.declared import check_setting, parameters
from attnbench.registry.native import absent_package
from attnbench.registry.plugin_file import PluginFile, parse_plugins
from attnbench.registry.plugin_import import contained, ends_process, import_file, no_exit, place_of, put_back
from attnbench.registry.variant import Variant, parse_variant

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINT_GROUP = "attnbench.mechanisms"
BUILTIN = "mechanisms"
_MOST_MACS = 1 << 63  # what a column of integers holds


@dataclass
class Registry:
    """The declared mechanisms by name, what went wrong while they were collected, and which plugin declared which.

    Attributes:
        origins: by name of a mechanism that is not attnbench's own: the plugin, in words.
    """

    declarations: dict[str, Declaration] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Declaration:
        if name in self.declarations:
            return self.declarations[name]
        if found := catalogue.find(name):
            return self.declarations.setdefault(name, found)
        near = (
            difflib.get_close_matches(name, self.declarations, n=3, cutoff=0.4)
            if inputs.is_mechanism_name(name)
            else ()
        )
        hint = "; ".join([f"nearest: {', '.join(near)}" if near else "see `attnbench list`", *self.problems[:3]])
        raise AttnbenchError(f"no mechanism is registered under this name; got {brief(name)}; {hint}")

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self.declarations.values())

    def names(self, scope: Scope | None = "layer") -> list[str]:
        """Registered names of one scope (`None`: of all), in alphabetical order."""
        return sorted(d.name for d in self if scope is None or d.scope == scope)

    def add(self, declarations: Iterable[Declaration]) -> None:
        """Register declarations; a name that is declared twice is refused. In a notebook the later one counts.

        Raises:
            AttnbenchError: a name is declared already, with both sources.
        """
        for new in declarations:
            old = self.declarations.get(new.name)
            if old is not None and old.source != new.source and not (_of_notebook(old) and _of_notebook(new)):
                raise AttnbenchError(
                    f"a name may be declared once; got {new.name!r} from {old.source} and from {new.source}; "
                    "rename one of them"
                )
            self.declarations[new.name] = new

    def check(self, variant: Variant) -> Variant:
        """The variant with its settings converted to their types, if the mechanism has these settings.

        Raises:
            AttnbenchError: an unknown mechanism or setting, or a value of the wrong type.
        """
        declaration = self[variant.name]
        known = {k: p for k, p in parameters(declaration.build).items() if k not in BUILT_FROM}
        checked: dict[str, Setting] = {}
        for key, value in variant.settings:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1) if inputs.is_name(key) else ()
                hint = f"; did you mean {near[0]}?" if near else ""
                raise AttnbenchError(
                    f"{variant.name} has no setting {brief(key)}; it has: {', '.join(known) or 'none'}{hint}"
                )
            default = declaration.defaults.get(key, known[key].default)
            check_setting(f"{variant.name}.{key}", value)
            checked[key] = _typed(variant.name, key, value, default)
        return Variant(variant.name, tuple(checked.items()))

    def size(
        self,
        variant: Variant,
        *,
        dim: int = 768,
        heads: int = 12,
        grid: tuple[int, int] = (14, 14),
        stride: int = 16,
    ) -> Size:
        """What `variant` is built for, with every setting filled in."""
        declaration = self[variant.name]
        settings = {**declaration.settings_at(stride), **dict(variant.settings)}
        if declaration.scope != "layer":
            dim = heads = stride = 0
        return Size(dim=dim, heads=heads, grid=grid, stride=stride, settings=settings)

    def declines(self, variant: Variant, size: Size) -> str | None:
        """Why the mechanism cannot be built for `size`, or None.

        The one place that decides it: `build`, a plan and `attnbench check` all ask here. What a plugin's own
        `refuses`, `declines` or `kernels_at` raises, and an answer of the wrong type, is returned as the reason.
        """
        declaration = self[variant.name]
        asked = "refuses" if declaration.refuses else "declines"
        try:
            with contained():
                reason: object = declaration.refusal(size) or ""
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's code: SystemExit and GeneratorExit too
            return f"its {asked}() raised {describe_error(error)}"
        if not isinstance(reason, str):
            return f"refuses() and declines() must return text or None; got {type(reason).__name__} of {variant.name}"
        if reason:
            return inputs.printable(reason) or f"its {asked}() gives a reason that cannot be printed"
        try:
            self.kernels(variant, size)
        except ValueError as error:
            return str(error)
        return None

    def kernels(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """What it can run with at this size, with these settings.

        Raises:
            ValueError: the mechanism's `kernels_at` raises, or gives something else than names of kernels.
        """
        declaration = self[variant.name]
        if declaration.kernels_at is None:
            return declaration.kernels
        try:
            with contained():
                offered: object = declaration.kernels_at(size)
                named = isinstance(offered, tuple | list) and offered and all(k in KERNELS for k in offered)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's code: SystemExit and GeneratorExit too
            raise ValueError(f"its kernels_at() raised {describe_error(error)}") from error
        if not named or not isinstance(offered, tuple | list):
            raise ValueError(f"its kernels_at() must return some of {', '.join(KERNELS)}; got {brief(offered)}")
        return tuple(offered)

    def macs(self, name: str, size: Size) -> int | None:
        """Multiply-accumulates of one image by the mechanism's own formula; None where it has none.

        Raises:
            ValueError: the formula raises, or gives no whole number from 0 to 2**63 - 1; the text is the reason.
        """
        formula = self[name].macs
        if formula is None:
            return None
        try:
            with contained():
                given: object = formula(size)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's formula, or a model around a layer without one
            raise ValueError(f"its formula raised {describe_error(error)}") from error
        if isinstance(given, numbers.Integral):
            given = int(given)
        if isinstance(given, int | float) and 0 <= given < _MOST_MACS:  # neither NaN nor infinite
            return int(given)
        raise ValueError(f"its formula must give a whole number from 0 to 2**63 - 1; got {brief(given)}")

    def origins_of(self, variant: Variant, size: Size) -> tuple[str, ...]:
        """The plugins whose code an arm runs: its own, and those of mechanisms that its settings name."""
        words = [str(value) for value in size.settings.values() if isinstance(value, str)]
        names = {variant.name, *re.findall(r"[\w:]+", " ".join(words))}
        return tuple(sorted({self.origins[name] for name in names if name in self.origins}))

    def build(self, variant: Variant, size: Size, *, kernel: str = "eager") -> nn.Module:
        """Build the module of `variant` for `size`; it maps [B,H,W,C] to [B,H,W,C] whatever its own layout.

        Raises:
            ValueError: the mechanism refuses this size, or has no such kernel; nothing has been built then.
        """
        from attnbench.registry.adapters import adapt

        declaration = self[variant.name]
        reason = self.declines(variant, size)
        if reason:
            raise ValueError(reason)
        offered = self.kernels(variant, size)
        if kernel not in offered:
            raise ValueError(f"{variant} runs with kernel {' or '.join(offered)}; got kernel={kernel}")
        if absent := absent_package(kernel):
            raise ValueError(absent)
        takes = parameters(declaration.build)
        layer = declaration.build(**{name: value for name, value in size.arguments.items() if name in takes})
        _use_kernel(layer, kernel, declaration)
        return adapt(layer, declaration.layout)


def _use_kernel(layer: nn.Module, kernel: str, declaration: Declaration) -> None:
    """Choose the kernel of every module that reads one.

    Those are the modules that inherit ReadsKernel. Plugins written before 0.2 have an attribute `kernel` instead: it
    is set where the mechanism declares more than `eager` and the attribute names a kernel already.
    """
    part: Any  # a plugin's attribute may be anything
    for part in layer.modules():
        if isinstance(part, ReadsKernel):
            part.use_kernel(kernel)
        elif declaration.kernels != ("eager",):
            named = getattr(part, "kernel", None)
            if isinstance(named, str) and named in KERNELS:
                part.kernel = kernel


def load(plugins: Iterable[str] = (), *, entry_points: bool = True, rehearse: bool = False) -> Registry:
    """Collect the built-ins, the entry points of installed packages, then `plugins` (paths of files).

    Args:
        plugins: Python files, as FILE.py or NAMESPACE=FILE.py.
        entry_points: whether installed packages' are imported.
        rehearse: import each plugin in a forked child first, so that one that ends its process does not end this one.

    Raises:
        AttnbenchError: a name declared twice, or a plugin file that is not there.
    """
    registry = Registry()
    registry.add(_builtin())
    _here.extend(drain())
    registry.add(_here)
    if entry_points and not os.environ.get("ATTNBENCH_DISABLE_PLUGINS"):
        for entry in plugin_import.entry_points_of(ENTRY_POINT_GROUP):
            if entry.value.split(":")[0] == BUILTIN:
                continue
            origin = entry.dist.name if entry.dist else "?"
            _take(registry, f"entry point {entry.name} of {origin}", lambda e=entry: e.load(), rehearse)
    for plugin in parse_plugins(plugins):
        catalogue.check_free(plugin)
        file = inputs.regular_file("a plugin", plugin.path, kind="a Python file")
        _take(registry, plugin.origin, partial(import_file, file, plugin.namespace), rehearse, plugin)
    return registry


@cached
def _builtin() -> tuple[Declaration, ...]:
    importlib.import_module(BUILTIN)
    found = drain()
    _here.extend(d for d in found if d.build.__module__.split(".")[0] != BUILTIN)
    return tuple(d for d in found if d.build.__module__.split(".")[0] == BUILTIN)


_here: list[Declaration] = []  # declared in this process by hand: in a notebook, say
_loaded: dict[str, list[Declaration]] = {}
_changed: dict[str, str] = {}  # what a plugin's import changed in the process, in words
_allowed: frozenset[str] | None = None  # the plugins that this process may import; None: all


def _of_notebook(declaration: Declaration) -> bool:
    """Whether it was declared in a notebook, or in the file that was made of it."""
    return notebook.is_by_hand(declaration) or notebook.FOLDER in declaration.source


def notebook_files(texts: Iterable[str], cache: Path) -> tuple[str, ...]:
    """Plugin files of the mechanisms of this notebook that `texts` (variants) name; of all where there is no text.

    Raises:
        AttnbenchError: a mechanism cannot be written to a file of its own.
    """
    _here.extend(drain())
    latest = {d.name: d for d in _here if notebook.is_by_hand(d)}
    named = set(re.findall(r"\w+", " ".join(texts))) or set(latest)
    return tuple(str(notebook.plugin_file(d, cache)) for n, d in latest.items() if n in named)


def restrict(origins: Iterable[str]) -> None:
    """From now on this process imports no plugins but these, named as in `Registry.origins`."""
    global _allowed
    _allowed = frozenset(origins)


def _take(
    registry: Registry, what: str, importer: Any, rehearse: bool = False, plugin: PluginFile | None = None
) -> None:
    if _allowed is not None and what not in _allowed:
        return
    if what not in _loaded:
        from attnbench.registry.process_state import ProcessState

        end = ends_process(importer) if rehearse else ""
        if end:
            registry.problems.append(f"{what} was left out: {end}")
            return
        before = ProcessState()
        try:
            with no_exit():
                importer()
            _loaded[what] = [_in_namespace(d, plugin) for d in drain()]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's code may raise anything, SystemExit and GeneratorExit too
            drain()
            at = place_of(error, plugin.path if plugin else "")
            registry.problems.append(f"{what} was left out: {describe_error(error)}{at and f' at {at}'}")
            return
        finally:
            _changed[what] = put_back(before)
    if _changed.get(what):
        registry.problems.append(f"{what} {_changed[what]}")
    if not _loaded[what]:
        registry.problems.append(f"{what} declares no mechanism: it has no class with @attnbench.mechanism(...)")
    registry.add(_loaded[what])
    registry.origins |= {declaration.name: what for declaration in _loaded[what]}


def _in_namespace(declaration: Declaration, plugin: PluginFile | None) -> Declaration:
    return replace(declaration, name=plugin.qualified(declaration.name)) if plugin else declaration


def _typed(name: str, key: str, value: Setting, default: Any) -> Setting:
    if default is inspect.Parameter.empty or default is None:
        return value
    kind = type(default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {bool: "true or false", int: "an integer", float: "a number", str: "a word"}
        raise AttnbenchError(
            f"{name}.{key} must be {words.get(kind, kind.__name__)}; got {brief(value)} (default {brief(default)})"
        )
    return value


def loaded() -> Registry:
    """All mechanisms of this process: as `load`, with the plugin files that were loaded before."""
    registry = load()
    for declarations in _loaded.values():
        registry.add(declarations)
    return registry


def names(scope: Scope | None = "layer") -> list[str]:
    """Names of the registered mechanisms (`scope="backbone"`: of whole models; `None`: of all)."""
    return load().names(scope)


def build(
    name: str,
    *,
    dim: int = 768,
    heads: int = 12,
    grid: tuple[int, int] = (14, 14),
    stride: int = 16,
    resolution: tuple[int, int] = (224, 224),
    kernel: str = "eager",
    **settings: Setting,
) -> nn.Module:
    """Build a layer ([B,H,W,C] to [B,H,W,C]) or, by a backbone's name, a model ([B,3,h,w] to logits).

    Args:
        name: a registered name, or a variant such as "hilo[alpha=0.5]".
        dim: channels C of a layer.
        heads: attention heads of a layer.
        grid: (H, W) in tokens.
        stride: image pixels per token; chooses the authors' default settings.
        resolution: (height, width) in pixels, for a backbone.
        kernel: "eager", "sdpa", "flex", or a package's: "natten".
        **settings: the mechanism's own settings.

    Raises:
        AttnbenchError: an unknown name or setting.
        ValueError: the mechanism refuses this size.
    """
    registry = load()
    variant = registry.check(parse_variant(name).having(**settings))
    place = grid if registry[variant.name].scope == "layer" else resolution
    size = registry.size(variant, dim=dim, heads=heads, grid=place, stride=stride)
    return registry.build(variant, size, kernel=kernel)
