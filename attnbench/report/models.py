"""Accuracy beside latency: published top-1 against measured time, and how likely each model is on the front.

One front is drawn for each comparison group and way of execution. The probability is the share of bootstrap samples of
the stored rounds (processes, then rounds within each) in which no model is at least as fast and as accurate. It says
how well the latencies are known; an accuracy is taken as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attnbench.analysis import ranking
from attnbench.analysis.front import front_probability, on_front
from attnbench.analysis.survival import draw
from attnbench.report.chart import Chart
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.grouping import drawn, plain_where, suffix
from attnbench.report.names import display
from attnbench.report.numbers import estimate
from attnbench.report.recommend import SHOWN, Question, is_asked
from attnbench.report.tables import Column, Table, Value
from attnbench.report.top1 import Top1, published_top1

LATENCY = "latency_s"
OF_WEIGHTS = "a model of timm has the top-1 of its best weights at this size, some of which saw more images than others"
FEWEST = 3  # models that make a figure


@dataclass(frozen=True)
class Model:
    """A measured classifier with a published accuracy.

    Attributes:
        front: no other of its front is at least as fast and as accurate, by the estimates.
        probability: of being on the front; None where the rounds of fewer than two processes are stored.
    """

    point: Point
    top1: Top1
    front: bool
    probability: float | None

    @property
    def latency(self) -> Estimate:
        """Seconds of one batch."""
        found = self.point.get(LATENCY)
        assert found is not None  # `fronts` takes no other points
        return found


Chances = Sequence[float | None]  # of each model of a group


def fronts(evidence: Evidence, chances: Sequence[Chances] | None = None) -> list[list[Model]]:
    """The models of every comparison group and way of execution, the most accurate first.

    `chances`: what `probabilities` gives of this evidence, if it was asked already.
    """
    likely = probabilities(evidence) if chances is None else chances
    return [_front(members, chance) for members, chance in zip(_members(evidence), likely, strict=True)]


def probabilities(evidence: Evidence) -> list[Chances]:
    """Of being on the front, for every model of each front; this reads and resamples the stored rounds."""
    members = _members(evidence)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, models in enumerate(members):
        groups.setdefault((models[0][0].run_id, models[0][0].cell.group), []).append(place)
    found: dict[int, Chances] = {}
    for places in groups.values():
        one = replace(evidence)  # which keeps the rounds of this group alone
        for place in places:
            models = members[place]
            found[place] = _probabilities(one, [p for p, _ in models], [top1.percent for _, top1 in models])
    return [found[place] for place in range(len(members))]


def _members(evidence: Evidence) -> list[list[tuple[Point, Top1]]]:
    """The measured models with a published accuracy by comparison group and way of execution."""
    groups: dict[tuple[str, str, str], list[tuple[Point, Top1]]] = {}
    for p in evidence.ok:
        top1 = published_top1(p.cell)
        if top1 and p.get(LATENCY):
            groups.setdefault((p.run_id, p.cell.group, p.cell.execution), []).append((p, top1))
    return list(groups.values())


def _front(members: Sequence[tuple[Point, Top1]], likely: Chances) -> list[Model]:
    points, accuracy = [p for p, _ in members], [top1.percent for _, top1 in members]
    best = on_front([-p.get(LATENCY).value for p in points], accuracy)  # type: ignore[union-attr]  # all have one
    found = [
        Model(p, top1, bool(is_best), chance) for (p, top1), is_best, chance in zip(members, best, likely, strict=True)
    ]
    return sorted(found, key=lambda m: (-m.top1.percent, m.latency.value))


def _probabilities(evidence: Evidence, points: Sequence[Point], accuracy: Sequence[float]) -> list[float | None]:
    """Of every point; None of all where one of them had no turn in a round, or one process timed them."""
    samples = draw(ranking.measurement(evidence.rounds_of(points[0]), {p.cell.id: p.cell.id for p in points}))
    if any(p.cell.id not in samples for p in points):
        return [None] * len(points)
    return front_probability(np.stack([samples[p.cell.id] for p in points], axis=1), accuracy).tolist()


def table(found: Sequence[Sequence[Model]]) -> Table:
    """Every model with a published accuracy, the most accurate of each condition first."""
    rows: list[tuple[Value, ...]] = []
    marks = []
    for models in found:
        for m in models:
            chance = None if m.probability is None else Estimate(m.probability)
            condition = f"{plain_where(m.point)}, {m.point.cell.execution}"
            rows.append((condition, m.point.cell.variant, Estimate(m.top1.percent), m.latency, chance, m.top1.source))
            marks.append(m.point.cell.mechanism)
    return Table(
        name="accuracy-latency",
        title="Accuracy beside latency",
        caption="Top-1 on ImageNet-1k as published for this image size, measured time of a batch, and the probability "
        "that no other model measured beside it is at least as fast and as accurate: from the stored rounds, for the "
        f"accuracy as published; {OF_WEIGHTS}.",
        columns=(
            Column("condition", "condition"),
            Column("variant", "model"),
            Column("top1", "published top-1", "%", digits=4),
            Column(LATENCY, "latency", "ms", 1e-3),
            Column("front", "probability of the front", digits=2),
            Column("source", "top-1 from"),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
    )


def charts(found: Sequence[Sequence[Model]]) -> list[Chart]:
    """Top-1 against latency, one figure a condition; filled points are on the front by the estimates.

    Of many conditions those with most models are drawn.
    """
    made = []
    enough = [models for models in found if len(models) >= FEWEST]
    most = {id(models) for models in sorted(enough, key=len, reverse=True)[: drawn(len(enough))]}
    for number_, models in enumerate([models for models in enough if id(models) in most], 1):
        p = models[0].point
        chart = Chart(f"accuracy-latency{suffix(number_)}", "Accuracy beside latency", size=(7.2, 4.8))
        names = ", ".join(
            f"{display(m.point.cell.variant)}{'' if m.probability is None else f' ({m.probability:.2f})'}"
            for m in models
            if m.front
        )
        chart.caption = (
            f"{plain_where(p)}, {p.cell.execution}. Published top-1 at this image size and measured latency with "
            f"its interval; lower right is better; {OF_WEIGHTS}. "
            f"Filled: on the front; in brackets its probability: {names}."
        )
        best = [m.point.cell.mechanism for m in sorted(models, key=lambda m: m.latency.value) if m.front]
        chart.choose(p.reference, best)
        axes = chart.axes[0]
        for m in models:
            chart.point(axes, m.top1.percent, m.latency.over(1e-3), m.point.cell.mechanism, hollow=not m.front)
        axes.set_xlabel("top-1 as published (%)")
        axes.set_ylabel("latency (ms)")
        axes.set_ylim(bottom=0)
        chart.labels(
            axes,
            [
                (m.point.cell.mechanism, display(m.point.cell.variant), m.top1.percent, m.latency.value * 1e3)
                for m in models
            ],
        )
        made.append(chart)
    return made


@dataclass(frozen=True)
class ModelsAnswer:
    """The models within the budget of one measured condition, the most accurate first.

    Attributes:
        measured: models of this condition that have a published accuracy.
    """

    question: Question
    condition: str = ""
    models: tuple[Model, ...] = ()
    measured: int = 0


def recommend(evidence: Evidence, question: Question) -> list[ModelsAnswer]:
    """One answer for each measured condition of the question; one without any where none was measured."""
    found = []
    for models in fronts(evidence):
        p = models[0].point
        if is_asked(p, question):
            inside = [m for m in models if not question.max_ms or m.latency.value * 1e3 <= question.max_ms]
            condition = f"{p.machine}, {p.cell.execution}, {p.cell.precision}, {p.cell.threads} threads"
            found.append(ModelsAnswer(question, condition, tuple(inside), len(models)))
    return found or [ModelsAnswer(question)]


def words(answer: ModelsAnswer) -> list[str]:
    """The answer in sentences, with a line for each of the first models."""
    q = answer.question
    budget = f" within {q.max_ms:g} ms" if q.max_ms else ""
    asked = f"{q.size} pixels, batch {q.batch}, on {q.device}{f', runtime {q.runtime}' if q.runtime else ''}"
    if not answer.condition:
        return [f"No model with a published top-1 was measured at {asked}.", f"This measures some: {q.command}"]
    lines = [
        f"At {q.size} pixels, batch {q.batch}, {answer.condition}:",
        f"{len(answer.models)} of {answer.measured} models{budget or ' measured'}, the most accurate first",
    ]
    rows = [
        (
            f"{m.top1.percent:.1f} %",
            m.point.cell.variant,
            f"{_ms(m.latency)} ms",
            _chance(m),
        )
        for m in answer.models[:SHOWN]
    ]
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    lines += ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(answer.models) > SHOWN:
        lines.append(f"{len(answer.models) - SHOWN} more are less accurate.")
    if rows:
        lines.append("front: no other model measured here is at least as fast and as accurate.")
        lines.append("Top-1 on ImageNet-1k as published at this size; the weights timed are random;")
        lines.append(f"{OF_WEIGHTS}:")
        sources: dict[str, list[str]] = {}
        for m in answer.models[:SHOWN]:
            sources.setdefault(m.top1.source, []).append(m.point.cell.variant)
        lines += [f"  {source}: {', '.join(names)}" for source, names in sources.items()]
    lines.append(f"To measure it on your own machine: {q.command}")
    return lines


def _ms(e: Estimate) -> str:
    shown = e.over(1e-3)
    return estimate(shown.value, shown.low, shown.high, 3)


def _chance(m: Model) -> str:
    if m.probability is None:
        return "front" if m.front else ""
    return f"front with probability {m.probability:.2f}"


def as_dict(answer: ModelsAnswer) -> dict[str, Any]:
    """The answer as plain values, in base units."""
    return {
        "question": {**asdict(answer.question), "res": list(answer.question.res)},
        "condition": answer.condition,
        "measured": answer.measured,
        "command": answer.question.command,
        "models": [
            {
                "variant": m.point.cell.variant, "top1_percent": m.top1.percent, "test_resolution": m.top1.side,
                "source": m.top1.source, "latency_s": [m.latency.value, m.latency.low, m.latency.high],
                "front": m.front, "front_probability": m.probability, "flags": list(m.point.flags),
            }
            for m in answer.models
        ],
    }  # fmt: skip
