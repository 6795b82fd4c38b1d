"""The same items ranked by speed under several conditions -> which rankings agree, and which change moves them most.

A condition is one combination of device, software, runtime, kernel, precision, batch, resolution and pass. Two of them
are compared by Kendall's tau over the items that both have.

The interval of a tau answers one of two questions, and `basis` says which:
    rounds  these items, measured again: the bootstrap over processes and their rounds (analysis/ranking.py), where
            both conditions have rounds of two processes or more. Conditions of one comparison group share the draws.
    items   other items of the same kind: the jackknife over items with Student's t, where a condition is a published
            table or has no rounds. It says nothing about the error of a single published speed.

Source: Arvesen (1969), Jackknifing U-statistics, Ann. Math. Statist. 40; tau is a U-statistic of the items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from attnbench.analysis import statistics
from attnbench.analysis.ranking import Measurement, widest
from attnbench.analysis.statistics import Interval

Floats = NDArray[np.float64]
LEAST_ITEMS = 3  # shared by two conditions that are compared
DRAWS = 1000
ROUNDS, ITEMS = "rounds", "items"
MEASURED, PAPER, TIMM, COUNTED = "measured", "paper", "timm", "counted"
TIME = "time"  # what differs between two measurements whose axes are all equal


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a condition consists of, in words; an empty text where the source does not say.

    Attributes:
        code: the commit, or the version, of attnbench that measured: a layer may have been written anew since.
    """

    device: str = ""
    version: str = ""
    runtime: str = ""
    kernel: str = ""
    precision: str = ""
    batch: str = ""
    resolution: str = ""
    pass_: str = ""
    layer: str = ""
    layout: str = ""
    threads: str = ""
    allocator: str = ""
    code: str = ""

    def differences(self, other: Axes) -> tuple[str, ...]:
        """The names of the axes on which the two differ; `(TIME,)` where there is none.

        `code` is one of them between two runs of attnbench; a published source has other code in any case.
        """
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        if "code" in names and not (self.code and other.code):
            names.remove("code")
        return tuple(name.rstrip("_") for name in names) or (TIME,)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Items ranked under one condition.

    Attributes:
        scope: `layer`, `backbone` or `task`: items of two scopes are never compared.
        source: `MEASURED`, `PAPER` or `TIMM`; `COUNTED` is a ranking by a count, the least first.
        origin: the run or the published table.
        speeds: log speed by item, up to one constant.
        draws: bootstrap samples of the log speed by item, each [DRAWS]; empty without rounds of several processes.
    """

    scope: str
    source: str
    origin: str
    axes: Axes
    speeds: Mapping[str, float]
    draws: Mapping[str, Floats] = field(default_factory=dict)

    def shared(self, other: Condition) -> list[str]:
        """The items of both."""
        return [item for item in self.speeds if item in other.speeds] if self.scope == other.scope else []


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How alike two conditions rank the items that they share.

    Attributes:
        changes: the axes on which they differ; empty where one is counted and not timed.
        tau: Kendall's, with its interval; `basis`: `ROUNDS` or `ITEMS`, see the module.
    """

    one: Condition
    other: Condition
    changes: tuple[str, ...]
    items: int
    tau: Interval
    basis: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one axis alone does to the ranking: every pair of conditions that differs in it and in nothing else."""

    axis: str
    pairs: tuple[Agreement, ...]

    @property
    def median_tau(self) -> float:
        """The median over the pairs."""
        return median(a.tau.estimate for a in self.pairs)

    @property
    def largest(self) -> Agreement:
        """The pair whose ranking moves most."""
        return min(self.pairs, key=lambda a: a.tau.estimate)


def draw(measured: Measurement, seed: int = 0) -> Mapping[str, Floats]:
    """Bootstrap samples of the log speeds of a comparison group's arms; empty with fewer than two processes."""
    if len(measured.logs) < 2:
        return {}
    samples = measured.samples(seed, DRAWS)
    return {arm: samples[:, place] for place, arm in enumerate(measured.arms)}


def agreements(conditions: Sequence[Condition], level: float = 0.95) -> list[Agreement]:
    """Every two conditions that share `LEAST_ITEMS` items; two of timm's tables only where nothing else is given."""
    only_timm = all(c.source in (TIMM, COUNTED) for c in conditions)
    orders = _Orders()
    found = []
    for one, other in combinations(conditions, 2):
        items = one.shared(other)
        if len(items) >= LEAST_ITEMS and (only_timm or {one.source, other.source} != {TIMM}):
            tau, basis = agreement_of(one, other, items, level, orders)
            if math.isfinite(tau.estimate):
                counted = COUNTED in (one.source, other.source)
                changes = () if counted else one.axes.differences(other.axes)
                found.append(Agreement(one=one, other=other, changes=changes, items=len(items), tau=tau, basis=basis))
    return found


class _Orders:
    """Which of two items is faster in each bootstrap sample of a condition; of each condition the last items asked for.

    A condition meets hundreds of others, mostly over the same items.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[tuple[str, ...], NDArray[np.int8]]] = {}

    def of(self, condition: Condition, items: Sequence[str]) -> NDArray[np.int8]:
        """The sign of the difference of every two items, [pairs, samples]."""
        names, signs = self._kept.get(id(condition), ((), None))
        if signs is None or names != tuple(items):
            drawn = np.stack([condition.draws[item] for item in items])
            i, j = np.triu_indices(len(items), 1)
            signs = (drawn[i] > drawn[j]).view(np.int8) - (drawn[i] < drawn[j]).view(np.int8)
            self._kept[id(condition)] = tuple(items), signs
        return signs


def agreement_of(
    one: Condition, other: Condition, items: Sequence[str], level: float, orders: _Orders | None = None
) -> tuple[Interval, str]:
    """Kendall's tau of two conditions over these items, and the basis of its interval.

    Ties of bootstrap samples have no probability; `orders`: what earlier pairs of the same conditions have worked out.
    """
    x, y = ([c.speeds[item] for item in items] for c in (one, other))
    if all(item in c.draws for item in items for c in (one, other)):
        orders = orders or _Orders()
        agree = orders.of(one, items) * orders.of(other, items)
        drawn = agree.sum(axis=0, dtype=np.int32) / len(agree)
        return widest(statistics.kendall_tau(x, y), drawn.tolist(), level), ROUNDS
    return item_interval(x, y, level), ITEMS


def item_interval(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Interval:
    """Kendall's tau with the jackknife over items, within [-1, 1].

    The interval is all of [-1, 1] where leaving out an item never changes tau, which then shows no error.
    """
    n, tau = len(x), statistics.kendall_tau(x, y)
    a, b = np.array(x), np.array(y)
    left, right = (np.sign(np.subtract.outer(v, v)) for v in (a, b))
    agree, untied = left * right, (np.abs(left), np.abs(right))
    sizes = [u.sum() - 2 * u.sum(axis=1) for u in untied]
    scale = np.sqrt(sizes[0] * sizes[1])
    if n < LEAST_ITEMS or not scale.all():
        return Interval(tau, -1.0, 1.0)
    without = (agree.sum() - 2 * agree.sum(axis=1)) / scale
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    if error < 1e-12:
        return Interval(tau, -1.0, 1.0)
    reach = statistics.student_quantile(0.5 + level / 2, n - 1) * error
    return Interval(tau, max(-1.0, tau - reach), min(1.0, tau + reach))


def single_changes(found: Sequence[Agreement]) -> list[Change]:
    """What each axis alone does, the one that moves the ranking most first (by the median tau of its pairs)."""
    by_axis: dict[str, list[Agreement]] = {}
    for agreement in found:
        if len(agreement.changes) == 1:
            by_axis.setdefault(agreement.changes[0], []).append(agreement)
    return sorted((Change(axis=axis, pairs=tuple(p)) for axis, p in by_axis.items()), key=lambda c: c.median_tau)


def ranks(condition: Condition, items: Sequence[str], level: float = 0.95) -> dict[str, Interval]:
    """The rank of each item among `items`, 1 the fastest, with the interval of its bootstrap samples.

    The interval is the rank itself where the condition has no samples.
    """
    speeds = np.array([condition.speeds[item] for item in items])
    own = _ranks(speeds[None])[0]
    ends = own, own
    if all(item in condition.draws for item in items):
        drawn = _ranks(np.stack([condition.draws[item] for item in items], axis=1))
        low, high = (np.quantile(drawn, q, axis=0, method="inverted_cdf") for q in (0.5 - level / 2, 0.5 + level / 2))
        ends = np.minimum(low, own), np.maximum(high, own)
    return {item: Interval(float(own[i]), float(ends[0][i]), float(ends[1][i])) for i, item in enumerate(items)}


def _ranks(speeds: Floats) -> Floats:
    """One more than the number of faster items: [samples, items] to the same."""
    return np.asarray(1.0 + (speeds[:, None, :] > speeds[:, :, None]).sum(axis=2))
