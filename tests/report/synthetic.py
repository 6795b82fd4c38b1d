"""Run folders made of invented numbers: laws of cost, and a little noise that is always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.machine.environment import Environment
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan, Sweep
from attnbench.registry.variant import parse_variant
from attnbench.results.record import Record
from attnbench.results.run_facts import RunFacts
from attnbench.results.store import create_or_resume

# A machine without a short name: points are named by their device alone.
HERE = Environment(fingerprint=Fingerprint(kernel="6.1", cpu_model="Invented CPU"))
FACTS = RunFacts(environment=HERE)

LAYERS = {
    "msa": (521_428_992, 2_362_368, 1.0),
    "cswin": (493_280_256, 2_370_048, 0.9),
    "dat": (525_493_248, 2_378_796, 0.62),
    "performer": (617_164_800, 2_362_368, 0.5),
    "linformer": (616_562_688, 2_462_720, 0.8),
    "sra": (419_371_008, 4_723_968, 1.3),
    "window": (477_173_760, 2_362_368, 1.2),
    "shifted_window": (477_173_760, 2_362_368, 0.6),
    "focal": (526_851_072, 2_443_034, 0.4),
    "xca": (481_689_600, 2_362_380, 1.1),
    "quadtree": (621_944_064, 5_331_458, 0.2),
    "van": (357_955_584, 1_830_144, 1.02),
    "hornet": (436_512_384, 2_232_192, 1.25),
    "hilo": (298_296_320, 2_198_528, 1.75),
}
SPECTRUM = {  # of a run folder's spectrum.json
    "frequency": [0.0, 0.25, 0.5], "amplitude": {"Hi-Fi": [1.0, 2.0, 3.0], "Lo-Fi": [3.0, 2.0, 1.0]},
    "maps": {"Hi-Fi": [[0.0, 1.0], [1.0, 0.0]], "Lo-Fi": [[1.0, 0.0], [0.0, 1.0]]},
}  # fmt: skip


def cell(variant: str = "msa", **changes: Any) -> Cell:
    """One cell of the papers' layer benchmark; `variant` may be a text that no mechanism can bear."""
    try:
        settings = parse_variant(variant).settings
    except AttnbenchError:
        settings = ()
    base = Cell(
        scope="layer", variant=variant, settings=settings, res_h=224, res_w=224, batch=64, dim=768, heads=12, stride=16,
        device="cpu", precision="fp32", pass_="forward", kernel="eager", threads=2, allocator="pinned",
    )  # fmt: skip
    return replace(base, **changes)


def model(variant: str, **changes: Any) -> Cell:
    """One cell of a whole model."""
    scope = "task" if "backbone=" in variant else "backbone"
    return cell(
        variant, **{"scope": scope, "dim": 0, "heads": 0, "stride": 0, "device": "cuda", "threads": 1, **changes}
    )


def noise(cell: Cell) -> float:
    """Between 0.99 and 1.01, the same for a cell every time."""
    return 0.99 + 0.02 * int(hashlib.sha256(cell.id.encode()).hexdigest()[:6], 16) / 0xFFFFFF


def measured(cell: Cell, speed: float = 1.0, *, device_name: str = "Invented CPU", **values: float) -> Record:
    """An `ok` record: `speed` is relative to the reference."""
    tokens = cell.grid[0] * cell.grid[1] if cell.scope == "layer" else 196
    relative = speed * noise(cell)
    base = 500.0 * (196 / tokens) ** 1.2 * (10 if cell.device.startswith("cuda") else 1) * relative
    macs, params, _ = LAYERS.get(cell.mechanism, (400_000_000, 2_000_000, 1.0))
    found: dict[str, float] = {
        "macs": int(macs * tokens / 196),
        "params": params,
        "throughput_img_per_s": base,
        "throughput_low": base * 0.99,
        "throughput_high": base * 1.01,
        "latency_s": cell.batch / base,
        "latency_low_s": cell.batch / base / 1.01,
        "latency_high_s": cell.batch / base / 0.99,
        "ratio_to_reference": relative,
        "ratio_low": relative * 0.992,
        "ratio_high": relative * 1.008,
        "ratio_error": 0.0037,
        "ratio_df": 15.0,
        "rounds": 16,
        "peak_memory_bytes": int(2e8 + 4e5 * tokens * cell.batch / speed),
    }
    return Record(
        cell=cell,
        outcome="ok",
        values={**found, **values},
        protocol="standard",
        run_id="",
        words={"device_name": device_name, "reference": "msa", "kernel_ran": cell.kernel},
    )


def failed(cell: Cell, outcome: str = "oom", reason: str = "the trial needs 12.0 GiB; got 8.0 GiB") -> Record:
    """A record without numbers but counts."""
    return Record(cell=cell, outcome=outcome, reason=reason, protocol="standard", words={"device_name": "Invented CPU"})


def run(
    folder: Path,
    records: Iterable[Record],
    *,
    planned: Iterable[Cell] = (),
    facts: RunFacts = FACTS,
) -> Path:
    """A run folder with these records; `planned` cells have none."""
    made = list(records)
    plan = Plan(Sweep(), (*(r.cell for r in made), *planned), {})
    with create_or_resume(folder, plan, facts) as writer:
        for record in made:
            writer.add(replace(record, run_id=writer.id))
    return folder


def layers(
    folder: Path, *, sizes: Iterable[int] = (224,), names: Iterable[str] = tuple(LAYERS), **changes: Any
) -> Path:
    """A run of layers over resolutions; MSA runs out of memory at 1024."""
    device_name = changes.pop("device_name", "Invented CPU")
    records = []
    for side in sizes:
        for name in names:
            made = cell(name, res_h=side, res_w=side, **changes)
            if name == "msa" and side >= 1024:
                records.append(failed(made))
            elif name == "dat" and side >= 1024:
                records.append(failed(made, "declined", "the table is made for one grid; got grid=64x64"))
            else:
                speed = LAYERS[name][2] * (side / 224) ** (0.5 if name in ("performer", "hilo") else 0.05)
                records.append(measured(made, speed, device_name=device_name))
    return run(folder, records)
