"""Stored records -> the fastest mechanisms for a question, with their ties and memory, in plain words. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from attnbench.analysis.ties import Resolution
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.grouping import MEMORY, SPEED
from attnbench.report.measured import resolutions
from attnbench.report.mixing import mixing
from attnbench.report.numbers import estimate, number, size
from attnbench.report.tradeoff import front

SHOWN = 10  # mechanisms in an answer
ATTENTION = "attention"
ANY = "all"
OWN_MODELS = ("litv2_s", "litv1_s", "lightvit_t", "lightvit_s")  # which need no other package
REACHES = ("local", "sparse", "global")  # each reaches further than the one before


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: a resolution, a device, a batch and perhaps a memory limit in bytes.

    Attributes:
        kind: of token mixing: `attention`, `gate`, `convolution`, ... or `all`.
        reach: `global`, `local`, `sparse`; empty: any. `min_reach`: at least this one; empty: any.
        scope: `layer`, or `backbone` or `models` (`attnbench.report.models` answers), for which dim, heads and reach
            mean nothing.
        max_ms: milliseconds that a batch may take; 0: any. `runtime`: what executes the layer; empty: any.
    """

    res: tuple[int, int]
    device: str = "cpu"
    batch: int = 8
    pass_: str = "forward"
    memory: int = 0
    dim: int = 768
    heads: int = 12
    precision: str = ""
    kind: str = ATTENTION
    reach: str = ""
    min_reach: str = ""
    scope: str = "layer"
    max_ms: float = 0.0
    runtime: str = ""

    @property
    def size(self) -> str:
        """`512` or `512x384`, as it is typed."""
        h, w = self.res
        return str(h) if h == w else f"{h}x{w}"

    @property
    def command(self) -> str:
        """What measures the answer."""
        words = "attnbench run" + ("" if self.scope == "layer" else f" --backbone {','.join(OWN_MODELS)}")
        words += f" --res {self.size} --device {self.device} --batch {self.batch}"
        words += f" --pass {self.pass_}" if self.pass_ != "forward" else ""
        sized = self.scope == "layer" and (self.dim, self.heads) != (768, 12)
        words += f" --dim {self.dim} --heads {self.heads}" if sized else ""
        words += f" --runtime {self.runtime}" if self.runtime else ""
        return words + (f" --precision {self.precision}" if self.precision else "")


@dataclass(frozen=True)
class Offer:
    """A mechanism in an answer.

    Attributes:
        rank: one more than the number of offers that are distinguishably faster; `tied`: another has the same.
        front: nothing measured is both faster and smaller.
    """

    point: Point
    rank: int
    tied: bool
    front: bool


@dataclass(frozen=True)
class Answer:
    """What fits, the fastest first; what does not fit or failed; and what was not measured.

    Attributes:
        considered: measured mechanisms of the kind and reach that were asked for, of `measured` in all.
        limit: the smallest difference that the run shows, in words.
        instead: the answer at the nearest condition, where nothing was measured at this one.
        too_slow: how many need more than the milliseconds that were asked for.
    """

    question: Question
    offers: tuple[Offer, ...] = ()
    too_large: tuple[Point, ...] = ()
    failed: tuple[Point, ...] = ()
    machine: str = ""
    nearest: str = ""
    considered: int = 0
    measured: int = 0
    limit: str = ""
    too_slow: int = 0
    instead: Answer | None = None


def recommend(evidence: Evidence, question: Question) -> list[Answer]:
    """One answer for each machine that has records for the question; one without any where none has."""
    q = question
    asked = [p for p in evidence.points if p.cell.scope == q.scope and _is_of(p, q)]
    right = [p for p in asked if _is_at(p, q)]
    machines = list(dict.fromkeys(p.machine for p in right))
    resolved = resolutions(evidence)
    if not machines:
        return [_nearest(asked, q, resolved)]
    answers = [_answer([p for p in right if p.machine == m], q, m, resolved) for m in machines]
    return sorted(answers, key=lambda answer: not answer.offers)


def is_asked(p: Point, q: Question) -> bool:
    """Whether a point is at the question's condition, whatever its scope."""
    return _is_of(p, q) and _is_at(p, q)


def _is_of(p: Point, q: Question) -> bool:
    kind = "cpu" if q.device.startswith("cpu") else "gpu"
    named = not q.precision or p.cell.precision == q.precision
    return p.device_kind == kind and named and (not q.runtime or p.cell.runtime == q.runtime)


def _is_at(p: Point, q: Question) -> bool:
    c = p.cell
    same = (c.res_h, c.res_w) == q.res and c.batch == q.batch and c.pass_ == q.pass_
    return same and (q.scope != "layer" or (c.dim, c.heads) == (q.dim, q.heads))


def _answer(
    points: Sequence[Point], q: Question, machine: str, resolved: Mapping[tuple[str, str], Resolution]
) -> Answer:
    asked = [p for p in points if _mixes(p, q)]
    measured = [p for p in asked if p.get(SPEED)]
    with_memory = [p for p in measured if p.get(MEMORY)]
    in_time = [p for p in with_memory if not q.max_ms or 1000 * q.batch / _speed(p) <= q.max_ms]
    fitting = _fastest_each([p for p in in_time if not q.memory or _bytes(p) <= q.memory])
    found = resolved.get((measured[0].run_id, measured[0].cell.group), Resolution()) if measured else Resolution()
    return Answer(
        question=q,
        offers=tuple(_ranked(fitting, resolved)),
        too_large=tuple(p for p in with_memory if q.memory and _bytes(p) > q.memory),
        too_slow=len(with_memory) - len(in_time),
        failed=tuple(p for p in asked if p not in with_memory),
        machine=machine,
        considered=len(measured),
        measured=sum(p.get(SPEED) is not None for p in points),
        limit=found.limit,
    )


def _mixes(p: Point, q: Question) -> bool:
    kind, reach = mixing(p.cell.variant)
    far = not q.min_reach or (reach in REACHES and REACHES.index(reach) >= REACHES.index(q.min_reach))
    return q.kind in (ANY, kind) and (not q.reach or q.reach == reach) and far


def _ranked(points: Sequence[Point], resolved: Mapping[tuple[str, str], Resolution]) -> list[Offer]:
    """The fastest first. A rank is one more than the number of arms that are distinguishably faster."""
    order = sorted(points, key=lambda p: -_speed(p))
    best, ranks = front(points), list[int]()
    for place, p in enumerate(order):
        faster = sum(not _tied(p, other, resolved) for other in order[:place])
        ranks.append(max([1 + faster, *ranks[-1:]]))
    return [Offer(p, rank, ranks.count(rank) > 1, p in best) for p, rank in zip(order, ranks, strict=True)]


def _tied(p: Point, other: Point, resolved: Mapping[tuple[str, str], Resolution]) -> bool:
    """Whether two speeds are not distinguished: by the letters of their group, or by overlapping intervals."""
    group = (p.run_id, p.cell.group)
    letters = resolved.get(group, Resolution()).letters if group == (other.run_id, other.cell.group) else {}
    mine, others = letters.get(p.cell.id), letters.get(other.cell.id)
    if mine and others:
        return bool(set(mine) & set(others))
    a, b = p.get(SPEED), other.get(SPEED)
    return bool(a and b and a.high is not None and b.low is not None and a.high >= b.low)


def _speed(p: Point) -> float:
    found = p.get(SPEED)
    return found.value if found else 0.0


def _fastest_each(points: Sequence[Point]) -> list[Point]:
    """The same variant may have run with several kernels and precisions: each way is an offer of its own."""
    offers: dict[tuple[str, str, str, int], Point] = {}
    for p in points:
        offers.setdefault((p.cell.variant, p.cell.execution, p.cell.precision, p.cell.threads), p)
    return list(offers.values())


def _bytes(p: Point) -> float:
    found = p.get(MEMORY)
    return found.value if found else math.inf


def _nearest(asked: Sequence[Point], q: Question, resolved: Mapping[tuple[str, str], Resolution]) -> Answer:
    """The answer where nothing was measured: at the condition that is nearest and was, on one machine."""
    found = [p for p in asked if p.get(SPEED)]
    if not found:
        return Answer(q)

    def far(p: Point) -> tuple[bool, float, float, str]:
        size = abs(math.log(p.cell.res_h * p.cell.res_w / (q.res[0] * q.res[1])))
        return p.cell.pass_ != q.pass_, size, abs(math.log(p.cell.batch / q.batch)), p.machine

    p = min(found, key=far)
    c = p.cell
    near = replace(q, res=(c.res_h, c.res_w), batch=c.batch, pass_=c.pass_, dim=c.dim, heads=c.heads)
    there = [other for other in asked if other.machine == p.machine and _is_at(other, near)]
    words = f"{c.res_h}x{c.res_w}, batch {c.batch}, {c.pass_} pass, on {p.machine}"
    return Answer(q, nearest=words, instead=_answer(there, near, p.machine, resolved))


def words(answer: Answer) -> list[str]:
    """The answer in sentences, with a line for each of the first offers, within 80 columns."""
    q = answer.question
    asked = f"{q.size} pixels, batch {q.batch}, {'training' if q.pass_ == 'train' else 'inference'} on {q.device}"
    limit = f" within {number(q.memory / 2**30, 3)} GiB" if q.memory else ""
    if not answer.machine:
        near = f" The nearest that was: {answer.nearest}." if answer.nearest else ""
        instead = words(answer.instead)[1:-1] if answer.instead else []
        return [f"Nothing was measured at {asked}.{near}", *instead, f"This measures it: {q.command}"]
    lines = [f"At {asked}, {answer.machine}:", _scope(answer)]
    if not answer.offers:
        lines.append(f"No mechanism with a measured speed and memory fits{limit or ' the question'}.")
    lines += _rows(answer.offers[:SHOWN])
    lines += _notes(answer, limit)
    lines.append(f"To measure it on your own machine: {q.command}")
    return lines


def _scope(answer: Answer) -> str:
    q = answer.question
    kind = "any kind" if q.kind == ANY else f"kind {q.kind}"
    others = "" if q.kind == ANY or answer.considered == answer.measured else "; --kind all shows every kind"
    return f"{answer.considered} of {answer.measured} measured, {kind}{f', reach {q.reach}' if q.reach else ''}{others}"


def _rows(offers: Sequence[Offer]) -> list[str]:
    """Rank, variant, speed over the reference with its interval, images per second, memory; aligned."""
    plain = all(o.point.cell.execution == "eager" and o.point.cell.precision == "fp32" for o in offers)
    rows = []
    for o in offers:
        c, ratio = o.point.cell, o.point.get("ratio_to_reference")
        name = c.variant if plain else f"{c.variant} ({c.precision}, {c.execution})"
        rows.append((
            f"{'=' if o.tied else ''}{o.rank}",
            f"{name}{' *' if o.front else ''}",
            f"{_within(ratio, 3)} x {o.point.reference}" if ratio and o.point.reference else "-",
            f"{number(_speed(o.point), 4)} img/s",
            size(_bytes(o.point)),
        ))  # fmt: skip
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(5)]
    right = (True, False, False, True, True)
    return [
        "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in rows
    ]


def _notes(answer: Answer, limit: str) -> list[str]:
    notes, shown = [], answer.offers[:SHOWN]
    if shown:
        ties = f"differences below {answer.limit} are not seen; " if answer.limit else ""
        notes.append(f"= shares its rank; {ties}* nothing is both faster and smaller.")
    if len(answer.offers) > SHOWN:
        notes.append(f"{len(answer.offers) - SHOWN} more are slower{limit and f', all{limit}'}.")
    if answer.too_slow:
        notes.append(f"{answer.too_slow} need more than {number(answer.question.max_ms, 3)} ms for a batch.")
    if answer.too_large:
        notes.append(
            f"Above the limit: {', '.join(f'{p.cell.variant} ({size(_bytes(p))})' for p in answer.too_large)}."
        )
    for p in answer.failed:
        notes.append(
            f"No answer for {p.cell.variant} ({p.cell.precision}, {p.cell.execution}): "
            f"{p.outcome}{': ' + p.reason if p.reason else ', no speed or memory'}."
        )
    flagged = sorted({f for o in shown for f in o.point.flags})
    if flagged:
        notes.append(f"These measurements have flags: {', '.join(flagged)}.")
    return notes


def as_dict(answer: Answer) -> dict[str, Any]:
    """The answer as plain values: the question, and every offer with its figures in base units."""

    def ends(e: Estimate | None) -> list[float | None] | None:
        return None if e is None else [e.value, e.low, e.high]

    return {
        "question": {**asdict(answer.question), "res": list(answer.question.res)},
        "machine": answer.machine,
        "considered": answer.considered,
        "measured": answer.measured,
        "nearest": answer.nearest,
        "instead": as_dict(answer.instead) if answer.instead else None,
        "command": answer.question.command,
        "offers": [
            {
                "rank": o.rank, "tied": o.tied, "front": o.front, "variant": o.point.cell.variant,
                "execution": o.point.cell.execution, "precision": o.point.cell.precision,
                "reference": o.point.reference, "ratio_to_reference": ends(o.point.get("ratio_to_reference")),
                "throughput_img_per_s": ends(o.point.get(SPEED)), "peak_memory_bytes": ends(o.point.get(MEMORY)),
                "flags": list(o.point.flags),
            }
            for o in answer.offers
        ],
        "too_large": [p.cell.variant for p in answer.too_large],
        "failed": {p.cell.variant: p.reason or p.outcome for p in answer.failed},
    }  # fmt: skip


def _within(e: Estimate, digits: int = 4) -> str:
    return estimate(e.value, e.low, e.high, digits)
