"""The journal of earlier sessions -> what is known of every comparison group. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from attnbench.analysis.summarize import GroupData
from attnbench.planning.sweep import Plan
from attnbench.results.events import BetweenRuns, Ceilings, Count, Dropped, Event, Probe, Round, Trial


@dataclass
class Known:
    """What a run has learned so far.

    Attributes:
        groups: by comparison group. `counts`: by count key, shared by all groups. `ceilings`, `between_runs`: by key.
    """

    groups: dict[str, GroupData] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)
    ceilings: dict[tuple[str | int, ...], Ceilings] = field(default_factory=dict)
    between_runs: dict[tuple[str | int, ...], BetweenRuns] = field(default_factory=dict)


def replay(plan: Plan, events: Iterable[Event]) -> Known:
    """Sort the events by the group that they belong to; those of no planned cell, and repeated rounds, are left out."""
    known, rounds = Known(), set()
    known.groups = {group: GroupData(counts=known.counts) for group in plan.groups()}
    group_of = {cell.id: cell.group for cell in plan.cells}
    for event in events:
        if isinstance(event, Count):
            known.counts[event.key] = event
        elif isinstance(event, Ceilings):
            known.ceilings[event.key] = event
        elif isinstance(event, BetweenRuns):
            known.between_runs[event.key] = event
        elif isinstance(event, Trial) and event.cell in group_of:
            known.groups[group_of[event.cell]].trials[event.cell] = event
        elif isinstance(event, Probe) and event.cell in group_of:
            known.groups[group_of[event.cell]].probes[event.cell, event.what] = event
        elif isinstance(event, Dropped) and event.cell in group_of:
            known.groups[group_of[event.cell]].dropped[event.cell] = event
        elif isinstance(event, Round) and event.group in known.groups:
            if (event.group, event.process, event.round) in rounds:
                continue  # its line was copied
            rounds.add((event.group, event.process, event.round))
            known.groups[event.group].rounds.append(event)
            known.groups[event.group].resumed = True
    return known
