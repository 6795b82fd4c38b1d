"""Ledger + records -> verdicts: which published comparisons our measurements reproduce, contradict or leave open.

A claim is judged by evidence of its own kind alone: counts and formulas anywhere (exact), an order or a factor
on a class of devices by a device of that class (relative), a claim on a named device by that device (absolute).
Chance is held by Holm's rule over all claims judged together. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from attnbench.published.claims import Claim, claims
from attnbench.published.rules import ClaimRule, rules
from attnbench.report.claim_ratios import ComparisonResult, compare
from attnbench.report.evidence import Evidence
from attnbench.report.numbers import estimate, number
from attnbench.report.tables import Column, Table, Value

REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE = "reproduced", "contradicted", "undecided", "not applicable"
ALPHA = 0.05
FEW = 2  # comparisons without evidence that a list of claims names


@dataclass(frozen=True)
class Judgement:
    """A claim, on one machine where it needs one, with its verdict."""

    claim: Claim
    rule: ClaimRule
    machine: str
    results: tuple[ComparisonResult, ...]
    verdict: str
    reason: str
    p: float = 1.0
    level: float = 1 - ALPHA

    @property
    def id(self) -> str:
        """The ledger's identifier."""
        return self.claim.id

    @property
    def evaluated(self) -> list[ComparisonResult]:
        """The comparisons that have evidence."""
        return [r for r in self.results if r.ratio is not None]

    @property
    def deciding(self) -> ComparisonResult | None:
        """The comparison that decides: the strongest against it if contradicted, else the weakest for it."""
        evaluated = self.evaluated
        if not evaluated:
            return None
        if self.verdict == CONTRADICTED:
            return min(evaluated, key=lambda r: (r.p_values[1], -r.distance))
        return max(evaluated, key=lambda r: (r.p_values[0], -r.distance))

    @property
    def command(self) -> str:
        """What measures the comparisons of this claim."""
        return command(self.rule)


def judge(evidence: Evidence) -> list[Judgement]:
    """Every claim of the ledger, in its order; a claim on a class of devices once for each machine of it."""
    drafts = [d for claim in claims() for d in _drafts(claim, rules()[claim.id], evidence)]
    chancy = [d for d in drafts if not all(r.is_exact for r in d.evaluated) and d.verdict == UNDECIDED]
    order = sorted(chancy, key=lambda d: (_p(d), d.id, d.machine))
    settled: dict[tuple[str, str], Judgement] = {}
    running = 0.0
    for rank, draft in enumerate(order):
        left = len(order) - rank
        running = max(running, min(1.0, left * _p(draft)))
        settled[draft.id, draft.machine] = _settle(draft, running, 1 - ALPHA / left)
    return [settled.get((d.id, d.machine)) or _settle(d, _p(d), 1 - ALPHA) for d in drafts]


def _drafts(claim: Claim, rule: ClaimRule, evidence: Evidence) -> Iterator[Judgement]:
    if rule.why_not:
        yield Judgement(claim, rule, "", (), NOT_APPLICABLE, rule.why_not)
        return
    if rule.kind == "exact":
        yield _draft(claim, rule, "", evidence)
        return
    classes = {c.device for c in rule.comparisons if c.device}
    kinds = {"cpu", "gpu"} if "any" in classes else classes
    machines = [m for m in evidence.machines_with(*kinds) if _named(m, rule.device_name)]
    drafts = [_draft(claim, rule, machine, evidence) for machine in machines]
    timed = [d for d in drafts if d.verdict != NOT_APPLICABLE and any(r.comparison.device for r in d.evaluated)]
    yield from timed or [d for d in drafts if d.verdict != NOT_APPLICABLE][:1] or drafts[:1]
    if not machines:
        what = rule.device_name or " or ".join({"cpu": "a CPU", "gpu": "a GPU"}[k] for k in sorted(kinds))
        yield _draft(claim, rule, "", evidence, f"the claim is about {what}; these runs have none")


def _named(machine: str, names: str) -> bool:
    return not names or any(n.strip().lower() in machine.lower() for n in names.split(","))


def _draft(claim: Claim, rule: ClaimRule, machine: str, evidence: Evidence, no_device: str = "") -> Judgement:
    """A claim with its ratios, not applicable or still undecided."""
    results = tuple(compare(c, machine, evidence) for c in rule.comparisons)
    results = tuple(r for r in results if r.ratio is not None or not r.comparison.optional)
    evaluated = [r for r in results if r.ratio is not None]
    wanted = [r for r in results if r.comparison.value is None] or results
    if not any(r.ratio is not None for r in wanted) and wanted:
        return Judgement(claim, rule, machine, results, NOT_APPLICABLE, no_device or _lack(results))
    if no_device and len(evaluated) < len(results):
        against = _partial([r.p_values[1] for r in evaluated], 1) if rule.needed == "all" else 1.0
        if against > 0:
            reason = no_device + "; its counts alone do not settle it"
            return Judgement(claim, rule, machine, results, NOT_APPLICABLE, reason)
    return Judgement(claim, rule, machine, results, UNDECIDED, "")


def _lack(results: Sequence[ComparisonResult]) -> str:
    return "; ".join(dict.fromkeys(r.reason for r in results if r.ratio is None))


def _p(draft: Judgement) -> float:
    return min(1.0, 2 * min(_both(draft))) if draft.evaluated else 1.0


def _both(draft: Judgement) -> tuple[float, float]:
    """p-values for and against the claim as a whole, from those of its comparisons (partial conjunction)."""
    count = len(draft.results)
    least = draft.rule.least_of(count)
    missing = [1.0] * (count - len(draft.evaluated))
    p_values = [r.p_values for r in draft.evaluated]
    holds = _partial([p for p, _ in p_values] + missing, least)
    fails = _partial([p for _, p in p_values] + missing, count - least + 1)
    return holds, fails


def _partial(p: Sequence[float], least: int) -> float:
    """The p-value against "fewer than `least` of these hold"."""
    return min(1.0, (len(p) - least + 1) * sorted(p)[least - 1])


def _settle(draft: Judgement, p: float, level: float) -> Judgement:
    if draft.verdict == NOT_APPLICABLE:
        return draft
    holds, fails = _both(draft)
    missing = [r for r in draft.results if r.ratio is None]
    verdict = UNDECIDED if p > ALPHA else (REPRODUCED if holds < fails else CONTRADICTED)
    if verdict == UNDECIDED and missing:
        reason = f"{len(missing)} of {len(draft.results)} comparisons have no evidence: {_lack(missing)}"
    elif verdict == UNDECIDED:
        reason = f"p is {number(p, 2)} after all corrections; a verdict needs {ALPHA:g} or less"
    else:
        reason = ""
    return replace(draft, verdict=verdict, reason=reason, p=p, level=level)


def command(rule: ClaimRule) -> str:
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


def brief_reason(judgement: Judgement) -> str:
    """Why a claim is open, with at most two comparisons that have no evidence, and the number of the others."""
    lacking = list(dict.fromkeys(r.reason for r in judgement.results if r.ratio is None))
    if len(lacking) <= FEW:
        return judgement.reason
    more = f"{len(lacking) - FEW} more comparisons have no evidence; --claim {judgement.id} lists them"
    few = f"{'; '.join(lacking[:FEW])}; {more}"
    return judgement.reason.replace("; ".join(lacking), few)


def details(judgement: Judgement) -> str:
    """Every comparison in words: `HiLo/SRA 1.31 [1.28, 1.34]`."""
    words = []
    for r in judgement.evaluated:
        e = r.interval(judgement.level)
        words.append(f"{r.comparison.what} {estimate(e.value, e.low, e.high, 3)}")
    return "; ".join(words)


def table(judgements: Sequence[Judgement]) -> Table:
    """The ledger with its verdicts."""
    rows: list[tuple[Value, ...]] = []
    for j in judgements:
        most = j.deciding
        rows.append(
            (
                j.id,
                j.claim.statement,
                j.rule.kind,
                j.machine or ("any" if j.rule.kind == "exact" else ""),
                j.verdict,
                most.comparison.what if most else "",
                claimed(most),
                most.interval(j.level) if most else None,
                details(j),
                j.reason,
                j.claim.source,
                _ledger(j),
                j.command if j.verdict in (UNDECIDED, NOT_APPLICABLE) else "",
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
        caption=f"{len(claims())} comparisons that the papers make. Exact: counts and formulas, valid "
        "anywhere; relative: an order or factor on a class of "
        "devices; absolute: on a named device. The interval is at the level that Holm's rule over all claims "
        "judged here gives it (5 % in all).",
        columns=tuple(Column(k, h, digits=3, internal=k == "command") for k, h in keys),
        rows=tuple(rows),
        outcomes=tuple(j.verdict for j in judgements),
    )


def claimed(most: ComparisonResult | None) -> str:
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
    printed = "; ".join(f"{r.what} {r.value}" for r in j.claim.recomputed)
    return f"{j.claim.verdict.replace('_', ' ')}{': ' + printed if printed else ''}"


def tally(judgements: Sequence[Judgement]) -> str:
    """A sentence that counts the verdicts."""
    counts = {v: sum(j.verdict == v for j in judgements) for v in (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE)}
    ids = len({j.id for j in judgements})
    return (
        f"Of {ids} published claims, judged {len(judgements)} times, {counts[REPRODUCED]} are reproduced, "
        f"{counts[CONTRADICTED]} contradicted, "
        f"{counts[UNDECIDED]} undecided and {counts[NOT_APPLICABLE]} not applicable to these runs."
    )
