"""Runs -> machines: two runs are of one machine if its description and what it was measured to reach are the same.

Absolute figures are compared, and ratios between runs formed, on one machine alone. A run whose fingerprint says no
more of its processor than the name (before 21 November 2026) is of an unknown machine: the same as itself and as no
other run's. A run that only counted may come from anywhere, since counts do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from attnbench.machine.fingerprint import Fingerprint, differences
from attnbench.results.events import Ceilings
from attnbench.results.record import QUANTITIES
from attnbench.results.store import Run, read_ceilings

APART = 0.10  # largest share by which two measurements of one ceiling of one machine differ
_CEILINGS = {
    "macs_per_s": ("matrix product", "GMAC/s"),
    "conv_macs_per_s": ("1x1 convolution", "GMAC/s"),
    "linear_macs_per_s": ("packed linear", "GMAC/s"),
    "bytes_per_s": ("copy", "GB/s"),
}
_Rates = Mapping[tuple[tuple[str | int, ...], str], float]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one run says of its machine.

    Attributes:
        run_id: the run. `folder`: its folder's name, for people.
        name: the machine's short name, or `unknown machine`. `ceilings`: what it was measured to reach.
        timed: the run has figures that depend on the machine: times or memory.
    """

    run_id: str
    folder: str
    name: str
    fingerprint: Fingerprint
    ceilings: tuple[Ceilings, ...] = ()
    timed: bool = True


def machine_of(run: Run) -> Machine:
    """The machine of a stored run.

    Raises:
        AttnbenchError: a line of its journal is damaged.
    """
    counts = {name for name, quantity in QUANTITIES.items() if quantity.measure in ("params", "macs")}
    return Machine(
        run_id=run.id,
        folder=run.folder.name,
        name=run.facts.machine,
        fingerprint=run.facts.environment.fingerprint,
        ceilings=tuple(read_ceilings(run.folder)),
        timed=any(record.values.keys() - counts for record in run.records),
    )


def same_machine(a: Machine, b: Machine) -> list[str]:
    """Why two runs are not of the same machine, each reason with both values; empty if they are of one."""
    if a.run_id and a.run_id == b.run_id:
        return []
    unknown = [machine.folder for machine in (a, b) if not machine.fingerprint.known]
    reasons = [f"only the name of the processor of {' and '.join(unknown)} is stored"] if unknown else []
    return [
        *reasons,
        *differences(a.fingerprint, b.fingerprint, only_stored=bool(unknown)),
        *ceiling_differences(a.ceilings, b.ceilings),
    ]


def ceiling_differences(a: Sequence[Ceilings], b: Sequence[Ceilings]) -> list[str]:
    """The rates that both reached under the same conditions, more than `APART` apart, with both values."""
    mine, yours = _best(a), _best(b)
    found = []
    for key, name in sorted(mine.keys() & yours.keys(), key=str):
        one, other = mine[key, name], yours[key, name]
        share = 1 - min(one, other) / max(one, other)
        if share > APART:
            title, unit = _CEILINGS.get(name, (name, "G/s"))
            found.append(f"{title} {one / 1e9:.3g} and {other / 1e9:.3g} {unit}, {100 * share:.0f} % apart")
    return list(dict.fromkeys(found))


def _best(ceilings: Sequence[Ceilings]) -> _Rates:
    """The best of each rate, by key and name."""
    best: dict[tuple[tuple[str | int, ...], str], float] = {}
    for measured in ceilings:
        for name in (f.name for f in fields(measured) if f.name.endswith("_per_s")):
            rate = getattr(measured, name)
            if rate:
                best[measured.key, name] = max(rate, best.get((measured.key, name), 0.0))
    return best


def label_machines(machines: Sequence[Machine]) -> tuple[dict[str, str], list[str]]:
    """A name of its own for each machine among several runs, and sentences on what is kept apart.

    A timed run joins the first machine that is the same as that of every run there. Where two machines have one short
    name, the second is `NAME-2`; unknown ones are `unknown machine 1`, `unknown machine 2`, each with one run.

    Returns:
        The machine's name by run id, and the sentences.
    """
    by_name: dict[str, list[list[Machine]]] = {}
    labels: dict[str, str] = {}
    notes: list[str] = []
    for machine in machines:
        groups = by_name.setdefault(machine.name, [])
        if not machine.timed:
            labels[machine.run_id] = machine.name
            continue
        place = next((i for i, group in enumerate(groups) if all(not same_machine(machine, m) for m in group)), None)
        if place is None:
            place = len(groups)
            groups.append([])
            if place and machine.fingerprint.known:
                notes.append(_apart(machine, groups[:place], _label(machine, place)))
        groups[place].append(machine)
        labels[machine.run_id] = _label(machine, place)
    unknown = [machine.folder for machine in machines if machine.timed and not machine.fingerprint.known]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: only the processor's name is stored, so each is of an unknown machine of its own "
            "and is compared with no other run; measure again to compare"
        )
    return labels, notes


def _label(machine: Machine, place: int) -> str:
    if not machine.fingerprint.known:
        return f"{machine.name} {place + 1}"
    return machine.name if not place else f"{machine.name}-{place + 1}"


def _apart(machine: Machine, groups: Sequence[Sequence[Machine]], label: str) -> str:
    other, why = next((m, why) for group in groups for m in group if (why := same_machine(m, machine)))
    return (
        f"{other.folder} and {machine.folder} name one machine, {machine.name}, but are kept apart, "
        f"the second as {label}: {'; '.join(why)}"
    )
