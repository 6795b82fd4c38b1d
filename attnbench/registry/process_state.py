"""The state of this process that a layer's code can touch: read before its turn, compared after it, and put back.

One process serves all arms of a comparison, so what one layer leaves behind is measured with the next. The references
below are taken when this module is imported, before any plugin is: a function that a plugin replaces later is seen,
and is not used to look. Code that changes the state and puts it back within one call is not seen (SECURITY.md).
"""

from __future__ import annotations

import _thread
import gc
import hmac
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any

import numpy as np
import torch
from torch.nn import functional

# Whose functions must stay as they were: the clocks, the output of results, and what every layer is computed with.
_GUARDED = {
    "time": time, "os": os, "json": json, "hmac": hmac, "random": random, "signal": signal, "gc": gc, "torch": torch,
    "torch.nn.functional": functional, "torch.nn.Module": torch.nn.Module, "torch.Tensor": torch.Tensor,
}  # fmt: skip
# Set by torch's own compiler and its libraries while they work.
_OWN_VARIABLES = ("TORCH", "_TORCH", "TRITON", "PYTORCH", "CUDA_", "KMP_", "CUBLAS_", "KINETO_")
_LIMITS = ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "STACK")
_TORCH = os.path.dirname(torch.__file__) + os.sep
_THREAD_ENDS_S = 0.02  # a thread that has been joined may still be counted for a moment

_sleep, _cores, _set_cores = time.sleep, getattr(os, "sched_getaffinity", None), getattr(os, "sched_setaffinity", None)
_collect, _collect_not, _set_threshold = gc.enable, gc.disable, gc.set_threshold
_umask, _environ = os.umask, os.environ
_getsignal, _setsignal, _signals = signal.getsignal, signal.signal, tuple(signal.valid_signals())
_threads, _started = threading.enumerate, _thread._count
_random_state, _set_random_state = random.getstate, random.setstate
_numpy_state, _set_numpy_state = np.random.get_state, np.random.set_state
_torch_state, _set_torch_state = torch.get_rng_state, torch.set_rng_state
_cuda_runs: Callable[[], bool] = torch.cuda.is_initialized
_cuda_devices, _cuda_state = torch.cuda.device_count, torch.cuda.get_rng_state
_set_cuda_state: Callable[[torch.Tensor, int], None] = torch.cuda.set_rng_state


@dataclass(frozen=True)
class _Watched:
    """One thing that is compared: its name for a message, how it is read, and how it is put back (None: it cannot)."""

    name: str
    read: Callable[[], Any]
    put: Callable[[Any], object] | None = None


def _attribute(name: str, owner: object, attribute: str) -> _Watched:
    return _Watched(name, lambda: getattr(owner, attribute), lambda old: setattr(owner, attribute, old))


def _precision(name: str, owner: object) -> Iterator[_Watched]:
    """TF32 and reduced precision; newer versions of torch name it by a word and dislike the older switch."""
    word = hasattr(owner, "fp32_precision")
    switch = "fp32_precision" if word else "allow_tf32"
    if word or hasattr(owner, switch):
        yield _attribute(f"{name}.{switch}", owner, switch)


def _backends() -> Iterator[_Watched]:
    b = torch.backends
    for name, owner, attributes in (
        ("mkldnn", b.mkldnn, ("enabled", "deterministic")),
        ("cudnn", b.cudnn, ("enabled", "benchmark", "deterministic")),
        ("cuda.matmul", b.cuda.matmul,
         ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")),
        ("nnpack", getattr(b, "nnpack", None), ()),
        ("quantized", b.quantized, ("engine",)),
    ):  # fmt: skip
        for attribute in attributes:
            if hasattr(owner, attribute):
                yield _attribute(f"torch.backends.{name}.{attribute}", owner, attribute)
    for name in ("mkldnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn", "cudnn", "cudnn.conv", "cuda.matmul"):
        owner = b
        for part in name.split("."):
            owner = getattr(owner, part, None)
        yield from _precision(f"torch.backends.{name}", owner)
    for kind in ("flash", "mem_efficient", "math", "cudnn"):
        read, put = getattr(b.cuda, f"{kind}_sdp_enabled", None), getattr(b.cuda, f"enable_{kind}_sdp", None)
        if read and put:
            yield _Watched(f"the {kind} kernel of scaled_dot_product_attention", read, put)


def _torch_modes() -> Iterator[_Watched]:
    yield _Watched("torch's threads (torch.set_num_threads)", torch.get_num_threads, torch.set_num_threads)
    yield _Watched("torch's inter-op threads", torch.get_num_interop_threads)
    yield _Watched("the default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield _Watched("the default device", torch.get_default_device, _put_default_device(torch.set_default_device))
    yield _Watched("the grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield _Watched("the inference mode", torch.is_inference_mode_enabled)
    yield _Watched("the anomaly mode", torch.is_anomaly_enabled, torch.set_anomaly_enabled)
    for device in ("cpu", "cuda"):
        yield _Watched(f"autocast on {device}", partial(torch.is_autocast_enabled, device),
                       partial(torch.set_autocast_enabled, device))  # fmt: skip
    yield _Watched("the precision of matrix products", torch.get_float32_matmul_precision,
                   torch.set_float32_matmul_precision)  # fmt: skip
    yield _Watched("deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode)
    yield _Watched("flush_denormal", _flushes_denormals, torch.set_flush_denormal)
    stacks = [getattr(torch._C, f"_len_torch_{kind}_stack", None) for kind in ("function", "dispatch")]
    yield _Watched("a torch function or dispatch mode", lambda: [size() for size in stacks if size])
    hooks = torch.nn.modules.module
    named = [n for n in vars(hooks) if n.startswith("_global_") and isinstance(vars(hooks)[n], dict)]
    dicts = [vars(hooks)[n] for n in named]
    yield _Watched("a global hook of torch.nn.Module", lambda: [dict(d) for d in dicts],
                   lambda old: [(d.clear(), d.update(o)) for d, o in zip(dicts, old, strict=True)])  # fmt: skip


def _python() -> Iterator[_Watched]:
    yield _Watched("signal handlers", lambda: {n: _getsignal(n) for n in _signals}, _put_signals)
    yield _Watched("the signal mask", partial(signal.pthread_sigmask, signal.SIG_BLOCK, ()),
                   partial(signal.pthread_sigmask, signal.SIG_SETMASK))  # fmt: skip
    yield _Watched("the working directory", os.getcwd, os.chdir)
    yield _Watched("the umask", _read_umask, os.umask)
    yield _Watched("os.environ", _read_environ, _put_environ)
    yield _Watched("the garbage collector", gc.isenabled, _put_collector)
    yield _Watched("the garbage collector's thresholds", gc.get_threshold, lambda old: _set_threshold(*old))
    yield _Watched("sys.settrace", sys.gettrace, sys.settrace)
    yield _Watched("sys.setprofile", sys.getprofile, sys.setprofile)
    yield _Watched("the switch interval", sys.getswitchinterval, sys.setswitchinterval)
    for name in _LIMITS:
        number = getattr(resource, f"RLIMIT_{name}")
        yield _Watched(f"the resource limit {name}", partial(resource.getrlimit, number),
                       partial(resource.setrlimit, number))  # fmt: skip
    yield _Watched("the priority", partial(os.getpriority, os.PRIO_PROCESS, 0),
                   partial(os.setpriority, os.PRIO_PROCESS, 0))  # fmt: skip
    if _cores and _set_cores:
        yield _Watched("the CPUs of the process", lambda: _cores(0), lambda old: _set_cores(0, old))
    yield _Watched("threads left behind", _left_threads)


def _put_default_device(put: Callable[[Any], None]) -> Callable[[Any], None]:
    def back(old: torch.device) -> None:
        put(None if old.type == "cpu" else old)

    return back


def _flushes_denormals(tiny: float = 5e-324) -> bool:
    return tiny * 1.0 == 0.0


def _put_collector(on: bool) -> None:
    (_collect if on else _collect_not)()


def _put_signals(old: dict[int, Any]) -> None:
    for number, handler in old.items():
        if handler is not None and _getsignal(number) is not handler:
            _setsignal(number, handler)


def _read_umask() -> int:
    mask = _umask(0o077)
    _umask(mask)
    return mask


def _read_environ() -> dict[str, str]:
    return {k: v for k, v in _environ.items() if not k.startswith(_OWN_VARIABLES)}


def _put_environ(old: dict[str, str]) -> None:
    for name in set(_read_environ()) - set(old):
        del _environ[name]
    _environ.update(old)


def of_the_compiler(thread: threading.Thread) -> bool:
    """PyTorch's own threads, and the idle monitor of the progress bars that it shows where tqdm is installed."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or type(thread).__module__
    return module.split(".")[0] in ("torch", "tqdm")


def _left_threads() -> int:
    """Threads that Python started, without those of the compiler."""
    return _started() - sum(of_the_compiler(t) for t in _threads())


WATCHED = (*_torch_modes(), *_backends(), *_python())
# By module: names, what stands behind each now, and what stood there. torch.Storage follows the default dtype.
_functions = {
    where: (
        names := [n for n, v in vars(owner).items() if callable(v) and n != "Storage"],
        vars(owner),
        [vars(owner)[n] for n in names],
    )
    for where, owner in _GUARDED.items()
}


class ProcessState:
    """What the process was like when this was made.

    The functions are compared with those of the import, so that one replaced earlier is seen as well.
    """

    def __init__(self) -> None:
        self._old = [_read(w) for w in WATCHED]
        self._threads = set(_threads())
        self._random = _random_state()
        self._numpy_random = _numpy_state()
        self._torch_random = _torch_state()
        self._cuda_random: dict[int, torch.Tensor] = {}
        self._read_cuda_random()

    def changes(self) -> list[str]:
        """What differs now, as words for a message; empty when nothing does. Random numbers may have been drawn."""
        found = [f"{where}.{name} was replaced" for where, name, _ in _replaced()]
        for watched, old in zip(WATCHED, self._old, strict=True):
            now = _read(watched)
            if now != old and watched.read is _left_threads:
                _sleep(_THREAD_ENDS_S)
                now = _read(watched)
                if now != old:
                    found.append(f"{watched.name}: {self._thread_names() or now}")
            elif now != old:
                found.append(_difference(watched.name, old, now))
        return found

    def put_back(self) -> list[str]:
        """Put back what differs, the states of the random generators too; what still differs then is returned."""
        for where, name, original in _replaced():
            setattr(_GUARDED[where], name, original)
        for watched, old in zip(WATCHED, self._old, strict=True):
            if watched.put is not None and _read(watched) != old:
                try:
                    watched.put(old)
                except (OSError, ValueError, RuntimeError, TypeError):
                    continue  # it is among what still differs
        self.rewind_random()
        return self.changes()

    def rewind_random(self) -> None:
        """Set the generators of torch, NumPy and Python to where they were; a layer may draw from them.

        A GPU's generator is first read here where CUDA was started later.
        """
        _set_random_state(self._random)
        _set_numpy_state(self._numpy_random)
        _set_torch_state(self._torch_random)
        for index, state in self._cuda_random.items():
            _set_cuda_state(state, index)
        self._read_cuda_random()

    def _read_cuda_random(self) -> None:
        for index in range(_cuda_devices()) if _cuda_runs() else ():
            if index not in self._cuda_random:
                self._cuda_random[index] = _cuda_state(index)

    def _thread_names(self) -> str:
        return ", ".join(t.name for t in _threads() if t not in self._threads and not of_the_compiler(t))


def _replaced() -> Iterator[tuple[str, str, Any]]:
    for where, (names, now, originals) in _functions.items():
        if all(map(is_, map(now.get, names), originals)):
            continue
        for place, name in enumerate(names):
            function, original = now.get(name), originals[place]
            if function is not original:
                code = getattr(function, "__code__", None)
                if getattr(code, "co_filename", "").startswith(_TORCH):  # its compiler wraps some when it is imported
                    originals[place] = function
                else:
                    yield where, name, original


def _read(watched: _Watched) -> Any:
    try:
        return watched.read()
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # a folder that is gone, switches at odds
        return f"unreadable: {type(error).__name__}"


def _difference(name: str, old: Any, now: Any) -> str:
    if isinstance(old, dict) and isinstance(now, dict):
        keys = sorted(str(k) for k in old.keys() | now.keys() if old.get(k) != now.get(k))
        return f"{name} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
    texts = [text if len(text := str(value)) <= 60 else f"{text[:57]}..." for value in (old, now)]
    return f"{name} ({texts[0]} -> {texts[1]})"
