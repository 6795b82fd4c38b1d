"""What a child process does for one job: count one layer, try one arm, time many arms, measure ceilings.

A trial is one arm alone: built, its output checked, its memory measured. A timing job builds every arm of a
comparison anew, in random order, and gives rounds: in each, every arm has one turn, in random order.
Everything that is found is said as plain messages; the runner makes records of them.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnbench import registry
from attnbench.errors import AttnbenchError
from attnbench.machine.devices import Device, open_device
from attnbench.measure import latency
from attnbench.planning.sweep import Cell
from attnbench.registry.variant import parse_variant

Say = Callable[[dict[str, Any]], None]
INPUT_SETS = 3  # random inputs that calls use in turn
_SPARE_BYTES = 256 << 20


class ContractError(Exception):
    """An arm did not do what the contract asks; the text is the reason."""


class Arm:
    """One cell's layer, ready to be called: built on its device, in its precision, with its kernel."""

    def __init__(self, cell: Cell, device: Device, known: registry.Registry, *, inference: bool, weights: str) -> None:
        self.cell, self.device = cell, device
        self.inference = inference and cell.pass_ == "forward"
        self.dtype = device.set_precision(cell.precision)
        torch.manual_seed(0)
        module = known.build(known.check(parse_variant(cell.variant)), cell.size, kernel=cell.kernel)
        if weights:
            from attnbench.registry.checkpoints import load_weights

            load_weights(module, weights)
        module = module.to(device.torch_device(), self.dtype)
        module.train(not self.inference)
        self.module = module
        self._run: Callable[[Tensor], Any] = torch.compile(module, dynamic=False) if cell.compiled else module
        self._next = 0
        self._inputs: list[Tensor] = []
        self._gradient: Any = None
        self.output: Any = None

    def feed(self, inputs: list[Tensor]) -> None:
        """Give the input sets that calls use in turn."""
        train = self.cell.pass_ == "train"
        self._inputs = [x.detach().clone().requires_grad_() for x in inputs] if train else inputs

    def __call__(self) -> None:
        """One forward pass; for `train`, forward and backward with a fixed random gradient."""
        x = self._inputs[self._next]
        self._next = (self._next + 1) % len(self._inputs)
        if self.inference:
            with torch.inference_mode():
                self.output = self._run(x)
            return
        if self.cell.pass_ == "forward":  # the papers' procedure: autograd records, nothing goes back
            self.output = self._run(x)
            return
        self.module.zero_grad(set_to_none=True)
        x.grad = None
        tensors = [t for t in tensors_of(self._run(x)) if t.requires_grad]
        if self._gradient is None:
            self._gradient = [torch.randn_like(t) for t in tensors]
        torch.autograd.backward(tensors, self._gradient)
        self.output = [t.detach() for t in tensors]

    def forget(self) -> None:
        """Let the last call's output and gradients go, so that the next call's peak holds all that it makes."""
        self.output = None
        self.module.zero_grad(set_to_none=True)
        for x in self._inputs:
            x.grad = None

    def check(self) -> None:
        """Look at the output of the last call.

        Raises:
            ContractError: it is not finite, or has the wrong shape.
        """
        tensors = tensors_of(self.output)
        if not tensors:
            raise ContractError(f"forward must return a tensor; got {type(self.output).__name__}")
        if self.cell.scope == "layer":
            got, wanted = tuple(tensors[0].shape), tuple(self._inputs[0].shape)
            if got != wanted:
                raise ContractError(f"forward must keep the shape; got {_by(got)} from {_by(wanted)}")
            if tensors[0].dtype != self.dtype:
                raise ContractError(f"forward must keep the dtype; got {tensors[0].dtype} from {self.dtype}")
        for tensor in tensors:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                bad = tensor.numel() - int(torch.isfinite(tensor).sum())
                raise ContractError(
                    f"the output must be finite; got {bad} of {tensor.numel()} values that are NaN or infinite"
                )

    @property
    def input_bytes(self) -> int:
        """Of one input batch."""
        x = self._inputs[0]
        return x.numel() * x.element_size()


def do(job: Mapping[str, Any], say: Say) -> None:
    """Do one job.

    Raises:
        ValueError: an unknown kind of job.
    """
    kinds: dict[str, Callable[[Mapping[str, Any], Say], None]] = {
        "count": _count,
        "trial": _trial,
        "time": _time,
        "ceilings": _ceilings,
    }
    if job["kind"] not in kinds:
        raise ValueError(f"a job's kind must be one of {', '.join(kinds)}; got {job['kind']!r}")
    kinds[job["kind"]](job, say)


def make_inputs(cell: Cell, device: Device, dtype: torch.dtype, seed: int, sets: int = INPUT_SETS) -> list[Tensor]:
    """Random normal inputs, seeded: [B,H,W,C] for a layer, [B,3,h,w] for a model."""
    generator = torch.Generator().manual_seed(seed)
    shape = (cell.batch, *cell.grid, cell.dim) if cell.scope == "layer" else (cell.batch, 3, cell.res_h, cell.res_w)
    made = (torch.randn(shape, generator=generator) for _ in range(sets))
    return [x.to(device.torch_device(), dtype) for x in made]


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in a module's output, whatever its nesting."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return [t for part in output for t in tensors_of(part)]
    return []


def _count(job: Mapping[str, Any], say: Say) -> None:
    from attnbench.measure import mmdet
    from attnbench.measure.flops import count

    cell = Cell.from_dict(job["cell"])
    known = registry.load(job["plugins"])
    module = known.build(known.check(parse_variant(cell.variant)), cell.size).eval()
    shape = (1, *cell.grid, cell.dim) if cell.scope == "layer" else (1, 3, cell.res_h, cell.res_w)
    counts = count(module, torch.empty(shape, device="meta"))
    formula, formula_notes = known[cell.mechanism].macs, ""
    by_formula: int | None = None
    try:
        by_formula = int(formula(cell.size)) if formula else None
    except Exception as error:  # a plugin's formula, or a model around a layer without one
        formula_notes = f"its formula raised {type(error).__name__}: {error}"
    say(
        {
            "event": "count",
            "values": {
                "params": counts.params,
                "macs": counts.macs,
                "macs_fvcore": counts.macs_fvcore,
                "macs_formula": by_formula,
                "macs_mmdet": mmdet.total(module, torch.empty(shape, device="meta")) if cell.scope == "task" else None,
            },
            "lower_bound": counts.lower_bound,
            "notes": "; ".join(filter(None, (counts.notes, formula_notes))),
        }
    )


def _trial(job: Mapping[str, Any], say: Say) -> None:
    cell, started = Cell.from_dict(job["cell"]), time.perf_counter()
    threads_before = set(threading.enumerate())
    device = _device(cell, job["memory_limit"])
    try:
        known = registry.load(job["plugins"])
        arm = Arm(cell, device, known, inference=job["inference"], weights=job["weights"])
        arm.feed(make_inputs(cell, device, arm.dtype, job["seed"], sets=1))
        say({"event": "progress", "stage": "built"})
        first = time.perf_counter()
        arm()
        device.synchronize()
        first_s = time.perf_counter() - first
        arm.check()
        kernel_ran = _kernel_that_ran(arm) if cell.kernel == "sdpa" else cell.kernel
        memory = device.measure_memory(arm, forget=arm.forget)
        start = time.perf_counter()
        turn = device.time_calls(arm, 1 if first_s > 1 else 2)
        forward_s = first_s + (time.perf_counter() - start) * 2
        arm.check()
        _no_threads_left(threads_before)
    except (Exception, SystemExit) as error:
        say(_told(error, device))
        return
    weights = sum(t.numel() * t.element_size() for t in (*arm.module.parameters(), *arm.module.buffers()))
    values: dict[str, Any] = {
        "weights_bytes": weights,
        "input_bytes": arm.input_bytes,
        "params": sum(p.numel() for p in arm.module.parameters() if p.requires_grad),
        **memory,
    }
    growth = memory.get("peak_growth_bytes", memory.get("allocator_peak_bytes"))
    if growth is not None:
        values["peak_memory_bytes"] = weights + arm.input_bytes + growth
    if cell.compiled:
        values["compile_s"] = first_s
    say(
        {
            "event": "trial",
            "values": values,
            "call_s": min(turn.device_s),
            "kernel_ran": kernel_ran,
            "device_name": device.title(),
            "notes": list(device.memory_notes()),
            "forward_s": forward_s,
            "job_s": time.perf_counter() - started,
        }
    )


def _time(job: Mapping[str, Any], say: Say) -> None:
    cells = [Cell.from_dict(c) for c in job["cells"]]
    dice = random.Random(job["seed"])
    device = _device(cells[0], job["memory_limit"])
    status: int = job["status"]
    calls: Mapping[str, int] = job["calls"]
    known = registry.load(job["plugins"])
    inputs: list[Tensor] = []
    arms: list[Arm] = []
    forward_s = 0.0
    for cell in dice.sample(cells, len(cells)):
        _write_status(status, cell.id)
        try:
            arm = Arm(cell, device, known, inference=job["inference"], weights=job["weights"])
            inputs = inputs or make_inputs(cell, device, arm.dtype, job["seed"])
            arm.feed(inputs)
            if job["prime_calls"] or cell.compiled:  # makes the tables of this grid, and compiles
                start = time.perf_counter()
                arm()
                device.synchronize()
                forward_s += time.perf_counter() - start
            arms.append(arm)
        except (Exception, SystemExit) as error:
            if device.is_sticky(error):
                raise
            say({**_told(error, device), "event": "dropped", "cell": cell.id})
    for number in range(job["first_round"], job["first_round"] + job["rounds"]):
        reading = device.start_reading()
        times: dict[str, list[float]] = {}
        host: dict[str, float] = {}
        queue: dict[str, float] = {}
        for arm in dice.sample(arms, len(arms)):
            if _write_status(status, arm.cell.id):  # asked to stop
                return
            start = time.perf_counter()
            try:
                if job["prime_calls"]:
                    latency.prime(device, arm, job["prime_s"], job["prime_calls"])
                turn = latency.turn(device, arm, calls[arm.cell.id], cold=job["cold"])
                forward_s += time.perf_counter() - start
                if number == job["first_round"]:
                    arm.check()
            except (Exception, SystemExit) as error:
                if device.is_sticky(error):
                    raise
                arms.remove(arm)
                say({**_told(error, device), "event": "dropped", "cell": arm.cell.id})
                continue
            times[arm.cell.id], host[arm.cell.id] = list(turn.device_s), turn.host_s
            queue[arm.cell.id] = turn.queue_s
        if not arms:
            return
        message = {"event": "round", "round": number, "samples": times, "host": host, "queue": queue}
        say({**message, "conditions": dict(reading.finish()), "forward_s": forward_s})
        forward_s = 0.0


def _ceilings(job: Mapping[str, Any], say: Say) -> None:
    from attnbench.measure.ceilings import measure_ceilings

    cell = Cell.from_dict(job["cell"])
    device = _device(cell, 0)
    found = measure_ceilings(device, device.set_precision(cell.precision), seconds=0.1)
    say({"event": "ceilings", "macs_per_s": found.macs_per_s, "bytes_per_s": found.bytes_per_s})


def _device(cell: Cell, memory_limit: int) -> Device:
    device = open_device(cell.device)
    if cell.device.startswith("cpu"):
        limit = memory_limit or max(device.free_bytes() - _SPARE_BYTES, _SPARE_BYTES)
        if sys.platform == "linux":
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + limit, resource.RLIM_INFINITY))
    device.set_threads(cell.threads)
    return device


def _write_status(status: int, arm: str) -> bool:
    """Leave word whose turn it is; True when the runner has asked to stop."""
    os.pwrite(status, arm.encode(), 1)
    return os.pread(status, 1, 0) == b"S"


def _told(error: BaseException, device: Device) -> dict[str, Any]:
    if isinstance(error, SystemExit):
        outcome, reason = "crashed", f"it called sys.exit({error.code!r})"
    elif device.is_out_of_memory(error):
        outcome, reason = "oom", _first_line(error)
    elif device.is_sticky(error):
        outcome, reason = "crashed", _first_line(error)
    elif isinstance(error, ContractError | AttnbenchError):
        outcome, reason = "failed", str(error)
    else:
        outcome, reason = "failed", f"{type(error).__name__}: {_first_line(error)}"
    return {"event": "error", "outcome": outcome, "reason": reason}


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]


def _no_threads_left(before: set[threading.Thread]) -> None:
    left = [t for t in threading.enumerate() if t not in before and not _of_the_compiler(t)]
    if left:
        raise ContractError(
            f"a layer must leave no thread behind; it left {len(left)}: {', '.join(t.name for t in left)}"
        )


def _of_the_compiler(thread: threading.Thread) -> bool:
    """PyTorch's own, and the idle watchman of the progress bars that it shows where tqdm is installed."""
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", None) or type(thread).__module__
    return module.split(".")[0] in ("torch", "tqdm")


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class is untyped
    """Listen for the attention operator that PyTorch chose."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket.__name__) if hasattr(func, "overloadpacket") else str(func)
        if name.startswith("_scaled_dot_product_"):
            self.seen.add(name.removeprefix("_scaled_dot_product_").replace("_attention", ""))
        return func(*args, **(kwargs or {}))


def _kernel_that_ran(arm: Arm) -> str:
    """`sdpa:flash_for_cpu`, say; `sdpa:math` where no fused operator was called."""
    with torch.no_grad(), _Kernels() as kernels:
        arm.module(arm._inputs[0])
    return "sdpa:" + ("+".join(sorted(kernels.seen)) or "math")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
