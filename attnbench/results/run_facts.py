"""run.json <-> RunFacts: what a run was asked for, with what, and on which machine. The one reader of that file.

Every part but the run's identifier and its plan has a default, so that runs of every version so far can be read;
a key that this version does not have is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.machine.environment import Environment
from attnbench.planning.cell import Cell
from attnbench.planning.sweep import Plan
from attnbench.results.lines import decode, encode
from attnbench.results.record import SCHEMA, check_cell


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """The plan as it is stored; `declined`: the reason by cell id."""

    hash: str
    cells: tuple[Cell, ...]
    declined: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The content of run.json.

    Attributes:
        plan: None before the run has a folder. `sweep`: the request by field.
        created: time, ISO 8601. `command`: what resumes the run. `attnbench`: the version that measured.
        protocol: its numbers by name, as stored: a later version may have others.
    """

    schema: int = SCHEMA
    run_id: str = ""
    plan: PlanFacts | None = None
    sweep: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    command: str = ""
    attnbench: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)

    @property
    def planned(self) -> PlanFacts:
        """The plan.

        Raises:
            ValueError: the run has no folder yet.
        """
        if self.plan is None:
            raise ValueError("a run has a plan once it has a folder")
        return self.plan

    @property
    def looks(self) -> int:
        """At how many numbers of rounds the run could end."""
        return len(self.protocol.get("looks") or [0])

    @property
    def level(self) -> float:
        """The confidence level that the protocol asks for."""
        return float(self.protocol.get("level") or 0.95)

    @property
    def within_s(self) -> float | None:
        """The budget of the run in seconds; None without one."""
        given = self.protocol.get("within_s")
        return float(given) if isinstance(given, int | float) and math.isfinite(given) else None

    @property
    def reference(self) -> str:
        """The variant that ratios refer to; `none` without one."""
        return str(self.sweep.get("reference", "none"))

    @property
    def machine(self) -> str:
        """The machine's short name; `unknown machine` where the run does not say what its processor is."""
        return self.environment.machine_label if self.environment.fingerprint.known else "unknown machine"

    def of_plan(self, plan: Plan, run_id: str) -> RunFacts:
        """These facts with the plan and its sweep."""
        made = PlanFacts(hash=plan.hash, cells=tuple(plan.cells), declined=dict(plan.declined), notes=tuple(plan.notes))
        return replace(self, run_id=run_id, plan=made, sweep=encode(plan.sweep))


def read_facts(data: Any, path: str) -> RunFacts:
    """Read the values of run.json, of any schema so far.

    Args:
        data: as JSON gives it.
        path: of the file, for the message.

    Raises:
        AttnbenchError: an unknown schema.
        ValueError: a part is missing or has the wrong type; the message names its place.
    """
    if not isinstance(data, Mapping) or "schema" not in data:
        raise ValueError("run.json must have schema")
    schema = data["schema"]
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        got = str(schema)[:40]
        raise AttnbenchError(f"a run's schema must be 1 to {SCHEMA}; {path} has {got}; a newer attnbench wrote it")
    lacking = [name for name in ("run_id", "plan") if not data.get(name)]
    if lacking:
        raise ValueError(f"run.json must have {' and '.join(lacking)}")
    facts = decode(RunFacts, {name: value for name, value in data.items() if value is not None}, "run.json")
    cells = facts.planned.cells
    for place, cell in enumerate(cells):
        check_cell(cell, f"run.json.plan.cells[{place}]")
    if len({cell.id for cell in cells}) < len(cells):
        raise ValueError("run.json.plan.cells must differ; one is there twice")
    protocol = decode(_Protocol, {k: v for k, v in facts.protocol.items() if v is not None}, "run.json.protocol")
    if not 0 < protocol.level < 1 or len(protocol.looks) > MOST_LOOKS:
        got = f"level {protocol.level:g} and {len(protocol.looks)} looks"
        raise ValueError(f"run.json.protocol must have a level in 0 to 1 and at most {MOST_LOOKS} looks; got {got}")
    decode(_Sweep, facts.sweep, "run.json.sweep")
    return facts


MOST_LOOKS = 1000  # at which a run could end


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    """What is read of a stored protocol."""

    looks: tuple[int, ...] = ()
    level: float = 0.95


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """What is read of a stored sweep."""

    reference: str = "none"
