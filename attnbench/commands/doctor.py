"""`attnbench doctor`: this machine, its devices, and what could disturb a measurement now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from attnbench import inert

if TYPE_CHECKING:
    from attnbench.machine.devices import Device
    from attnbench.machine.environment import Code, Cpu, Environment
    from attnbench.machine.fingerprint import Fingerprint


@dataclass(frozen=True, kw_only=True)
class DeviceCheck:
    """Whether a matrix product runs on a device, in which precisions; `reason`: why fp32 fails, empty if it works."""

    name: str = ""
    title: str = ""
    works: bool = False
    precisions: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `doctor` prints; its fields are the keys of --json."""

    environment: Environment
    devices: tuple[DeviceCheck, ...]
    disturbances: tuple[str, ...]
    selftest: dict[str, Any] | None = None


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(as_json: bool) -> int:
    """Describe this machine and what could disturb a measurement, with remedies."""
    from attnbench.machine.devices import present
    from attnbench.machine.disturbances import disturbances
    from attnbench.machine.environment import describe
    from attnbench.results.lines import encode
    from attnbench.selftest import stored

    report = Report(
        environment=describe(present()),
        devices=tuple(_devices()),
        disturbances=tuple(disturbances()),
        selftest=stored.latest(),
    )
    if as_json:
        click.echo(json.dumps(encode(report)))
    else:
        _print(report)
    return 0


def _devices() -> Iterator[DeviceCheck]:
    """One for each device, and for each kind that is absent."""
    from attnbench.errors import AttnbenchError
    from attnbench.machine.devices import kinds, open_device, present

    devices = present()
    for name in [*devices, *(kind for kind in kinds() if not any(n.partition(":")[0] == kind for n in devices))]:
        try:
            device = open_device(name)
            yield dataclasses.replace(_try(device), name=name, title=device.title())
        except AttnbenchError as error:
            yield DeviceCheck(name=name, reason=str(error))


def _try(device: Device) -> DeviceCheck:
    """Run a small matrix product in every precision that is a mode of the device; int8 is one of a layer."""
    import torch

    from attnbench.planning.sweep import PRECISIONS

    working, reasons = [], {}
    for precision in (word for word in PRECISIONS if word != "int8"):
        try:
            x = torch.ones(8, 8, device=device.torch_device(), dtype=device.set_precision(precision))
            if float((x @ x).sum()) != 512:
                raise RuntimeError("a matrix product of ones gives a wrong result")
            working.append(precision)
        except (RuntimeError, ValueError) as error:
            reasons[precision] = str(error).splitlines()[0]
    usual = PRECISIONS[0]
    return DeviceCheck(works=usual in working, precisions=tuple(working), reason=reasons.get(usual, ""))


def _print(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from attnbench.report.terminal import open_console, print_words

    console = open_console()
    table = Table.grid(padding=(0, 2))
    for name, value in _lines(report.environment):
        table.add_row(Text(name, style="bold"), Text(inert.terminal(value), overflow="fold"))
    console.print(table)
    console.print()
    for row in report.devices:
        words = f"works in {', '.join(row.precisions)}" if row.works else f"does not work: {row.reason}"
        line = f"{row.name:8}{row.title}{': ' if row.title else ''}{words}"
        print_words(console, line, "" if row.works else "dim", hang=8)
    console.print()
    if not report.disturbances:
        print_words(console, "no disturbance found")
    for line in report.disturbances:
        print_words(console, f"! {line}", "yellow", hang=2)
    if report.selftest:
        from attnbench.selftest import stored

        tested = report.selftest
        print_words(console, f"self-test of {tested['created']}: {stored.sentence(tested)}")
        if "between_runs" in tested:
            print_words(console, stored.between_sentence(tested))


def _lines(e: Environment) -> Iterator[tuple[str, str]]:
    cpu, memory, torch = e.cpu, e.memory, e.torch
    yield "machine", e.machine_label
    yield "attnbench", _commit(e.versions.get("attnbench", "not installed"), e.code)
    yield "system", ", ".join(filter(None, [e.distribution or e.os, e.kernel, e.architecture, e.libc]))
    cores = f" on {cpu.usable_cores} physical cores" if cpu.usable_cores else ""
    quota = f", quota {cpu.quota:g}" if cpu.quota is not None else ""
    yield "cpu", f"{cpu.model}: {cpu.usable} of {cpu.logical} CPUs{cores}{quota}"
    yield "identity", ", ".join(_identity(e.fingerprint))
    yield "numa", _numa(cpu)
    yield "threads", str(e.threads)
    limit = f", limited to {memory.limit_bytes / 2**30:.1f} GiB" if memory.limit_bytes is not None else ""
    yield "memory", f"{memory.total_bytes / 2**30:.1f} GiB{limit}"
    turbo = {True: "on", False: "off", None: "unknown"}[cpu.turbo]
    yield "clock", f"governor {cpu.governor or 'unknown'}, turbo {turbo}, SMT {cpu.smt or 'unknown'}"
    yield "denormals", cpu.denormals or "unknown"
    yield "runs on", "a container" if e.container else "a virtual machine" if cpu.hypervisor else "bare metal"
    yield "python", e.python
    built = [f"CUDA {torch.cuda}" if torch.cuda else "no CUDA", f"oneDNN {torch.onednn or 'absent'}"]
    yield "torch", f"{torch.version} ({', '.join([*built, torch.cpu_capability])})"
    yield "packages", ", ".join(f"{k} {v}" for k, v in e.versions.items() if k not in ("attnbench", "torch"))
    for name, gpu in e.gpus.items():
        yield name, ", ".join(_filled(gpu))
    if e.variables:
        yield "variables", " ".join(f"{k}={v}" for k, v in e.variables.items())


def _identity(found: Fingerprint) -> Iterator[str]:
    """What identifies the processor, as far as the system provides it."""
    if found.family is not None:
        yield f"{found.vendor} family {found.family} model {found.model}"
    if found.stepping:
        yield f"stepping {found.stepping}"
    if found.microcode:
        yield f"microcode {found.microcode}"
    for level, size in found.cache_bytes.items():
        yield f"{level} {size >> 10} KiB"
    if found.isa_sha256:
        yield f"ISA flags {found.isa_sha256[:12]}"


def _numa(cpu: Cpu) -> str:
    count = len(cpu.numa_nodes)
    if not count:
        return "unknown"
    nodes = "; ".join(f"node {number}: CPUs {cpus or 'none'}" for number, cpus in enumerate(cpu.numa_nodes))
    bound = f"; bound to CPUs {cpu.bound_cpus}, memory of nodes {cpu.bound_nodes}" if cpu.bound_nodes else ""
    return f"{count} node{'s' if count > 1 else ''} ({nodes}){bound}"


def _filled(values: Any) -> Iterator[str]:
    """The fields of a dataclass that are known, with their names."""
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if value not in ("", None):
            yield f"{field.name} {value:g}" if isinstance(value, float) else f"{field.name} {value}"


def _commit(version: str, code: Code) -> str:
    if not code.commit:
        return version
    return f"{version}, commit {code.commit[:12]}{', with uncommitted changes' if code.dirty else ''}"
