"""A mechanism that was defined in a notebook cell -> a file that worker processes can import.

The file holds the mechanism's own source and, of what it uses, the imports, the functions and classes defined in other
cells, and plain constants; nothing else of the notebook is executed again. It is named by its content and kept in the
user's cache, so that the same cells give the same plan.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.inputs import brief
from attnbench.registry.declaration import Declaration

MAIN = "__main__"  # the module of what stands in no file
FOLDER = "notebook-mechanisms"
REMEDY = "write the mechanism into a file and name it with plugins=('FILE.py',)"
_CONSTANTS = (int, float, complex, str, bytes, bool, type(None))


def is_by_hand(declaration: Declaration) -> bool:
    """Whether it was declared in a notebook or at a prompt."""
    return declaration.build.__module__ == MAIN


def plugin_file(declaration: Declaration, cache: Path) -> Path:
    """Write the mechanism and what it uses to a file in the `cache`; the same source gives the same file.

    Raises:
        AttnbenchError: its source is not known, it is that of a script, or it uses something that no import gives.
    """
    main = sys.modules[MAIN]
    if getattr(main, "__file__", None):
        raise AttnbenchError(
            f"a worker process imports mechanisms from files; {declaration.name} is declared in the script "
            f"{main.__file__}, which would run again there; {REMEDY}"
        )
    parts: dict[str, str] = {}
    _collect(declaration.build.__name__, declaration.build, vars(main), parts, declaration.name)
    text = "\n\n".join(parts.values()) + "\n"
    folder = cache / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{declaration.name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.py"
    if not file.exists():
        file.write_text(text)
    return file


def _collect(name: str, value: Any, main: dict[str, Any], parts: dict[str, str], mechanism: str) -> None:
    """Add to `parts`, by name, the source of what `name` stands for, after that of all it uses."""
    if name in parts:
        return
    if isinstance(value, ModuleType):
        parts[name] = f"import {value.__name__} as {name}"
    elif isinstance(value, _CONSTANTS):
        parts[name] = f"{name} = {value!r}"
    elif getattr(value, "__module__", MAIN) != MAIN and hasattr(value, "__qualname__"):
        first, *rest = value.__qualname__.split(".")
        whole = f"from {value.__module__} import {first}"
        parts[name] = f"{whole}\n{name} = {value.__qualname__}" if rest else f"{whole} as {name}"
    elif inspect.isclass(value) or inspect.isfunction(value):
        source = _source(name, value, mechanism)
        parts[name] = ""  # a name that it uses may use it in turn
        for used in sorted(_globals_of(source)):
            if used in main and used not in vars(builtins):
                _collect(used, main[used], main, parts, mechanism)
        del parts[name]
        parts[name] = source
    else:
        raise AttnbenchError(
            f"a mechanism of a notebook may use its imports, functions, classes and plain constants; {mechanism} "
            f"uses {name}, which is {brief(value)} of type {type(value).__name__}; make it a setting, or {REMEDY}"
        )


def _source(name: str, value: Any, mechanism: str) -> str:
    """The definition of a class or function with its decorators, out of the cell that it stands in."""
    for code in _codes(value):
        text = "".join(linecache.getlines(code))
        for node in ast.parse(text).body if text else ():
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == value.__name__:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise AttnbenchError(
        f"a worker process needs a mechanism's source; that of {name}, which {mechanism} uses, is not known; {REMEDY}"
    )


def _codes(value: Any) -> Iterator[str]:
    """The names of the files that a class or function was compiled from."""
    functions: Iterable[Any] = vars(value).values() if inspect.isclass(value) else (value,)
    for function in functions:
        inner = inspect.unwrap(function) if callable(function) else function
        if hasattr(inner, "__code__"):
            yield inner.__code__.co_filename


def _globals_of(source: str) -> set[str]:
    """The names that a definition reads from outside of itself."""
    found: set[str] = set()
    tables = [symtable.symtable(source, "cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                found.add(symbol.get_name())
    return found
