"""Import a file with modules of its own: two versions of one code base in one process, each with its own siblings.

The file's package tree is imported below a package that exists in this process alone, `attnbench_NAMESPACE_HASH`: what
lies in the folder above the outermost package around the file, and at the top of its repository. Code of the tree finds
the tree's modules also by their absolute names: `from mechanisms.attend import attend` in one version of
mechanisms/van.py is that version's attend.py. For this, modules of the tree have an `__import__` of their own, which
looks in the tree first; no other module is touched. attnbench itself and the standard library are never the tree's.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

STATE_MARK = ".attnbench-state"  # a file at the top of a repository's copied state
TOPS = (".git", STATE_MARK)
_SHARED = frozenset({"attnbench", *sys.stdlib_module_names})


def import_apart(path: Path, namespace: str) -> ModuleType:
    """Import a Python file with its package tree under names of its own and return the module."""
    roots, name = locate(path.resolve())
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    tree = _Tree(f"attnbench_{namespace}_{key}", [*map(str, roots)])
    for loaded in [n for n in sys.modules if n.partition(".")[0] == tree.prefix]:
        del sys.modules[loaded]  # of an earlier import: it is run anew, as any plugin
    sys.meta_path[:] = [tree, *(f for f in sys.meta_path if getattr(f, "prefix", None) != tree.prefix)]
    top = ModuleType(tree.prefix)
    top.__path__ = tree.roots
    sys.modules[tree.prefix] = top
    return importlib.import_module(f"{tree.prefix}.{name}")


def locate(path: Path) -> tuple[list[Path], str]:
    """The folders that a file's tree is imported from, and the name of its module in the first.

    The first is the folder above the outermost package (a folder with `__init__.py`) around the file; the second, where
    there is one, the top of the repository, from which code without such files imports.
    """
    names, root = [path.stem], path.parent
    while (root / "__init__.py").is_file() and root.parent != root:
        names.append(root.name)
        root = root.parent
    tops = [folder for folder in (root, *root.parents) if any((folder / mark).exists() for mark in TOPS)]
    return list(dict.fromkeys([root, *tops[:1]])), ".".join(reversed(names))


class _Tree(importlib.abc.MetaPathFinder):
    """Finds the modules below `prefix` in the folders `roots`."""

    def __init__(self, prefix: str, roots: list[str]) -> None:
        self.prefix, self.roots = prefix, roots
        self.builtins = {**vars(builtins), "__import__": self.import_}
        self._owned: dict[str, bool] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The place of one of the tree's modules; None for any other."""
        if not fullname.startswith(f"{self.prefix}."):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self.builtins)
        return spec

    def import_(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Python's `__import__`, for code of the tree."""
        top = name.partition(".")[0]
        if level or not self._owns(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = importlib.import_module(f"{self.prefix}.{name}")
        if not fromlist:
            return sys.modules[f"{self.prefix}.{top}"]
        for word in fromlist:
            if word != "*" and hasattr(module, "__path__") and not hasattr(module, word):
                wanted = f"{module.__name__}.{word}"
                if importlib.util.find_spec(wanted) is not None:
                    importlib.import_module(wanted)
        return module

    def _owns(self, top: str) -> bool:
        """Whether the tree has a module of this name. As in Python, a package precedes a folder without `__init__`."""
        if top not in self._owned:
            mine = None if top in _SHARED else PathFinder.find_spec(top, self.roots)
            installed = importlib.util.find_spec(top) if mine and mine.origin is None else None
            self._owned[top] = mine is not None and (installed is None or installed.origin is None)
        return self._owned[top]


class _Loader(SourceFileLoader):
    """Runs a module's source with the tree's `__import__`."""

    def __init__(self, name: str, path: str, builtins_of_tree: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = builtins_of_tree

    def exec_module(self, module: ModuleType) -> None:
        """Run it; functions that it defines import as it does."""
        vars(module).update(__builtins__=self._builtins)
        super().exec_module(module)
