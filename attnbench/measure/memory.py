"""The memory of one call of one arm: weights, input, and the peak above them."""

from __future__ import annotations

from collections.abc import Callable

from attnbench.machine.devices import Device
from attnbench.machine.devices.cpu import loaded_and_growth
from attnbench.measure.arm import Arm


def measure(device: Device, arm: Arm) -> dict[str, float | int]:
    """Bytes by the name of their quantity; `peak_memory_bytes` is weights + input + peak growth of one call."""
    peaks = device.measure_memory(arm, forget=arm.forget)
    values: dict[str, float | int] = {"weights_bytes": arm.weights_bytes, "input_bytes": arm.input_bytes, **peaks}
    growth = peaks.get("peak_growth_bytes", peaks.get("allocator_peak_bytes"))
    if growth is not None:
        values["peak_memory_bytes"] = arm.weights_bytes + arm.input_bytes + growth
    return values


def measure_loading(arm: Arm, load: Callable[[], object], call: Callable[[], object]) -> dict[str, float | int]:
    """The memory of an exported layer: what its runtime holds once it is loaded, and the peak of its first call.

    A runtime keeps weights in a form of its own, and some keep a call's buffers for the next: so the peak counts from
    before the loading. Without values where the system does not show the resident peak; both functions are called then
    too.
    """
    values: dict[str, float | int] = {"weights_bytes": arm.weights_bytes}
    grown = loaded_and_growth(load, call)
    values["input_bytes"] = arm.input_bytes
    if grown is not None:
        loaded, peak = grown
        values["loaded_bytes"] = loaded
        values["peak_growth_bytes"] = max(0, loaded + peak - arm.weights_bytes)
        values["peak_memory_bytes"] = arm.input_bytes + max(arm.weights_bytes, loaded + peak)
    return values
