"""Steps that look at the device itself with torch: queue, caches, layouts, conditions, compiled layers."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

import attnbench
from attnbench.analysis.summarize import LAUNCH_BOUND
from attnbench.machine.devices import Device, Turn, open_device
from attnbench.measure import latency
from proof.check import Check, check, not_applicable
from proof.context import Context
from proof.tool_steps import NO_TIME

NO_QUEUE = "a call on the CPU has finished when it returns"
KERNELS = [(3, 1), (5, 1), (7, 1), (7, 3)]  # side and dilation of the depthwise convolutions that the layers use
COPIES = ("Memcpy HtoD", "Memcpy DtoH", "cudaStreamSynchronize")


def turn_of(device: Device, call: Callable[[], object], calls: int = 20, *, cold: bool = False) -> Turn:
    """A primed turn."""
    latency.prime(device, call, 0.02)
    return latency.turn(device, call, calls, cold=cold)


def queue(context: Context) -> list[Check]:
    """How many launches the queue takes before the host waits, and whether that is mistaken for launch-bound."""
    device = open_device(context.device)
    where = device.torch_device()
    names = ("depth of the queue", "3000 launches a call, bound by the GPU", "600 of them, 10 calls", "100 of nothing")
    below, above = f"queue below {LAUNCH_BOUND} of the time", f"queue above {LAUNCH_BOUND} of it"
    expected = ("about 1000 launches", below, below, above)
    if context.on_cpu:
        return [not_applicable(n, e, NO_QUEUE) for n, e in zip(names, expected, strict=True)]
    blocked = _first_that_waits(where)
    work, nothing = torch.zeros(1 << 24, device=where), torch.zeros(1, device=where)
    busy = _queue_share(device, lambda: [work.add_(1) for _ in range(3000)], 3)
    many = _queue_share(device, lambda: [work.add_(1) for _ in range(600)], 10)
    idle = _queue_share(device, lambda: [nothing.add_(1) for _ in range(100)], 20)
    return [
        check(names[0], expected[0], blocked or "none of 5000 waits", True),
        check(names[1], expected[1], f"{busy:.2f}", busy < LAUNCH_BOUND),
        check(names[2], expected[2], f"{many:.2f}", many < LAUNCH_BOUND),
        check(names[3], expected[3], f"{idle:.2f}", idle > LAUNCH_BOUND),
    ]


def _first_that_waits(where: torch.device) -> int:
    x = torch.zeros(1, device=where)
    torch.cuda.synchronize(where)
    torch.cuda._sleep(1 << 31)
    waits = 0
    for number in range(1, 5001):
        start = time.perf_counter()
        x.add_(1)
        if time.perf_counter() - start > 0.05:
            waits = number
            break
    torch.cuda.synchronize(where)
    return waits


def _queue_share(device: Device, call: Callable[[], object], calls: int) -> float:
    turn = turn_of(device, call, calls)
    return turn.queue_s / median(turn.device_s)


def cold(context: Context) -> list[Check]:
    """A cold call costs what its kernels cost without the caches, not the latency of a launch."""
    device = open_device(context.device)
    where = device.torch_device()
    device.set_precision("fp32")
    dim, grid = (24, (4, 4)) if context.tiny else (768, (14, 14))
    checks = []
    for name, batch in (("window", 1), ("msa", 1 if context.tiny else 64)):
        layer = attnbench.build(name, dim=dim, heads=dim // 8 if context.tiny else 12, grid=grid).eval().to(where)
        x = torch.randn(batch, *grid, dim, device=where)

        def call(layer: torch.nn.Module = layer, x: torch.Tensor = x) -> None:
            with torch.inference_mode():
                layer(x)

        hot = median(turn_of(device, call).device_s)
        chilled = median(turn_of(device, call, cold=True).device_s)
        alone = _kernel_seconds(device, call) if not context.on_cpu else hot
        seen = f"hot {hot * 1e3:.3f} ms, cold {chilled * 1e3:.3f} ms, kernels {alone * 1e3:.3f} ms"
        question, expected = f"cold {name}, batch {batch}", "at most 3 times its kernels"
        if context.on_cpu:
            checks.append(not_applicable(question, expected, f"{NO_QUEUE}; {seen}"))
        else:
            checks.append(check(question, expected, seen, chilled <= 3 * alone))
    return checks


def _kernel_seconds(device: Device, call: Callable[[], object], calls: int = 10) -> float:
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        for _ in range(calls):
            call()
        device.synchronize()
    return sum(event.self_device_time_total for event in trace.key_averages()) / calls / 1e6


def depthwise(context: Context) -> list[Check]:
    """Depthwise convolutions in channels_last, as the layers run them, against NCHW."""
    device = open_device(context.device)
    where = device.torch_device()
    device.set_precision("fp32")
    batch, channels, side = (1, 24, 8) if context.tiny else (64, 768, 32)
    checks = []
    for dtype in (torch.float32, torch.bfloat16):
        found = {}
        for k, dilation in KERNELS:
            x = torch.randn(batch, channels, side, side, device=where, dtype=dtype)
            w = torch.randn(channels, 1, k, k, device=where, dtype=dtype)
            found[f"{k}x{k}{f' dilation {dilation}' if dilation > 1 else ''}"] = _last_over_first(
                device, x, w, dilation
            )
        name = f"depthwise, {str(dtype).removeprefix('torch.')}"
        seen = ", ".join(f"{kernel} {ratio:.1f}" for kernel, ratio in found.items())
        expected = "channels_last below 2 times NCHW; above, hornet, van, rala and bi_level are not representative"
        if context.tiny:
            checks.append(not_applicable(name, expected, f"{NO_TIME}; {seen}"))
        else:
            checks.append(check(name, expected, seen, max(found.values()) < 2))
    return checks


def _last_over_first(device: Device, x: torch.Tensor, w: torch.Tensor, dilation: int) -> float:
    def conv(images: torch.Tensor) -> Callable[[], object]:
        padding = dilation * (w.shape[-1] // 2)
        return lambda: functional.conv2d(images, w, padding=padding, dilation=dilation, groups=len(w))

    last = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        first_s, last_s = (median(turn_of(device, conv(images)).device_s) for images in (x, last))
    return last_s / first_s


def conditions(context: Context) -> list[Check]:
    """What a turn's reading holds, and what it costs."""
    device = open_device(context.device)
    device.torch_device()
    start = time.perf_counter()
    reading = device.start_reading()
    between = time.perf_counter()
    found = reading.finish()
    ms = ((between - start) * 1e3, (time.perf_counter() - between) * 1e3)
    wanted = {"wall_s"} if context.on_cpu else {"wall_s", "sm_clock_mhz", "temperature_c", "throttle_reasons"}
    seen = f"{', '.join(sorted(found))}; start {ms[0]:.1f} ms, end {ms[1]:.1f} ms"
    return [check("conditions of a turn", ", ".join(sorted(wanted)), seen, wanted <= set(found))]


def compiled(context: Context) -> list[Check]:
    """A compiled layer copies nothing between host and device in a call."""
    name, expected = "compiled layers", "no copy and no wait in a call"
    if context.on_cpu:
        return [not_applicable(name, expected, "host and device are one")]
    device = open_device(context.device)
    where = device.torch_device()
    device.set_precision("fp32")
    checks = []
    for mechanism in ("msa", "shifted_window", "neighborhood", "focal"):
        layer = torch.compile(attnbench.build(mechanism).eval().to(where), dynamic=False)
        x = torch.randn(4, 14, 14, 768, device=where)
        with torch.inference_mode():
            for _ in range(2):
                layer(x)
            device.synchronize()
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
                layer(x)
        copies = {e.key: e.count for e in trace.key_averages() if e.key.startswith(COPIES)}
        seen = ", ".join(f"{key} {count}" for key, count in copies.items()) or "none"
        checks.append(check(f"compiled {mechanism}", expected, seen, not copies))
    return checks
