"""The rate that an estimate of the time rests on: ceilings of this machine since its start, a short probe, or a guess.

A probe runs in this process, so it is made on the CPU alone where a run follows: on a GPU it would keep memory there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attnbench.execution import machine_cache
from attnbench.machine import environment, linux
from attnbench.machine.counters import HostReading
from attnbench.planning.cell import Cell
from attnbench.planning.duration import CPU_MACS_PER_S, GPU_MACS_PER_S, layer_rate
from attnbench.results import flags
from attnbench.results.events import Ceilings

MEASURED, PROBED, ASSUMED = "measured since this machine was started", "from a short probe", "assumed"
BUSY = f"{PROBED} beside other programs: the machine is busy now, and a quiet one takes less time"
LOOKS, PAUSE_S = 3, 0.1  # of a probe, the best of which counts, and the seconds between them
_PROBE_S = 0.02  # of each of the two forms


@dataclass(frozen=True)
class Rate:
    """Multiply-accumulates per second, as `layer_rate` combines them, and where the figure comes from."""

    macs_per_s: float
    source: str


def rates_of(cells: Iterable[Cell], *, may_probe: Iterable[str] = ("cpu",)) -> dict[str, Rate]:
    """The rate of each cell's device, by cell id; devices of `may_probe` are probed where no ceilings are kept."""
    found: dict[tuple[str, str, int, str], Rate] = {}
    torch_version, probed = environment.torch_version(), {*may_probe}
    for cell in cells:
        key = (cell.device, cell.precision, cell.threads, cell.allocator)
        if key not in found:
            found[key] = _kept(key, torch_version) or (
                _probed(cell.device, cell.threads) if cell.device in probed else _assumed(cell.device)
            )
    return {cell.id: found[cell.device, cell.precision, cell.threads, cell.allocator] for cell in cells}


def describe(rates: Mapping[str, Rate], devices: Mapping[str, str]) -> str:
    """`168 GMACs/s on cpu, measured since this machine was started`, for each device; `devices` by cell id."""
    texts = []
    for device in dict.fromkeys(devices[cell] for cell in rates):
        here = [rate for cell, rate in rates.items() if devices[cell] == device]
        speeds = [f"{value:,.10g}" for value in sorted({round(rate.macs_per_s / 1e9, 1) for rate in here})]
        span = speeds[0] if len(speeds) == 1 else f"{speeds[0]} to {speeds[-1]}"
        texts.append(f"{span} GMACs/s on {device}, {' or '.join(dict.fromkeys(rate.source for rate in here))}")
    return "; ".join(texts)


def _kept(key: tuple[str | int, ...], torch_version: str) -> Rate | None:
    known = machine_cache.read(Ceilings, key, torch_version)
    if known is None or not known.macs_per_s:
        return None
    return Rate(layer_rate(known.macs_per_s, known.conv_macs_per_s), MEASURED)


def _probed(name: str, threads: int) -> Rate:
    """The best of a few looks at a matrix product and a 1x1 convolution in fp32, of a tenth of a second each."""
    import torch

    from attnbench.machine.devices import open_device
    from attnbench.measure.ceilings import conv_rate, product_rate

    device, before, reading = open_device(name), torch.get_num_threads(), HostReading()
    product = convolution = 0.0
    try:
        device.set_threads(min(threads, len(linux.affinity())))  # more may be more than the system lets start
        with torch.inference_mode():
            for look in range(LOOKS):
                time.sleep(PAUSE_S if look else 0.0)
                product = max(product, product_rate(device, torch.float32, _PROBE_S))
                convolution = max(convolution, conv_rate(device, torch.float32, _PROBE_S))
    finally:
        torch.set_num_threads(before)
    disturbed = flags.disturbed(reading.finish()) & {"busy_machine", "stolen"}
    return Rate(layer_rate(product, convolution), BUSY if disturbed else PROBED)


def _assumed(name: str) -> Rate:
    return Rate(CPU_MACS_PER_S if name == "cpu" else GPU_MACS_PER_S, ASSUMED)
