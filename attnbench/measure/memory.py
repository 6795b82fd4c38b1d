"""The memory of one call of one arm: weights, input, and the peak above them."""

from __future__ import annotations

from attnbench.machine.devices import Device
from attnbench.measure.arm import Arm


def measure(device: Device, arm: Arm) -> dict[str, float | int]:
    """Bytes by the name of their quantity; `peak_memory_bytes` is weights + input + peak growth of one call."""
    peaks = device.measure_memory(arm, forget=arm.forget)
    values: dict[str, float | int] = {"weights_bytes": arm.weights_bytes, "input_bytes": arm.input_bytes, **peaks}
    growth = peaks.get("peak_growth_bytes", peaks.get("allocator_peak_bytes"))
    if growth is not None:
        values["peak_memory_bytes"] = arm.weights_bytes + arm.input_bytes + growth
    return values
