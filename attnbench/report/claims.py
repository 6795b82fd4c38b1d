"""Ledger + records -> verdicts: which published comparisons our measurements reproduce, contradict or leave open.

A claim is judged by evidence of its own kind alone: counts and formulas anywhere (exact), an order or a factor
on a class of devices by a device of that class (relative), a claim on a named device by that device (absolute).
Chance is held by Holm's rule over all claims judged together. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

from attnbench import published
from attnbench.published.comparisons import Comparison, Rule, rules
from attnbench.report.evidence import Estimate, Evidence, Point
from attnbench.report.tables import Column, Table, Value, number

REPRODUCED, CONTRADICTED, UNDECIDED, NOT_HERE = "reproduced", "contradicted", "undecided", "not applicable"
ALPHA = 0.05
TINY = 1e-9
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Compared:
    """One comparison and what the records say of it; `spread` is the standard error of the log ratio."""

    comparison: Comparison
    ratio: float | None = None
    spread: float = 0.0
    basis: str = ""
    reason: str = ""

    @property
    def chances(self) -> tuple[float, float]:
        """p-values against "it does not hold" and against "it holds"."""
        assert self.ratio is not None
        c, at = self.comparison, math.log(self.ratio)
        if c.relation == "near":
            margin = math.log1p(c.margin) + TINY
            inside = max(
                _above(at, self.spread, math.log(c.bound) - margin), _below(at, self.spread, math.log(c.bound) + margin)
            )
            outside = 2 * min(
                _below(at, self.spread, math.log(c.bound) - margin), _above(at, self.spread, math.log(c.bound) + margin)
            )
            return inside, min(1.0, outside)
        up, down = _above(at, self.spread, math.log(c.bound)), _below(at, self.spread, math.log(c.bound))
        return (up, down) if c.relation == "higher" else (down, up)

    def interval(self, level: float) -> Estimate:
        """The ratio with its interval at this level; a count has none."""
        assert self.ratio is not None
        if not self.spread:
            return Estimate(self.ratio)
        reach = math.exp(_NORMAL.inv_cdf(0.5 + level / 2) * self.spread)
        return Estimate(self.ratio, self.ratio / reach, self.ratio * reach)


def _above(at: float, spread: float, bound: float) -> float:
    """P against "the ratio is at most the bound"."""
    if not spread:
        return 0.0 if at > bound else 1.0
    return 1 - _NORMAL.cdf((at - bound) / spread)


def _below(at: float, spread: float, bound: float) -> float:
    if not spread:
        return 0.0 if at < bound else 1.0
    return _NORMAL.cdf((at - bound) / spread)


@dataclass(frozen=True)
class Judgement:
    """A claim, on one machine where it needs one, with its verdict."""

    claim: dict[str, Any]
    rule: Rule
    machine: str
    compared: tuple[Compared, ...]
    verdict: str
    reason: str
    p: float = 1.0
    level: float = 1 - ALPHA

    @property
    def id(self) -> str:
        """The ledger's identifier."""
        return str(self.claim["id"])

    @property
    def found(self) -> list[Compared]:
        """The comparisons that have evidence."""
        return [c for c in self.compared if c.ratio is not None]

    @property
    def deciding(self) -> Compared | None:
        """The comparison that decides: the strongest against it if contradicted, else the weakest for it."""
        found = self.found
        if not found:
            return None
        if self.verdict == CONTRADICTED:
            return min(found, key=lambda c: (c.chances[1], -_distance(c)))
        return max(found, key=lambda c: (c.chances[0], -_distance(c)))

    @property
    def command(self) -> str:
        """What measures the comparisons of this claim."""
        return command(self.rule)


def _distance(c: Compared) -> float:
    assert c.ratio is not None
    return abs(math.log(c.ratio / c.comparison.bound))


def judge(evidence: Evidence) -> list[Judgement]:
    """Every claim of the ledger, in its order; a claim on a class of devices once for each machine of it."""
    drafts = [d for claim in published.claims() for d in _drafts(claim, rules()[claim["id"]], evidence)]
    chancy = [d for d in drafts if d.found and any(c.spread for c in d.found) and d.verdict == UNDECIDED]
    order = sorted(chancy, key=lambda d: (_p(d), d.id, d.machine))
    settled: dict[tuple[str, str], Judgement] = {}
    running = 0.0
    for rank, draft in enumerate(order):
        left = len(order) - rank
        running = max(running, min(1.0, left * _p(draft)))
        settled[draft.id, draft.machine] = _settle(draft, running, 1 - ALPHA / left)
    return [settled.get((d.id, d.machine)) or _settle(d, _p(d), 1 - ALPHA) for d in drafts]


def _drafts(claim: dict[str, Any], rule: Rule, evidence: Evidence) -> Iterator[Judgement]:
    if rule.why_not:
        yield Judgement(claim, rule, "", (), NOT_HERE, rule.why_not)
        return
    if rule.kind == "exact":
        yield _draft(claim, rule, "", evidence)
        return
    classes = {c.device for c in rule.comparisons if c.device}
    kinds = {"cpu", "gpu"} if "any" in classes else classes
    machines = [
        m
        for m in evidence.machines
        if any(p.machine == m and p.device_kind in kinds for p in evidence.points) and _named(m, rule.device_name)
    ]
    drafts = [_draft(claim, rule, machine, evidence) for machine in machines]
    timed = [d for d in drafts if d.verdict != NOT_HERE and any(c.comparison.device for c in d.found)]
    yield from timed or [d for d in drafts if d.verdict != NOT_HERE][:1] or drafts[:1]
    if not machines:
        what = rule.device_name or " or ".join({"cpu": "a CPU", "gpu": "a GPU"}[k] for k in sorted(kinds))
        yield _draft(claim, rule, "", evidence, f"the claim is about {what}; these runs have none")


def _named(machine: str, names: str) -> bool:
    return not names or any(n.strip().lower() in machine.lower() for n in names.split(","))


def _draft(claim: dict[str, Any], rule: Rule, machine: str, evidence: Evidence, no_device: str = "") -> Judgement:
    compared = tuple(_compare(c, machine, evidence) for c in rule.comparisons)
    compared = tuple(c for c in compared if c.ratio is not None or not c.comparison.optional)
    found = [c for c in compared if c.ratio is not None]
    wanted = [c for c in compared if c.comparison.value is None] or compared
    if not any(c.ratio is not None for c in wanted) and wanted:
        return Judgement(claim, rule, machine, compared, NOT_HERE, no_device or _lack(compared))
    if no_device and len(found) < len(compared):
        against = _partial([c.chances[1] for c in found], 1) if rule.least == 0 else 1.0
        if against > 0:
            return Judgement(
                claim, rule, machine, compared, NOT_HERE, no_device + "; its counts alone do not settle it"
            )
    return Judgement(claim, rule, machine, compared, UNDECIDED, "")


def _lack(compared: Sequence[Compared]) -> str:
    return "; ".join(dict.fromkeys(c.reason for c in compared if c.ratio is None))


def _p(draft: Judgement) -> float:
    return min(1.0, 2 * min(_both(draft))) if draft.found else 1.0


def _both(draft: Judgement) -> tuple[float, float]:
    """p-values for and against the claim as a whole, from those of its comparisons (partial conjunction)."""
    count, found = len(draft.compared), draft.found
    least = {0: count, -1: count // 2 + 1}.get(draft.rule.least, draft.rule.least)
    missing = count - len(found)
    chances = [c.chances for c in found]
    holds = _partial([p for p, _ in chances] + [1.0] * missing, least)
    fails = _partial([p for _, p in chances] + [1.0] * missing, count - least + 1)
    return holds, fails


def _partial(p: Sequence[float], least: int) -> float:
    """P against "fewer than `least` of these hold"."""
    return min(1.0, (len(p) - least + 1) * sorted(p)[least - 1])


def _settle(draft: Judgement, p: float, level: float) -> Judgement:
    if draft.verdict == NOT_HERE:
        return draft
    holds, fails = _both(draft)
    missing = [c for c in draft.compared if c.ratio is None]
    verdict = UNDECIDED if p > ALPHA else (REPRODUCED if holds < fails else CONTRADICTED)
    if verdict == UNDECIDED and missing:
        reason = f"{len(missing)} of {len(draft.compared)} comparisons have no evidence: {_lack(missing)}"
    elif verdict == UNDECIDED:
        reason = "the intervals hold both answers"
    else:
        reason = ""
    return replace(draft, verdict=verdict, reason=reason, p=p, level=level)


def _compare(comparison: Comparison, machine: str, evidence: Evidence) -> Compared:
    c = comparison
    if c.value is not None and not c.quantity:
        return Compared(c, c.value, basis="arithmetic")
    subjects, baselines = _points(c, c.subject, c.resolution, machine, evidence), []
    if c.value is None:
        baselines = _points(c, c.baseline, c.baseline_resolution or c.resolution, machine, evidence)
    lacking = [
        name
        for name, found, asked in ((c.subject[1], subjects, True), (c.baseline[1], baselines, c.value is None))
        if asked and not found
    ]
    if lacking:
        names = " and ".join(n[0] if n else "a model that this project has not" for n in lacking)
        return Compared(
            c, reason=f"{names} {_where(c)} {'are' if len(lacking) > 1 else 'is'} not measured in these runs"
        )
    if c.value is not None:
        value = _counted(c, subjects)
        return (
            Compared(c, value / c.value, basis="counted") if value else Compared(c, reason="not counted in these runs")
        )
    if not c.device:
        top, under = _counted(c, subjects), _counted(c, baselines)
        if not top or not under:
            return Compared(c, reason="not counted in these runs")
        return Compared(c, top / under, basis="counted")
    for one, other in _matched(c, subjects, baselines):
        answer = _ratio(c, one, other)
        if answer:
            return Compared(
                c, *answer, basis=f"batch {one.cell.batch}, {one.cell.precision}, {one.cell.kernel}, {one.machine}"
            )
    return Compared(c, reason="the two were not measured under the same conditions in these runs")


def _where(c: Comparison) -> str:
    side = f"{c.resolution[0]}x{c.resolution[1]}" if c.resolution[0] != c.resolution[1] else str(c.resolution[0])
    device = {"cpu": " on a CPU", "gpu": " on a GPU"}.get(c.device, "")
    return f"at {side}{' in training' if c.pass_ == 'train' else ''}{device}"


def _points(
    c: Comparison, place: tuple[str, tuple[str, ...]], size: tuple[int, int], machine: str, evidence: Evidence
) -> list[Point]:
    scope, variants = place
    found = [p for v in variants for p in evidence.find(scope, v) if (p.cell.res_h, p.cell.res_w) in (size, size[::-1])]
    if scope == "layer":
        found = [p for p in found if (p.cell.dim, p.cell.heads, p.cell.stride) == (768, 12, 16)]
    if c.device:
        found = [
            p
            for p in found
            if p.ok
            and p.machine == machine
            and c.device in ("any", p.device_kind)
            and p.cell.pass_ == c.pass_
            and p.cell.precision in ("fp32", "tf32")
            and p.cell.kernel == "eager"
            and not p.cell.compiled
        ]
    return [p for p in found if p.get(c.quantity) is not None or p.get("macs_mmdet") is not None]


def _counted(c: Comparison, points: Sequence[Point]) -> float | None:
    """A count: by mmdetection's rule for a task's MACs where that was recorded, as the papers counted it."""
    names = ("macs_mmdet", "macs") if c.quantity == "macs" and c.subject[0] == "task" else (c.quantity,)
    return next((e.value for name in names for p in points if (e := p.get(name)) is not None), None)


def _matched(c: Comparison, subjects: Sequence[Point], baselines: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    def alike(p: Point) -> tuple[Any, ...]:
        return (
            p.cell.device,
            p.cell.batch,
            p.cell.precision,
            p.cell.threads,
            p.cell.allocator,
            p.record.protocol if p.record else "",
        )

    both = [(s, b) for s in subjects for b in baselines if alike(s) == alike(b)]
    yield from sorted(
        both,
        key=lambda x: (
            x[0].cell.batch != c.batch,
            x[0].cell.precision,
            x[0].run_id != x[1].run_id,
            -x[0].cell.batch,
            x[0].run_id,
        ),
    )


def _ratio(c: Comparison, one: Point, other: Point) -> tuple[float, float] | None:
    """Ratio and standard error of its logarithm: through the shared reference where there is one."""
    a, b = one.get(c.quantity), other.get(c.quantity)
    if a is None or b is None or a.value <= 0 or b.value <= 0:
        return None
    if (
        c.quantity == "throughput_img_per_s"
        and one.reference
        and one.reference == other.reference
        and one.cell.group == other.cell.group
    ):
        ra, rb = one.get("ratio_to_reference"), other.get("ratio_to_reference")
        if ra and rb and ra.value > 0 and rb.value > 0:
            a, b = ra, rb
    return a.value / b.value, math.hypot(_spread(a), _spread(b))


def _spread(e: Estimate) -> float:
    if e.low is None or e.high is None or e.low <= 0 or e.high <= e.low:
        return 0.0
    return math.log(e.high / e.low) / (2 * _NORMAL.inv_cdf(0.975))


def command(rule: Rule) -> str:
    """The command that measures a claim's comparisons; empty for arithmetic."""
    measured = [c for c in rule.comparisons if c.quantity]
    if not measured:
        return ""
    scopes: dict[str, list[str]] = {}
    for c in measured:
        for scope, variants in (c.subject, c.baseline):
            if variants:
                scopes.setdefault(scope, []).append(variants[0])
    sides = dict.fromkeys(size for c in measured for size in (c.resolution, c.baseline_resolution) if size)
    devices = {c.device for c in measured if c.device}
    timed = bool(devices)
    words = ["attnbench run"]
    for scope, option in (("layer", "mechanism"), ("backbone", "backbone"), ("task", "task")):
        if scope in scopes:
            words.append(f"--{option} {_quoted(list(dict.fromkeys(scopes[scope])))}")
    words.append("--res " + ",".join(str(h) if h == w else f"{h}x{w}" for h, w in sides))
    if timed:
        words.append(f"--device {'cuda' if devices == {'gpu'} else 'cpu' if devices == {'cpu'} else 'all'}")
        words.append("--batch " + ",".join(str(b) for b in dict.fromkeys(c.batch for c in measured if c.device)))
        passes = dict.fromkeys(c.pass_ for c in measured if c.device)
        if list(passes) != ["forward"]:
            words.append(f"--pass {','.join(passes)}")
    else:
        words.append("--measure params,macs")
    if "layer" not in scopes:
        first = next(iter(scopes.values()))[0]
        words.append(f"--reference {_quoted([first])}")
    return " ".join(words)


def _quoted(variants: Sequence[str]) -> str:
    text = ",".join(variants)
    return f"'{text}'" if "[" in text else text


def details(judgement: Judgement) -> str:
    """Every comparison in words: `HiLo/SRA 1.31 [1.28, 1.34]`."""
    words = []
    for c in judgement.found:
        e = c.interval(judgement.level)
        ends = "" if e.low is None or e.high is None else f" [{number(e.low, 3)}, {number(e.high, 3)}]"
        words.append(f"{c.comparison.what} {number(e.value, 3)}{ends}")
    return "; ".join(words)


def table(judgements: Sequence[Judgement]) -> Table:
    """The ledger with its verdicts."""
    rows: list[tuple[Value, ...]] = []
    for j in judgements:
        most = j.deciding
        rows.append(
            (
                j.id,
                j.claim["statement"],
                j.rule.kind,
                j.machine or ("any" if j.rule.kind == "exact" else ""),
                j.verdict,
                most.comparison.what if most else "",
                claimed(most),
                most.interval(j.level) if most else None,
                details(j),
                j.reason,
                j.claim["source"],
                _ledger(j),
                j.command if j.verdict in (UNDECIDED, NOT_HERE) else "",
            )
        )
    keys = (
        ("id", "claim"),
        ("statement", "statement"),
        ("kind", "kind"),
        ("machine", "on"),
        ("verdict", "verdict"),
        ("deciding", "deciding comparison"),
        ("claimed", "claimed"),
        ("ratio", "ratio"),
        ("details", "all comparisons"),
        ("reason", "why open"),
        ("source", "source"),
        ("papers_own", "the paper's own tables"),
        ("command", "settled by"),
    )
    return Table(
        name="claims",
        title="The claims ledger",
        caption=f"{len(published.claims())} comparisons that the papers make. Exact: counts and formulas, valid "
        "anywhere; relative: an order or factor on a class of "
        "devices; absolute: on a named device. The interval is at the level that Holm's rule over all claims "
        "judged here gives it (5 % in all).",
        columns=tuple(Column(k, h, digits=3) for k, h in keys),
        rows=tuple(rows),
        outcomes=tuple(j.verdict for j in judgements),
    )


def claimed(most: Compared | None) -> str:
    """What the deciding comparison should be: `above 1`, `1.4 within 6.6 %`."""
    if most is None:
        return ""
    c = most.comparison
    if c.relation == "near":
        return (
            f"{number(c.bound, 3)} within {number(100 * c.margin, 2)} %"
            if c.margin
            else f"equal to {number(c.bound, 3)}"
        )
    return f"{'above' if c.relation == 'higher' else 'below'} {number(c.bound, 3)}"


def _ledger(j: Judgement) -> str:
    printed = "; ".join(f"{r['what']} {r['value']}" for r in j.claim.get("recomputed", ()))
    return f"{str(j.claim['verdict']).replace('_', ' ')}{': ' + printed if printed else ''}"


def tally(judgements: Sequence[Judgement]) -> str:
    """A sentence that counts the verdicts."""
    counts = {v: sum(j.verdict == v for j in judgements) for v in (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_HERE)}
    ids = len({j.id for j in judgements})
    return (
        f"Of {ids} published claims, judged {len(judgements)} times, {counts[REPRODUCED]} are reproduced, "
        f"{counts[CONTRADICTED]} contradicted, "
        f"{counts[UNDECIDED]} undecided and {counts[NOT_HERE]} not applicable to these runs."
    )
