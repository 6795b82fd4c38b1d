"""The bump chart of the ranks of the same items under several conditions, with the intervals of the ranks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise

from attnbench.analysis.survival import COUNTED, LEAST_ITEMS, TIMM, Condition, agreement_of, ranks
from attnbench.report.chart import Chart, tall
from attnbench.report.evidence import Estimate
from attnbench.report.grouping import suffix
from attnbench.report.style import INK

FEWEST = 10  # items that a figure should have, before a condition with fewer is left out of it
MOST_CONDITIONS = 12
NAMED = 45  # items; of more only those in colour are named


def groups(conditions: Sequence[Condition]) -> Iterator[tuple[list[Condition], list[str]]]:
    """Per scope the conditions of one figure, and the items that all of them have.

    A condition with few items is left out as long as the others then share more and have fewer than `FEWEST`.
    """
    for scope in dict.fromkeys(c.scope for c in conditions):
        kept = sorted((c for c in conditions if c.scope == scope), key=lambda c: c.source in (TIMM, COUNTED))[
            :MOST_CONDITIONS
        ]
        kept = [c for c in conditions if c in kept]
        while len(kept) > 2 and len(_common(kept)) < FEWEST:
            without = [[c for c in kept if c is not left] for left in kept]
            best = max(without, key=lambda some: len(_common(some)))
            if len(_common(best)) <= len(_common(kept)):
                break
            kept = best
        if len(kept) > 1 and len(_common(kept)) >= LEAST_ITEMS:
            yield kept, _common(kept)


def _common(conditions: Sequence[Condition]) -> list[str]:
    return [item for item in conditions[0].speeds if all(item in c.speeds for c in conditions)]


def bump_chart(
    conditions: Sequence[Condition],
    items: Sequence[str],
    labels: Sequence[str],
    every: Sequence[Condition],
    number: int = 1,
) -> Chart:
    """Ranks from left to right, 1 on top; the reference and the five whose rank moves most are in colour.

    Args:
        conditions: of the columns.
        labels: of the same.
        items: that all of them have.
        every: all conditions that were asked for: those that are not drawn are counted in the caption.
        number: of the figure.
    """
    ranked = [ranks(c, items) for c in conditions]
    moved = sorted(items, key=lambda i: (min(r[i].estimate for r in ranked) - max(r[i].estimate for r in ranked), i))
    chart = Chart(
        f"survival{suffix(number)}",
        "Which rankings survive",
        size=(3.4 + 1.15 * len(conditions), tall(min(len(items), NAMED), 4.4)),
        room=0.16,
    )
    chart.choose("msa" if "msa" in items else "resnet50", moved)
    (axes,) = chart.axes
    for item in items:
        chart.line(axes, range(len(ranked)), [r[item].estimate for r in ranked], item)
        for x, r in enumerate(ranked):
            if len(items) <= NAMED or chart.stands_out(item):
                chart.point(axes, x, Estimate(r[item].estimate, r[item].low, r[item].high), item)
    axes.set_xticks(range(len(labels)), [textwrap.fill(text, 16) for text in labels], fontsize=7.5)
    axes.set_ylim(len(items) + 0.7, 0.3)
    axes.set_yticks(_rank_ticks(len(items)))
    axes.set_ylabel(f"rank by speed of {len(items)}")
    axes.grid(visible=False)
    for x, (one, other) in enumerate(pairwise(conditions)):
        tau, _ = agreement_of(one, other, items, 0.95)
        axes.text(x + 0.5, 1.01, f"τ {tau.estimate:.2f}", transform=axes.get_xaxis_transform(), ha="center",
                  fontsize=7.5, color=INK)  # fmt: skip
    named = [i for i in items if len(items) <= NAMED or chart.stands_out(i)]
    chart.caption = _caption(conditions, items, every)
    chart.end_labels(axes, [(i, float(len(ranked) - 1), ranked[-1][i].estimate) for i in named])
    return chart


def _rank_ticks(count: int) -> range:
    """The ranks that are named on the axis: the best and at most some ten, evenly apart."""
    return range(1, count + 1, -(-count // 11))


def _caption(conditions: Sequence[Condition], items: Sequence[str], every: Sequence[Condition]) -> str:
    text = (
        f"{len(items)} {conditions[0].scope}s that all {len(conditions)} conditions have, ranked by speed; bars are "
        "95 % intervals of the rank from the stored rounds; published speeds have none. In colour: the reference and "
        "the five whose rank moves most. τ is Kendall's, of two neighbours over these items."
    )
    left = sum(c.scope == conditions[0].scope for c in every) - len(conditions)
    return text + (
        f" {left} more conditions have too few of these items or no room; the tables have them." if left else ""
    )
