"""Runs -> machines: two runs are of one machine if its description and what it was measured to reach are the same.

Absolute figures are compared, and ratios of two runs formed, on one machine alone. A run whose fingerprint says no
more of its processor than the name (before 21 November 2026) is of an unknown machine: it is the same as itself and
as no other run's. A report may still show several such runs under one name, `unknown machine 1`, where host,
fingerprint and ceilings agree; nothing is computed across them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from attnbench.machine.fingerprint import Fingerprint, differences
from attnbench.results.events import Ceilings
from attnbench.results.store import Run, read_ceilings

APART = 0.10  # largest share by which two measurements of one ceiling of one machine differ
_CEILINGS = {
    "macs_per_s": ("matrix product", "GMAC/s"),
    "conv_macs_per_s": ("1x1 convolution", "GMAC/s"),
    "linear_macs_per_s": ("packed linear", "GMAC/s"),
    "bytes_per_s": ("copy", "GB/s"),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one run says of its machine.

    Attributes:
        run_id: the run. `folder`: its folder's name, for people.
        name: the machine's short name. `host`: hash of the host. `ceilings`: what it was measured to reach.
    """

    run_id: str
    folder: str
    name: str
    host: str
    fingerprint: Fingerprint
    ceilings: tuple[Ceilings, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the run says enough of its machine to recognise it in another run."""
        return self.fingerprint.known


def machine_of(run: Run) -> Machine:
    """The machine of a stored run.

    Raises:
        AttnbenchError: a line of its journal is damaged.
    """
    environment = run.facts.environment
    return Machine(
        run_id=run.id,
        folder=run.folder.name,
        name=environment.machine_label,
        host=environment.host,
        fingerprint=environment.fingerprint,
        ceilings=tuple(read_ceilings(run.folder)),
    )


def same_machine(a: Machine, b: Machine) -> list[str]:
    """Why two runs are not of the same machine, each reason with both values; empty if they are of one."""
    if a.run_id and a.run_id == b.run_id:
        return []
    unknown = [machine.folder for machine in (a, b) if not machine.known]
    if unknown:
        stores = "stores" if len(unknown) == 1 else "store"
        return [
            f"what the processor is, which {' and '.join(unknown)} {stores} no more of than its name",
            *_apart(a, b),
        ]
    return _apart(a, b)


def look_alike(a: Machine, b: Machine) -> bool:
    """Whether two runs may be shown under one name: one machine, or two unknown ones that agree in all that is stored.

    Two unknown machines that look alike may still be different: nothing is computed across them.
    """
    if a.known or b.known:
        return not same_machine(a, b)
    return bool(a.host) and a.host == b.host and not _apart(a, b)


def _apart(a: Machine, b: Machine) -> list[str]:
    return [*differences(a.fingerprint, b.fingerprint), *ceiling_differences(a.ceilings, b.ceilings)]


def ceiling_differences(a: Sequence[Ceilings], b: Sequence[Ceilings]) -> list[str]:
    """The ceilings that both measured under the same conditions, more than `APART` apart, with both values."""
    mine, yours = _best(a), _best(b)
    found = []
    for key, name in sorted(mine.keys() & yours.keys(), key=str):
        one, other = mine[key, name], yours[key, name]
        share = 1 - min(one, other) / max(one, other)
        if share > APART:
            title, unit = _CEILINGS.get(name, (name, "G/s"))
            found.append(f"{title} {one / 1e9:.3g} and {other / 1e9:.3g} {unit}, {share:.0%} apart")
    return list(dict.fromkeys(found))


def _best(ceilings: Sequence[Ceilings]) -> Mapping[tuple[tuple[str | int, ...], str], float]:
    """The best of each rate by key and name."""
    best: dict[tuple[tuple[str | int, ...], str], float] = {}
    for measured in ceilings:
        for name in (f.name for f in fields(measured) if f.name.endswith("_per_s")):
            rate = getattr(measured, name)
            if rate is not None and rate > 0:
                best[measured.key, name] = max(rate, best.get((measured.key, name), 0.0))
    return best


def label_runs(machines: Sequence[Machine]) -> tuple[dict[str, str], list[str]]:
    """A name of its own for each machine among several runs, and sentences on what is kept apart.

    A run joins the first machine that all of whose runs look like it. Where different machines have one short name,
    the second is `NAME #2`; unknown ones are `unknown machine 1`, `unknown machine 2`.

    Returns:
        The machine's name by run id, and the sentences.
    """
    groups: list[list[Machine]] = []
    for machine in machines:
        mates = next((g for g in groups if all(look_alike(machine, other) for other in g)), None)
        if mates is None:
            groups.append([machine])
        else:
            mates.append(machine)
    labels: dict[str, str] = {}
    notes: list[str] = []
    named: dict[str, list[Machine]] = {}
    counts: dict[str, int] = {}
    for group in groups:
        known, name = group[0].known, group[0].name
        number = counts[name if known else ""] = counts.get(name if known else "", 0) + 1
        label = f"unknown machine {number}" if not known else f"{name} #{number}" if number > 1 else name
        if known and number > 1:
            why = "; ".join(_reasons(named[name], group))
            notes.append(f"two machines have the name {name} and are kept apart, the second as {label}: {why}")
        if known:
            named.setdefault(name, []).extend(group)
        labels |= {machine.run_id: label for machine in group}
    unknown = [machine.folder for machine in machines if not machine.known]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: stored no more of the processor than its name, so that the machine is unknown; "
            "nothing is computed across such runs"
        )
    return labels, notes


def _reasons(first: Sequence[Machine], second: Sequence[Machine]) -> list[str]:
    pairs = ((one, other) for one in first for other in second)
    return next(why for one, other in pairs if (why := same_machine(one, other)))
