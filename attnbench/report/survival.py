"""Which rankings survive: Kendall's tau between every two conditions, and which single change moves it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from attnbench import runtimes
from attnbench.analysis import survival
from attnbench.analysis.front import on_front
from attnbench.analysis.statistics import Interval
from attnbench.analysis.survival import COUNTED, ITEMS, LEAST_ITEMS, Agreement, Axes, Change, Condition
from attnbench.report import survival_figure, survival_sources
from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate, Evidence
from attnbench.report.numbers import counted
from attnbench.report.tables import Column, Table, Value

BASES = "The interval of a tau comes from the stored rounds (the same items, measured again: bootstrap over processes)"
BASES += " or, where a condition is a published table, from the items (other items of this kind: jackknife)."


@dataclass(frozen=True, kw_only=True)
class Survival:
    """What `attnbench survive` answers with.

    Attributes:
        conditions: with a label each, which names what varies among them.
        changes: what each axis alone does, the one that moves the ranking most first.
        top1: published top-1 in per cent by item, where the fronts of accuracy and speed are compared too.
        left_out: measured conditions that are not compared, since there are too many.
    """

    labels: Mapping[int, str]
    conditions: tuple[Condition, ...]
    agreements: tuple[Agreement, ...]
    changes: tuple[Change, ...]
    top1: Mapping[str, float]
    left_out: int = 0

    def label(self, condition: Condition) -> str:
        """The label of one of the conditions."""
        return self.labels[id(condition)]

    @cached_property
    def charts(self) -> list[Chart]:
        """One bump chart a scope."""
        return [
            survival_figure.bump_chart(conditions, items, [self.label(c) for c in conditions], self.conditions, number)
            for number, (conditions, items) in enumerate(survival_figure.groups(self.conditions), 1)
        ]


def of_runs(evidence: Evidence) -> Survival:
    """The measured conditions of runs, and beside them the papers' and timm's speeds of the same items."""
    own, left_out = survival_sources.measured(evidence)
    return judge([*survival_sources.papers(own), *own, *survival_sources.timm_beside(own)], left_out=left_out)


def judge(conditions: Sequence[Condition], top1: Mapping[str, float] | None = None, left_out: int = 0) -> Survival:
    """Compare every two of these conditions; `left_out`: how many more there are."""
    found = survival.agreements(conditions)
    return Survival(
        labels={id(c): text for c, text in zip(conditions, labels(conditions), strict=True)},
        conditions=tuple(conditions),
        agreements=tuple(found),
        changes=tuple(survival.single_changes(found)),
        top1=top1 or {},
        left_out=left_out,
    )


def labels(conditions: Sequence[Condition]) -> list[str]:
    """A name for each condition: what it has on every axis that varies among those of its scope.

    Where that is not enough, the run or table is named too.
    """
    words = [_named(c, [o for o in conditions if o.scope == c.scope]) for c in conditions]
    return [
        f"{text} ({c.origin})" if words.count(text) > 1 else text for text, c in zip(words, conditions, strict=True)
    ]


def _named(condition: Condition, among: Sequence[Condition]) -> str:
    if condition.source == COUNTED:
        return condition.axes.runtime
    names = [
        f.name for f in fields(Axes) if f.name != "code"
    ]  # whose hash says nothing; the table says where it differs
    stated = {name: {getattr(c.axes, name) for c in among if c.source != COUNTED} - {""} for name in names}
    return ", ".join(_words(condition.axes, [name for name, values in stated.items() if len(values) > 1]))


def _words(axes: Axes, varying: Sequence[str]) -> list[str]:
    """The eager kernel goes without saying; the runtime is named where the kernel varies."""
    found = []
    for name in varying:
        value = getattr(axes, name)
        if name == "kernel":
            alone = "runtime" not in varying and value == runtimes.EAGER
            found.append("" if value == runtimes.EAGER and not alone else value)
        elif name == "device":
            found.append(short_device(value))
        else:
            found.append(value)
    return [word for word in found if word]


def short_device(device: str) -> str:
    """The machine's short name out of `processor (name)`; the whole text where it has none."""
    return device.rpartition(" (")[2].rstrip(")") if device.endswith(")") else device


def tables(found: Survival) -> list[Table]:
    """Every two conditions; what each axis alone does; and the ranks of the items that the figure shows."""
    return [pairs_table(found), changes_table(found), *ranks_tables(found)]


def pairs_table(found: Survival) -> Table:
    """Kendall's tau between every two conditions, the least alike first."""
    fronts = bool(found.top1)
    rows: list[tuple[Value, ...]] = []
    for a in sorted(found.agreements, key=lambda a: a.tau.estimate):
        row: list[Value] = [
            found.label(a.one),
            found.label(a.other),
            ", ".join(a.changes) or "counted, not timed",
            _tau(a),
        ]
        row += [str(a.items), a.basis]
        if fronts:
            size, stay = stays_on_front(a, found.top1)
            row += [str(size), str(stay)]
        rows.append(tuple(row))
    columns = [
        Column("one", "condition"),
        Column("other", "against"),
        Column("changes", "what differs"),
        Column("tau", "Kendall's tau", digits=2),
        Column("items", "items shared"),
        Column("basis", "interval from"),
    ]
    more = [Column("front", "on the first's accuracy front"), Column("stay", "of them on the second's")]
    return Table(
        name="survival",
        title="Which rankings survive",
        caption="Kendall's tau of the rankings by speed under two conditions, over the items that both have: 1 is the "
        f"same order, 0 an unrelated one. {BASES} Code differs between runs of two commits of attnbench: a layer may "
        "have been written anew between them.",
        columns=tuple([*columns, *more] if fronts else columns),
        rows=tuple(rows),
    )


def changes_table(found: Survival) -> Table:
    """Per axis: the pairs that differ in it alone, their median tau, and the pair whose ranking moves most."""
    return Table(
        name="survival-changes",
        title="Which single change moves the ranking most",
        caption="Pairs of conditions that differ in one axis and in nothing else, the axis with the lowest median tau "
        "first. The axis time is two measurements under equal conditions: what no change at all does.",
        columns=(
            Column("axis", "change"),
            Column("pairs", "pairs"),
            Column("median", "median tau", digits=2),
            Column("lowest", "lowest tau", digits=2),
            Column("one", "between"),
            Column("other", "and"),
        ),
        rows=tuple(
            (
                c.axis, str(len(c.pairs)), Estimate(c.median_tau), _tau(c.largest), found.label(c.largest.one),
                found.label(c.largest.other),
            )
            for c in found.changes
        ),
    )  # fmt: skip


def ranks_tables(found: Survival) -> list[Table]:
    """The ranks that each figure draws: one table a scope."""
    made = []
    for number, (conditions, items) in enumerate(survival_figure.groups(found.conditions), 1):
        ranked = [survival.ranks(c, items) for c in conditions]
        order = sorted(items, key=lambda item: ranked[0][item].estimate)
        made.append(
            Table(
                name=f"survival-ranks{'' if number == 1 else f'-{number}'}",
                title=f"Ranks of {len(items)} {conditions[0].scope}s under {len(conditions)} conditions",
                caption="1 is the fastest of the items that all these conditions have; the interval is that of the "
                "bootstrap over the stored rounds, where there are any.",
                columns=(
                    Column("item", "item"),
                    *(Column(f"c{i}", found.label(c), digits=2) for i, c in enumerate(conditions)),
                ),
                rows=tuple((item, *(_rank(r[item]) for r in ranked)) for item in order),
            )
        )
    return made


def _tau(a: Agreement) -> Estimate:
    return Estimate(a.tau.estimate, a.tau.low, a.tau.high)


def _rank(r: Interval) -> Estimate:
    return Estimate(r.estimate, r.low, r.high) if r.high > r.low else Estimate(r.estimate)


def stays_on_front(a: Agreement, top1: Mapping[str, float]) -> tuple[int, int]:
    """How many of the shared items are on the first condition's front of top-1 and speed, and of them on the second's.

    Items without a published top-1 are left out.
    """
    items = [item for item in a.one.shared(a.other) if item in top1]
    accuracy = [top1[item] for item in items]
    first, second = (on_front([c.speeds[item] for item in items], accuracy) for c in (a.one, a.other))
    return int(first.sum()), int((first & second).sum())


def words(found: Survival) -> list[str]:
    """The answer in sentences."""
    if not found.agreements:
        return [
            f"No two conditions share {LEAST_ITEMS} items, so that no ranking can be compared. Measure the same "
            "mechanisms under a second condition, e.g. attnbench run -m msa,hilo,window --runtime eager,onnxruntime"
        ]
    lines = [f"{len(found.agreements)} pairs of {len(found.conditions)} conditions."]
    if found.left_out:
        lines.append(
            f"Of {survival_sources.RANKED + found.left_out} measured conditions the {survival_sources.RANKED} with "
            "most items are compared; name fewer runs to compare others."
        )
    first = next((c for c in found.changes if c.axis != survival.TIME), None)
    if first:
        most = first.largest
        lines.append(
            f"The single change that moves the ranking most is that of the {first.axis}: median tau "
            f"{first.median_tau:.2f} over {counted(len(first.pairs), 'pair')}. The lowest is {_interval(most)}, "
            f"{counted(most.items, 'item')}, between {found.label(most.one)} and {found.label(most.other)}."
        )
    again = next((c for c in found.changes if c.axis == survival.TIME), None)
    if again:
        lines.append(
            f"Measured again under equal conditions: median tau {again.median_tau:.2f} over "
            f"{counted(len(again.pairs), 'pair')}."
        )
    if any(a.basis == ITEMS for a in found.agreements):
        lines.append(BASES)
    return lines


def _interval(a: Agreement) -> str:
    return f"{a.tau.estimate:.2f} [{a.tau.low:.2f}, {a.tau.high:.2f}]"


def as_dict(found: Survival) -> dict[str, Any]:
    """The answer as plain values."""
    place = {id(c): i for i, c in enumerate(found.conditions)}
    return {
        "schema": 1,
        "kind": "survival",
        "conditions": [
            {"label": found.label(c), "scope": c.scope, "source": c.source, "origin": c.origin, "axes": asdict(c.axes),
             "log_speed": dict(c.speeds)}
            for c in found.conditions
        ],
        "agreements": [
            {"one": place[id(a.one)], "other": place[id(a.other)], "changes": list(a.changes), "items": a.items,
             "tau": a.tau.estimate, "low": a.tau.low, "high": a.tau.high, "basis": a.basis,
             **(dict(zip(("front", "stay"), stays_on_front(a, found.top1), strict=True)) if found.top1 else {})}
            for a in found.agreements
        ],
        "changes": [
            {"axis": c.axis, "pairs": len(c.pairs), "median_tau": c.median_tau,
             "lowest": [place[id(c.largest.one)], place[id(c.largest.other)]]}
            for c in found.changes
        ],
    }  # fmt: skip


def published_timm(side: int, gmacs: tuple[float, float]) -> Survival:
    """Timm's published tables judged by the same code, with the fronts of accuracy and speed.

    Args:
        side: of the images in pixels; 0: every resolution.
        gmacs: least and most 10^9 multiply-accumulates.
    """
    conditions = survival_sources.published_timm(side, gmacs, counted=True)
    return judge(conditions, survival_sources.timm_top1(side))
