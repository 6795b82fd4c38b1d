"""`attnbench doctor`: this machine, its devices, and what could disturb a measurement now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(as_json: bool) -> int:
    """Describe this machine and what could disturb a measurement, with remedies."""
    from attnbench.machine.devices import present
    from attnbench.machine.disturbances import disturbances
    from attnbench.machine.environment import describe
    from attnbench.selftest import stored

    report = {
        "environment": describe(present()),
        "devices": _devices(),
        "disturbances": disturbances(),
        "selftest": stored.latest(),
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)
    return 0


def _devices() -> list[dict[str, Any]]:
    """One row for each device, and for each kind that is absent: does a matrix product run on it, and if not, why."""
    from attnbench.errors import AttnbenchError
    from attnbench.machine.devices import kinds, open_device, present

    devices = present()
    rows = []
    for name in [*devices, *(kind for kind in kinds() if not any(n.partition(":")[0] == kind for n in devices))]:
        try:
            device = open_device(name)
            rows.append({"name": name, "title": device.title(), **_try(device)})
        except AttnbenchError as error:
            rows.append({"name": name, "title": "", "works": False, "precisions": [], "reason": str(error)})
    return rows


def _try(device: Any) -> dict[str, Any]:
    """Run a small matrix product in every precision; `reason` says why fp32 fails, empty where it works."""
    import torch

    from attnbench.planning.sweep import PRECISIONS

    working, reasons = [], {}
    for precision in PRECISIONS:
        try:
            x = torch.ones(8, 8, device=device.torch_device(), dtype=device.set_precision(precision))
            if float((x @ x).sum()) != 512:
                raise RuntimeError("a matrix product of ones gives a wrong result")
            working.append(precision)
        except (RuntimeError, ValueError) as error:
            reasons[precision] = str(error).splitlines()[0]
    return {"works": "fp32" in working, "precisions": working, "reason": reasons.get("fp32", "")}


def _print(report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table.grid(padding=(0, 2))
    for name, value in _lines(report["environment"]):
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    console.print(table)
    console.print()
    for row in report["devices"]:
        words = f"works in {', '.join(row['precisions'])}" if row["works"] else f"does not work: {row['reason']}"
        console.print(
            Text(
                f"{row['name']:8}{row['title']}{': ' if row['title'] else ''}{words}",
                style="" if row["works"] else "dim",
            ),
            soft_wrap=True,
        )
    console.print()
    if not report["disturbances"]:
        console.print(Text("no disturbance found"))
    for line in report["disturbances"]:
        console.print(Text(f"! {line}", style="yellow"), soft_wrap=True)
    if report["selftest"]:
        from attnbench.selftest import stored

        tested = report["selftest"]
        console.print(Text(f"self-test of {tested['created']}: {stored.sentence(tested)}"), soft_wrap=True)


def _lines(e: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cpu, memory, torch = e["cpu"], e["memory"], e["torch"]
    yield "attnbench", _commit(e["versions"].get("attnbench", "not installed"), e["code"])
    yield "system", ", ".join(filter(None, [e["distribution"] or e["os"], e["kernel"], e["architecture"], e["libc"]]))
    cores = f" on {cpu['usable_cores']} cores" if cpu["usable_cores"] else ""
    quota = f", quota {cpu['quota']:g}" if cpu["quota"] is not None else ""
    yield "cpu", f"{cpu['model']}: {cpu['usable']} of {cpu['logical']} CPUs{cores}{quota}"
    yield "threads", str(e["threads"])
    limit = f", limited to {memory['limit_bytes'] / 2**30:.1f}" if memory["limit_bytes"] is not None else ""
    yield "memory", f"{memory['total_bytes'] / 2**30:.1f} GiB{limit}"
    yield "clock", f"governor {cpu['governor'] or 'unknown'}, SMT {cpu['smt'] or 'unknown'}"
    yield "runs on", "a container" if e["container"] else "a virtual machine" if cpu["hypervisor"] else "bare metal"
    yield "python", e["python"]
    built = [f"CUDA {torch['cuda']}" if torch["cuda"] else "no CUDA", f"oneDNN {torch.get('onednn', 'absent')}"]
    yield "torch", f"{torch['version']} ({', '.join([*built, torch['cpu_capability']])})"
    yield "packages", ", ".join(f"{k} {v}" for k, v in e["versions"].items() if k not in ("attnbench", "torch"))
    for name, facts in e["gpus"].items():
        yield (
            name,
            ", ".join(
                f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
            ),
        )
    if e["variables"]:
        yield "variables", " ".join(f"{k}={v}" for k, v in e["variables"].items())


def _commit(version: str, code: Mapping[str, Any]) -> str:
    if not code:
        return version
    return f"{version}, commit {code['commit'][:12]}{', with uncommitted changes' if code['dirty'] else ''}"
