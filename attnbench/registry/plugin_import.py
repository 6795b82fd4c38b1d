"""Find plugins, and import a plugin's file so that the import neither ends this process nor leaves it changed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attnbench.errors import AttnbenchError
from attnbench.inputs import brief, printable

if TYPE_CHECKING:
    from attnbench.registry.process_state import ProcessState


_HARNESS = os.path.dirname(__file__) + os.sep


@cache
def entry_points_of(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """What installed packages offer, read once in a process: it looks into every package's metadata."""
    return tuple(importlib.metadata.entry_points(group=group))


def ends_process(importer: Callable[[], object], patience_s: float = 60.0) -> str:
    """How an import ends the process that does it, by a signal or an exit of the C library; empty when it does not.

    It is tried in a forked child without output. An exception, and what takes longer than `patience_s`, is no end.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads; the child only imports
        pid = os.fork()
    if not pid:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with contextlib.suppress(BaseException), no_exit():
                importer()
            os.write(write, b"k")
        finally:
            os._exit(0)
    os.close(write)
    deadline, status, came = time.monotonic() + patience_s, 0, b""
    try:
        while not came and time.monotonic() < deadline:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if select.select([read], [], [], 0 if ended else 0.02)[0]:
                came = os.read(read, 1)
            if ended:
                break
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return ""
    finally:
        os.close(read)
    code = os.waitstatus_to_exitcode(status)
    return (
        "" if came else f"it ended the process at its import ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
    )


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


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Around a call of a plugin's function: no exit, and the working directory stays, where a relative --out lands."""
    folder = _folder()
    with no_exit():
        try:
            yield
        finally:
            if folder and _folder() != folder:
                with contextlib.suppress(OSError):
                    os.chdir(folder)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


def place_of(error: BaseException, path: str = "") -> str:
    """FILE:LINE where an import failed: the last line that ran of the file at `path`, or of any; empty if unknown.

    Of an error in a declaration nothing: its message names the place.
    """
    if isinstance(error, AttnbenchError):
        return ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return printable(f"{error.filename}:{error.lineno}")
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename[:1] != "<"]
    inside = [place for place in frames if path and os.path.realpath(place[0]) == os.path.realpath(path)]
    places = inside or [place for place in frames if not place[0].startswith(_HARNESS)]
    return printable("{}:{}".format(*places[-1])) if places else ""


def import_file(path: Path, namespace: str = "") -> Any:
    """Import a Python file under a name of its own and return the module.

    With a namespace the modules beside the file are its own too (`attnbench.registry.apart`).
    """
    if namespace:
        from attnbench.registry.apart import import_apart

        return import_apart(path, namespace)
    path = path.resolve()
    name = f"attnbench_plugin_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AttnbenchError(f"a plugin is a Python file; got {brief(path.name)}; name it NAME.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
