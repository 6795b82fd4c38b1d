"""A machine on which the runner measures in no time: what its workers report is invented, and always the same.

Plan, runner, statistics and store are the real ones; no process is started and no clock is read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from attnbench.execution import fork_server, machine_cache
from attnbench.execution.workers import Workers
from attnbench.machine import environment
from attnbench.machine.environment import Code, Cpu, Environment, Memory, Torch
from attnbench.machine.fingerprint import Fingerprint
from attnbench.planning.cell import Cell
from attnbench.results.events import Agreement, ArmTurn, Ceilings, Count, Dropped, Failure, Round, Trial

MACHINE = Environment(
    machine_label="zen5-2c-0000", host="0123456789ab", os="Linux", distribution="Debian 13", kernel="6.1.0-1-amd64",
    architecture="x86_64", libc="glibc 2.41", container=True, python="3.11.0",
    versions={"attnbench": "1.0", "torch": "2.13.0", "numpy": "2.4.0", "timm": "1.0.30", "onnxruntime": "1.30.0"},
    code=Code(commit="0123456789abcdef", dirty=True), threads=2,
    torch=Torch(version="2.13.0", cpu_capability="AVX512", onednn="3.12", mkldnn=True),
    cpu=Cpu(
        model="AMD EPYC", logical=4, usable=2, usable_cores=2, quota=2.0, governor="powersave", turbo=True, smt="off",
        numa_nodes=("0-3",), denormals="kept", hypervisor=True,
    ),
    memory=Memory(total_bytes=16 << 30, limit_bytes=8 << 30),
    devices={"cpu": "AMD EPYC (2 cores)"}, variables={"MALLOC_TOP_PAD_": "268435456", "OMP_NUM_THREADS": "2"},
    fingerprint=Fingerprint(
        architecture="x86_64", cpu_model="AMD EPYC", vendor="AuthenticAMD", family=26, model=2, stepping="1",
        microcode="0x1000065", isa_sha256="25fc08b1fed3" + 52 * "0",
        cache_bytes={"L1d": 48 << 10, "L1i": 32 << 10, "L2": 1 << 20, "L3": 32 << 20},
    ),
)  # fmt: skip
MILLISECONDS = {"msa": 8.0, "hilo": 5.0, "sra": 5.2, "window": 7.1, "hornet": 4.0}  # of a call; 6 of another layer
FAILS = {"hornet": Failure(outcome="failed", reason="the output must have the shape of the input, (1, 2, 2, 24); got "
                                                    "(1, 2, 1, 24); return a tensor of the input's shape")}  # fmt: skip
CRASHES = {"window": "its process ended by signal 9 (SIGKILL): the system may have been out of memory"}


class _NoServer:
    """Stands where a fork server would."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def close(self) -> None: ...

    def end(self) -> None: ...


def invent(monkeypatch: pytest.MonkeyPatch, *, faults: bool = False) -> None:
    """Let workers report invented figures; with `faults`, layers of `FAILS` and `CRASHES` come to grief."""

    def trial(_: Workers, cell: Cell) -> Trial | Failure:
        if faults and cell.mechanism in FAILS:
            return FAILS[cell.mechanism]
        values = {"weights_bytes": 10_000, "input_bytes": 400, "peak_growth_bytes": 5_000, "peak_memory_bytes": 15_400}
        return Trial(
            cell=cell.id, values=values, call_s=_seconds(cell), kernel_ran=cell.kernel, device_name="AMD EPYC (2 cores)"
        )

    def rounds(
        _: Workers, cells: Sequence[Cell], *, group: str, process: int, first_round: int, rounds: int,
        reference: str, reference_turns: int, **__: Any,
    ) -> Iterator[Round | Dropped]:  # fmt: skip
        lost = {cell.id for cell in cells if faults and cell.mechanism in CRASHES}
        for cell in cells:
            if cell.id in lost:
                yield Dropped(cell=cell.id, outcome="crashed", reason=CRASHES[cell.mechanism])
        for number in range(first_round, first_round + rounds):
            arms = [c for c in cells if c.id not in lost for _ in range(reference_turns if c.id == reference else 1)]
            noise = random.Random(f"{process} {number}")
            turns = [ArmTurn(cell=c.id, calls_s=(_seconds(c) * noise.lognormvariate(0, 0.01),)) for c in arms]
            yield Round(group=group, process=process, round=number, turns=tuple(turns))

    invented = {
        "start": lambda *_: _NoServer(), "trial": trial, "rounds": rounds,
        "count": lambda _, cell: Count(key=cell.count_key, values={"params": 2_400, "macs": 9_600}),
        "ceilings": lambda _, cell, known=None: Ceilings(
            key=(cell.device, cell.precision, cell.threads, cell.allocator), macs_per_s=2.5e11, bytes_per_s=4e10
        ),
        "agreement": lambda _, cell, base: Agreement(cell=cell.id, difference=1.2e-7),
    }  # fmt: skip
    for name, function in invented.items():
        monkeypatch.setattr(Workers, name, function)
    monkeypatch.setattr(fork_server, "ForkServer", _NoServer)
    monkeypatch.setattr(environment, "describe", lambda devices: replace(MACHINE))
    monkeypatch.setattr(machine_cache, "read", lambda *_: None)
    monkeypatch.setattr(machine_cache, "write", lambda *_: None)


def _seconds(cell: Cell) -> float:
    return 1e-3 * MILLISECONDS.get(cell.mechanism, 6.0)
