"""What executes a layer: eager PyTorch, its compilers, ONNX Runtime, OpenVINO, and runtimes of other packages.

Each runtime is one module of this package whose `RUNTIME` describes it, or an entry point of the group
`attnbench.runtimes` that names a `Runtime`. Importing this package imports neither torch nor any runtime: a plan only
asks what a runtime declines. `prepare` runs in the process that measures, `export` in a process of its own.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

ENTRY_POINT_GROUP = "attnbench.runtimes"
EAGER, COMPILE = "eager", "compile"
BUILTIN = (EAGER, COMPILE, "aoti", "onnxruntime", "openvino")
COMPILED = (COMPILE, "aoti")  # they run code that torch's compiler makes
# Greatest |difference| / greatest |eager output|: some hundred units of rounding; for int8 against eager's fp32.
TOLERANCES: Mapping[str, float] = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 5e-2, "bf16": 1e-1, "int8": 1.5e-1}


class UnsupportedError(Exception):
    """A runtime cannot take a layer; the text names the operator. The cell is declined, not failed."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The axes of a cell that a runtime may decline; `inference`: eval mode without autograd."""

    device: str
    precision: str
    pass_: str
    kernel: str
    inference: bool


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A layer that is ready to be called.

    Attributes:
        call: maps an input to the output: a tensor, or whatever nesting of tensors the layer gives.
        version: of the runtime. `options`: those in effect, as the runtime gives them back.
        executed: what ran, in a few words; asked for after a call.
        bind: is given the inputs that the next calls use, before they are used: what it prepares is not timed.
        forget: lets bindings and output buffers go.
        weights_bytes: of parameters and buffers, where the runtime holds others than the layer.
    """

    call: Callable[[Tensor], Any]
    version: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    executed: Callable[[], str] = lambda: ""
    bind: Callable[[Sequence[Tensor]], None] = lambda inputs: None
    forget: Callable[[], None] = lambda: None
    weights_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One runtime: what it takes, how a layer is exported for it, and how it is made ready.

    Attributes:
        name: on the command line and in records.
        precisions, passes, devices, kernels: what it can be asked for; a device without its index.
        needs_eval: only eval mode without autograd.
        modules: what must be importable. `extra`: of this package, which installs them.
        artifact: suffix of the file that `export` writes, such as `onnx`; runtimes with the same suffix and the same
            `export` share the file. Empty: the layer itself is prepared, and nothing is exported.
        environment: variables to set before the runtime is imported.
        load: imports the runtime; its memory does not count as a layer's.
        missing: why it cannot run here although its modules are installed; empty: it can.
        prepare: (module, example, threads, precision, artifact) -> Prepared. `example` has the input's shape and
            dtype; its values mean nothing. Where something is exported, `module` holds no weights (meta device).
        export: (module, example, precision, path): writes the file, with weights, for exactly this input shape.

    `prepare` and `export` raise UnsupportedError for a layer that the runtime cannot take.
    """

    name: str
    prepare: Callable[[nn.Module, Tensor, int, str, Path | None], Prepared]
    export: Callable[[nn.Module, Tensor, str, Path], None] | None = None
    precisions: tuple[str, ...] = ("fp32",)
    passes: tuple[str, ...] = ("forward",)
    devices: tuple[str, ...] = ("cpu",)
    kernels: tuple[str, ...] = ("eager", "sdpa")
    needs_eval: bool = True
    modules: tuple[str, ...] = ()
    extra: str = ""
    artifact: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    load: Callable[[], None] = lambda: None
    missing: Callable[[], str] = lambda: ""
    why_not: Mapping[str, str] = field(default_factory=dict)

    def declines(self, wanted: Wanted) -> str | None:
        """Why it does not serve a cell, or None; decided without importing it."""
        device = wanted.device.partition(":")[0]
        for word, value, offered in (
            ("device", device, self.devices),
            ("precision", wanted.precision, self.precisions),
            ("pass", wanted.pass_, self.passes),
            ("kernel", wanted.kernel, self.kernels),
        ):
            if value not in offered:
                why = f"; {self.why_not[value]}" if value in self.why_not else ""
                return f"{self.name} runs with {word} {' or '.join(offered)}; got {word}={value}{why}"
        if self.needs_eval and not wanted.inference:
            return f"{self.name} runs in eval mode without autograd; the protocol times in train mode with autograd"
        return None

    def require(self) -> None:
        """Check that it can run on this machine, without importing it.

        Raises:
            AttnbenchError: a package is not installed, with the extra that has it; or what `missing` says.
        """
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if absent:
            remedy = f"pip install 'attnbench[{self.extra}]'" if self.extra else f"install {' and '.join(absent)}"
            raise AttnbenchError(
                f"runtime {self.name} needs {', '.join(self.modules)}; not installed: {', '.join(absent)}; {remedy}, "
                f"or leave {self.name} out of --runtime"
            )
        if reason := self.missing():
            raise AttnbenchError(f"runtime {self.name} {reason}, or leave {self.name} out of --runtime")


def names() -> tuple[str, ...]:
    """The names of all runtimes: the built-in ones, then those of installed packages. Nothing is imported."""
    return (*BUILTIN, *sorted(set(_entries()) - set(BUILTIN)))


@cache
def get(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        AttnbenchError: there is none, or its package cannot be loaded or offers something else.
    """
    if name in BUILTIN:
        return _of(importlib.import_module(f"{__name__}.{name}").RUNTIME, name)
    if name not in _entries():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise AttnbenchError(f"runtime must be one of {', '.join(names())}; got {name!r}{hint}")
    entry = _entries()[name]
    try:
        return _of(entry.load(), name)
    except (Exception, SystemExit) as error:  # a package may raise anything when it is imported
        raise AttnbenchError(f"runtime {name} cannot be loaded: {type(error).__name__}: {error}") from error


def load(name: str) -> Runtime:
    """The runtime of this name, imported in this process with its variables set.

    Raises:
        AttnbenchError: as `get`; also whatever its import raises.
    """
    runtime = get(name)
    set_environment(runtime)
    runtime.load()
    return runtime


def environment() -> dict[str, str]:
    """The variables of all built-in runtimes, for a process that may import them: telemetry off, above all."""
    return {key: value for name in BUILTIN for key, value in get(name).environment.items()}


def set_environment(runtime: Runtime) -> None:
    """Set the runtime's variables in this process; to be called before its import."""
    for key, value in runtime.environment.items():
        if os.environ.get(key) != value:
            os.environ[key] = value


def _entries() -> Mapping[str, importlib.metadata.EntryPoint]:
    if os.environ.get("ATTNBENCH_DISABLE_PLUGINS"):
        return {}
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _of(runtime: object, name: str) -> Runtime:
    if not isinstance(runtime, Runtime) or runtime.name != name:
        raise TypeError(f"an entry point of {ENTRY_POINT_GROUP} names a Runtime of its own name; got {runtime!r:.80}")
    return runtime
