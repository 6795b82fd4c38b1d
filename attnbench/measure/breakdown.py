"""Where the time of a call goes: projections against the core of the attention, host against device, dearest operators.

torch.profiler records every operator of some calls. A projection is a call of an `nn.Linear` or of a convolution whose
kernel is 1 in every direction, found by module: each runs inside a named range, and an operator belongs to it if it was
called within, a backward operator if its forward operator was. Everything else is the core: softmax, matrix products
outside such modules (also those with bare parameters), other convolutions, norms, copies, gradient sums.

Shares are of the operators' own time: on the CPU without Python's, on a GPU the kernels'. The profiler itself adds
about a microsecond to each operator, which weighs on short ones. A compiled layer has no modules left when it runs;
there the shares are absent and a word says so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from attnbench.errors import AttnbenchError
from attnbench.machine.devices import Device
from attnbench.measure.arm import Arm, tensors_of
from attnbench.measure.flops import count
from attnbench.runtimes import EAGER

CALL, PROJECTION = "attnbench::call", "attnbench::projection"
OUTSIDE = "only what PyTorch runs is profiled; the word `executed` names what this runtime ran"
COMPILED = "a compiled layer has no modules left: its projections cannot be told from its core"
_SECONDS, _FEWEST, _MOST = 0.5, 3, 50  # of profiled calls
_BACKWARD = "autograd::engine::evaluate_function: "
_COMPILED = ("## Call CompiledFxGraph", "Torch-Compiled Region", "CompiledFunction")
_TOP = 3


@dataclass
class Times:
    """Seconds over all profiled calls.

    Attributes:
        wall: of the calls.
        inside: own time by operator, in projections. `outside`: elsewhere.
    """

    wall: float = 0.0
    inside: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    outside: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def projections(self) -> float:
        """Own time of the operators in projections."""
        return math.fsum(self.inside.values())

    @property
    def core(self) -> float:
        """Own time of all others."""
        return math.fsum(self.outside.values())


def measure(device: Device, arm: Arm) -> tuple[dict[str, float | int], dict[str, str]]:
    """Shares, the least bytes and the intensity of a forward call, and the dearest operators as a word."""
    if arm.runtime.artifact:
        return {}, {"breakdown_notes": OUTSIDE}
    plain = arm.cell.runtime == EAGER and arm.cell.precision != "int8"
    turn = device.time_calls(arm, 2)
    calls = int(min(_MOST, max(_FEWEST, _SECONDS / max(min(turn.device_s), 1e-9))))
    host_s = device.time_calls(arm, calls).host_s  # without the profiler, which slows the host
    inside = projections(arm.module) if plain else []
    times = profile_calls(device, arm.call, calls, inside)  # a graph's replay shows no operators
    busy = times.projections + times.core
    if busy <= 0:
        return {}, {"breakdown_notes": "the profiler recorded no operator"}
    wall = times.wall if device.name == "cpu" else host_s * calls
    values: dict[str, float | int] = {"host_share": min(1.0, max(0.0, 1 - busy / wall))}
    both = {
        name: times.inside.get(name, 0.0) + times.outside.get(name, 0.0) for name in {*times.inside, *times.outside}
    }
    words = {"top_operators": top(both, busy)}
    notes = [] if plain else [COMPILED]
    if plain:
        values |= {"projection_share": times.projections / busy, "core_share": times.core / busy}
    values["least_bytes"] = least_bytes(arm)
    try:
        shape = (1, *arm.input_shape[1:])
        counts = count(arm.module, torch.empty(shape, device="meta", dtype=arm.dtype), fvcore=False)
        values["intensity_macs_per_byte"] = counts.macs * arm.cell.batch / values["least_bytes"]
        notes += [counts.notes] if counts.notes else []
    except AttnbenchError as error:
        notes.append(f"no intensity: {error}")
    return values, words | ({"breakdown_notes": "; ".join(notes)} if notes else {})


def projections(module: nn.Module) -> list[nn.Module]:
    """The linear layers and the convolutions with a kernel of 1, by module."""
    return [m for m in module.modules() if isinstance(m, nn.Linear) or _pointwise(m)]


def least_bytes(arm: Arm) -> int:
    """Weights, input and output of the last call, each once: no call can move fewer bytes through the memory."""
    output = sum(t.numel() * t.element_size() for t in tensors_of(arm.output))
    return arm.weights_bytes + arm.input_bytes + output


def profile_calls(device: Device, call: Callable[[], object], calls: int, inside: Iterable[nn.Module] = ()) -> Times:
    """Call so often under the profiler, with the modules `inside` as projections."""
    marked = list(dict.fromkeys(inside))
    before = [vars(m).copy() for m in marked]
    for module in marked:
        module.forward = _ranged(module.forward)
    own = getattr(ProfilerActivity, device.torch_device().type.upper(), ProfilerActivity.CPU)
    on_gpu = own != ProfilerActivity.CPU
    activities = [ProfilerActivity.CPU, *([own] if on_gpu else [])]
    try:
        with profile(activities=activities, acc_events=True) as trace:
            for _ in range(calls):
                with record_function(CALL):
                    call()
                    device.synchronize()
    finally:
        for module, attributes in zip(marked, before, strict=True):
            del module.forward
            vars(module).update(attributes)
    return sort_out(trace.events() or (), on_gpu=on_gpu)


def sort_out(events: Iterable[Any], *, on_gpu: bool) -> Times:
    """The profiler's events -> seconds of projections, of the core, and of each operator.

    Backward operators carry the sequence number of the forward operator that made their node; of several forward
    operators with one number the last is the maker.
    """
    on_host = [e for e in events if e.device_type == DeviceType.CPU]
    made_inside = {e.sequence_nr: _within(e) for e in on_host if e.sequence_nr >= 0 and not _backward(e)}
    times = Times()
    for event in on_host:
        if event.name in (CALL, PROJECTION):
            times.wall += event.time_range.elapsed_us() / 1e6 if event.name == CALL else 0.0
            continue
        own = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        root = _backward(event)
        projection = made_inside.get(root.sequence_nr, False) if root is not None else _within(event)
        (times.inside if projection else times.outside)[_short(event.name)] += own
    return times


def top(operators: Mapping[str, float], whole: float) -> str:
    """The dearest operators with their shares: `addmm 61 %, bmm 20 %, _softmax 9 %`."""
    dearest = sorted(operators.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return ", ".join(f"{name} {100 * own / whole:.0f} %" for name, own in dearest if own > 0)


def _short(name: str) -> str:
    """An operator's name without its namespace; the names of compiled graphs hold a hash and are one operator here."""
    if name.startswith(_COMPILED):
        return "compiled code"
    return name.removeprefix(_BACKWARD).removeprefix("aten::")


def _within(event: Any) -> bool:
    """Whether a projection's range encloses the event."""
    while event is not None:
        if event.name == PROJECTION:
            return True
        event = event.cpu_parent
    return False


def _backward(event: Any) -> Any:
    """The autograd engine's event around this one; None for an operator of the forward pass."""
    while event is not None:
        if event.name.startswith(_BACKWARD):
            return event
        event = event.cpu_parent
    return None


def _ranged(forward: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        with record_function(PROJECTION):
            return forward(*args, **kwargs)

    return inside


def _pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and all(k == 1 for k in module.kernel_size)
