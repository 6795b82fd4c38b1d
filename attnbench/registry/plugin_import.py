"""Import a plugin's file so that the import neither ends this process nor leaves it changed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.registry.process_state import ProcessState


def put_back(before: ProcessState) -> str:
    """Put the process back after an import; what had changed, and what could not be put back, in words."""
    changes = before.changes()
    left = before.put_back()
    if not changes:
        return ""
    stays = f"; this could not be put back: {', '.join(left)}" if left else "; it was put back"
    return f"changed the process at its import: {', '.join(changes)}{stays}"


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Make `os._exit` an exception in this process, so that an import cannot end a command with exit code 0."""
    real, here = os._exit, os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != here:  # a child that the import forked
            real(status)
        raise SystemExit(f"it called os._exit({status!r})")

    os._exit = refused
    try:
        yield
    finally:
        os._exit = real


def import_file(path: Path) -> Any:
    """Import a Python file under a name of its own and return the module."""
    path = path.resolve()
    name = f"attnbench_plugin_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AttnbenchError(f"a plugin is a Python file; got {path.name!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
