"""`attnbench list`: registered mechanisms and models, and what else a sweep can name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from attnbench import inert
from attnbench.registry.native import NATIVE

if TYPE_CHECKING:
    from attnbench.registry.declaration import Declaration

HIDDEN = {  # by what is listed, for want of room: `--json` and `show NAME` have them
    "mechanisms": {"idea", "year", "settings"},
    "backbones": {"settings", "kernels"},
    "tasks": {"kernels"},
}
LEGEND = """\
reach: of a token in one layer; memory: how one call's grows with the tokens
needs: grid - is built for one token map (heads must divide dim in most);
  rule - refuses some sizes or settings, `plan` says which;
  batch - images of one batch influence each other; rng - two calls differ
`attnbench show NAME` says more, native kernels too; `--json` has idea, year, settings"""
WHAT = ("mechanisms", "backbones", "tasks", "protocols", "devices", "suites", "quantities")


@click.command("list")
@click.argument("what", type=click.Choice(WHAT), default="mechanisms")
@click.option("--plugin", "plugins", multiple=True, metavar="[NS=]PATH", help="A file with mechanisms; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(what: str, plugins: tuple[str, ...], as_json: bool) -> int:
    """List mechanisms, backbones, tasks, protocols, devices, suites or quantities."""
    rows = _ROWS.get(what, lambda p: _declared(what, p))(plugins)
    if as_json:
        click.echo(json.dumps(rows))
        return 0
    from rich.console import Console
    from rich.table import Table

    from attnbench.report.terminal import inert_text

    if not rows:
        click.echo(f"no {what} are registered")
        return 0
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    columns = [name for name in rows[0] if name not in HIDDEN.get(what, ())]
    for i, name in enumerate(columns):
        table.add_column(name, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(inert_text(_cell(name, row[name])) for name in columns))
    console = Console()
    console.print(table)
    if what == "mechanisms":
        console.print(inert_text(LEGEND, "dim", lines=True))
    return 0


def _cell(column: str, value: Any) -> str:
    """A value as text; lists of single words without commas, for want of room."""
    text = "" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if column not in ("kernels", "needs"):
        return text
    return " ".join(word for word in text.split(", ") if word not in NATIVE and word != "heads")


def _declared(what: str, plugins: tuple[str, ...]) -> list[dict[str, Any]]:
    from attnbench import registry
    from attnbench.registry.variant import value_text

    known = registry.load(plugins)
    for problem in known.problems:
        click.echo(f"warning: {inert.terminal(problem)}", err=True)
    scope: Any = {"mechanisms": "layer", "backbones": "backbone", "tasks": "task"}[what]
    return [
        {
            "name": d.name,
            **(_traits(d) if scope == "layer" else {"idea": d.title, "year": d.year}),
            "settings": ", ".join(f"{k}={value_text(v)}" for k, v in d.defaults.items()),
            "kernels": ", ".join(d.kernels),
            **({"needs": _needs(d)} if scope == "layer" else {}),
        }
        for d in (known[name] for name in known.names(scope))
    ]


def _traits(d: Declaration) -> dict[str, Any]:
    from attnbench.registry.defaults import mixing

    try:
        reach: str = mixing(d).extent
    except Exception:  # a plugin's function; `attnbench check` says what is wrong with it
        reach = "?"
    return {"idea": d.title, "year": d.year, "kind": d.kind, "reach": reach, "memory": d.growth or ""}


def _needs(d: Declaration) -> str:
    """What constrains a layer, in the words of `LEGEND`."""
    from attnbench.registry.declared import parameters

    takes = parameters(d.build)
    words = {
        "heads": d.heads_divide_dim and "heads" in takes,
        "grid": "grid" in takes,
        "rule": d.refuses is not None or d.declines is not None,
        "batch": bool(d.batch_coupled),
        "rng": d.random,
    }
    return ", ".join(word for word, holds in words.items() if holds)


def _protocols(_: tuple[str, ...]) -> list[dict[str, Any]]:
    from attnbench.planning.protocol import PROTOCOLS

    return [
        {
            "name": p.name,
            "meaning": p.meaning,
            "looks": p.looks,
            "processes": p.processes,
            "servers": p.servers,
            "calls": p.calls,
        }
        for p in PROTOCOLS.values()
    ]


def _devices(_: tuple[str, ...]) -> list[dict[str, Any]]:
    from attnbench.errors import AttnbenchError
    from attnbench.machine.devices import kinds, open_device

    rows = []
    for kind in kinds():
        try:
            rows.append({"name": kind, "device": open_device(kind).title(), "usable": "yes"})
        except AttnbenchError as error:
            rows.append({"name": kind, "device": "", "usable": f"no: {error}"})
    return rows


def _suites(_: tuple[str, ...]) -> list[dict[str, Any]]:
    from attnbench.published.suites import SUITES

    return [{"name": name, "what": s.meaning} for name, s in SUITES.items()]


def _quantities(_: tuple[str, ...]) -> list[dict[str, Any]]:
    from attnbench.results.record import QUANTITIES

    return [{"name": name, "unit": q.unit, "meaning": q.meaning} for name, q in QUANTITIES.items()]


_ROWS = {"protocols": _protocols, "devices": _devices, "suites": _suites, "quantities": _quantities}
