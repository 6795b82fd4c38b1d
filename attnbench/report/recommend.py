"""Stored records -> the mechanisms that nothing measured beats in both speed and memory, in plain words. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.grouping import MEMORY, SPEED
from attnbench.report.tables import number
from attnbench.report.tradeoff import front


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: a resolution, a device, a batch and perhaps a memory limit in bytes."""

    res: tuple[int, int]
    device: str = "cpu"
    batch: int = 8
    pass_: str = "forward"
    memory: int = 0
    dim: int = 768
    heads: int = 12
    precision: str = ""

    @property
    def size(self) -> str:
        """`512` or `512x384`, as it is typed."""
        h, w = self.res
        return str(h) if h == w else f"{h}x{w}"

    @property
    def command(self) -> str:
        """What measures the answer."""
        words = f"attnbench run --res {self.size} --device {self.device} --batch {self.batch}"
        words += f" --pass {self.pass_}" if self.pass_ != "forward" else ""
        words += f" --dim {self.dim} --heads {self.heads}" if (self.dim, self.heads) != (768, 12) else ""
        return words + (f" --precision {self.precision}" if self.precision else "")


@dataclass(frozen=True)
class Answer:
    """The best, what ties with them, what does not fit or failed, and what was not measured."""

    question: Question
    best: tuple[Point, ...]
    ties: tuple[Point, ...]
    too_large: tuple[Point, ...]
    failed: tuple[Point, ...]
    machine: str
    nearest: str
    considered: int


def recommend(evidence: Evidence, question: Question) -> list[Answer]:
    """One answer for each machine that has records for the question; one without any where none has."""
    q = question
    kind = "cpu" if q.device.startswith("cpu") else "gpu"
    layers = [p for p in evidence.points if p.cell.scope == "layer" and p.device_kind == kind]
    right = [
        p
        for p in layers
        if (p.cell.res_h, p.cell.res_w) == q.res
        and p.cell.batch == q.batch
        and p.cell.pass_ == q.pass_
        and (p.cell.dim, p.cell.heads) == (q.dim, q.heads)
        and (not q.precision or p.cell.precision == q.precision)
    ]
    machines = list(dict.fromkeys(p.machine for p in right))
    if not machines:
        return [Answer(q, (), (), (), (), "", _nearest(layers, q), 0)]
    return [_answer([p for p in right if p.machine == m], q, m) for m in machines]


def _answer(points: Sequence[Point], q: Question, machine: str) -> Answer:
    measured = [p for p in points if p.get(SPEED)]
    with_memory = [p for p in measured if p.get(MEMORY)]
    fitting = [p for p in with_memory if not q.memory or _bytes(p) <= q.memory]
    best = front(_fastest_each(fitting))
    ties = [p for p in _fastest_each(fitting) if p not in best and best and any(_tied(p, b) for b in best)]
    large = [p for p in with_memory if p not in fitting]
    failed = [p for p in points if p not in with_memory]
    return Answer(q, tuple(best), tuple(ties), tuple(large), tuple(failed), machine, "", len(measured))


def _fastest_each(points: Sequence[Point]) -> list[Point]:
    """The same variant may have run with several kernels and precisions: each way is an offer of its own."""
    offers: dict[tuple[str, str, str, int], Point] = {}
    for p in points:
        offers.setdefault((p.cell.variant, p.cell.execution, p.cell.precision, p.cell.threads), p)
    return list(offers.values())


def _bytes(p: Point) -> float:
    found = p.get(MEMORY)
    return found.value if found else math.inf


def _tied(p: Point, best: Point) -> bool:
    """Speed not distinguishable from that of `best`, and no larger by more than two per cent."""
    a, b = p.get(SPEED), best.get(SPEED)
    if not a or not b or a.high is None or b.low is None:
        return False
    return a.high >= b.low and _bytes(p) <= 1.02 * _bytes(best)


def _nearest(layers: Sequence[Point], q: Question) -> str:
    """The measured condition that is nearest to the question, in words."""
    found = [p for p in layers if p.ok]
    if not found:
        return ""

    def far(p: Point) -> tuple[bool, float, float, str]:
        size = abs(math.log(p.cell.res_h * p.cell.res_w / (q.res[0] * q.res[1])))
        return p.cell.pass_ != q.pass_, size, abs(math.log(p.cell.batch / q.batch)), p.machine

    p = min(found, key=far)
    return f"{p.cell.res_h}x{p.cell.res_w}, batch {p.cell.batch}, {p.cell.pass_} pass, on {p.machine}"


def words(answer: Answer) -> list[str]:
    """The answer in sentences."""
    q = answer.question
    asked = f"{q.size} pixels, batch {q.batch}, {'training' if q.pass_ == 'train' else 'inference'} on {q.device}"
    limit = f" within {number(q.memory / 2**30, 3)} GiB" if q.memory else ""
    if not answer.machine:
        near = f" The nearest that was: {answer.nearest}." if answer.nearest else ""
        return [f"Nothing was measured at {asked}.{near}", f"This measures it: {q.command}"]
    lines = [f"At {asked} ({answer.machine}), of {answer.considered} measured:"]
    if not answer.best:
        lines.append(f"No mechanism with a measured speed and memory fits{limit or ' the question'}.")
    for rank, p in enumerate(answer.best):
        lead = "Fastest" if rank == 0 else "Less memory, slower"
        lines.append(f"{lead}{limit if not rank else ''}: {_offer(p)}.")
    for p in answer.ties:
        lines.append(f"Speed not distinguishable from one of these: {_offer(p)}.")
    if answer.too_large:
        lines.append(
            f"Above the limit: {', '.join(f'{p.cell.variant} ({_size(_bytes(p))})' for p in answer.too_large)}."
        )
    for p in answer.failed:
        lines.append(
            f"No answer for {p.cell.variant} ({p.cell.precision}, {p.cell.kernel}): "
            f"{p.outcome}{': ' + p.reason if p.reason else ', no speed or memory'}."
        )
    flagged = sorted({f for p in answer.best for f in p.flags})
    if flagged:
        lines.append(f"These measurements have flags: {', '.join(flagged)}.")
    lines.append(f"To measure it on your own machine: {q.command}")
    return lines


def _offer(p: Point) -> str:
    speed, ratio = p.get(SPEED), p.get("ratio_to_reference")
    parts = [f"{p.cell.variant}, {p.cell.precision}, {p.cell.execution}"]
    if speed:
        parts.append(f"{_within(speed)} img/s")
    if ratio and p.reference and p.reference != p.cell.variant:
        parts.append(f"{_within(ratio, 3)} times {p.reference}")
    return "; ".join([*parts, _size(_bytes(p))])


def _within(e: Estimate, digits: int = 4) -> str:
    ends = "" if e.low is None or e.high is None else f" [{number(e.low, digits)}, {number(e.high, digits)}]"
    return number(e.value, digits) + ends


def _size(bytes_: float) -> str:
    return f"{number(bytes_ / 2**30, 3)} GiB" if bytes_ >= 2**30 else f"{number(bytes_ / 2**20, 3)} MiB"
