"""`claims.toml` as dataclasses: what the papers claim in words, and by which comparisons each claim is tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from attnbench.published.toml_data import build, load, one_of

NEEDED = ("all", "most", "one")
RELATIONS = ("higher", "lower", "near", "factor")


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """A ratio of printed figures, to three decimals; `value` is a word where one of the two was not printed."""

    what: str
    value: float | str


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A function of `arithmetic.py` by its name, with its arguments."""

    name: str
    arguments: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Compare:
    """One comparison, or one for each of its pairs; what it leaves out is the claim's own.

    Attributes:
        relation: what the claim says of subject / baseline: higher, lower (than `bound`), near (within `margin`,
            relative, of `bound`) or factor (near the claim's `claimed_value`).
        metric: in the ledger's words; empty: the claim's.
        what: the wording; `{subject}`, `{baseline}`, `{task}` and `{side}` stand for their names.
        pairs: each a subject and its baselines; empty: the test's.
        formula: a closed formula and its arguments, in place of a measured subject.
        over: the formula that it, or a count, is divided by.
        subject_setting: a setting that the subject has and the baseline has not.
        optional: judged where it was measured, not missed where it was not.
    """

    relation: str
    metric: str = ""
    what: str = ""
    bound: float = 1.0
    margin: float = 0.0
    pairs: tuple[tuple[str, ...], ...] = ()
    resolution_px: int = 0
    baseline_resolution_px: int = 0
    formula: Formula | None = None
    over: Formula | None = None
    subject_setting: str = ""
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class ClaimTest:
    """How a claim is tested.

    Attributes:
        compare: the comparisons.
        names: the table of `partners.py` that knows subject and baseline, or name -> variants of ours;
            empty: the table of the claim's scope.
        pairs: each a subject and its baselines; empty: the claim's subject and baseline.
        tasks: the task models around subject and baseline; empty: those of the claim's scope.
        also_at_px: more resolutions at which every comparison is judged where it was measured.
        needed: how many comparisons must hold: all, most (more than half) or one.
        device_name: the devices that the claim is about, comma-separated; empty for a class of devices.
        why_not: why nothing here can test it.
    """

    compare: tuple[Compare, ...] = ()
    names: str | Mapping[str, str | tuple[str, ...]] = ""
    pairs: tuple[tuple[str, ...], ...] = ()
    tasks: tuple[str, ...] = ()
    also_at_px: tuple[int, ...] = ()
    needed: str = "all"
    device_name: str = ""
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One comparison that a paper makes in its text, as the head of `claims.toml` explains."""

    id: str
    statement: str
    metric: str
    subject: str | tuple[str, ...]
    baseline: tuple[str, ...]
    device_class: str
    scope: str
    setting: Mapping[str, Any]
    relation: str
    verdict: str
    source: str
    tables: tuple[str, ...]
    test: ClaimTest
    recomputed: tuple[Recomputed, ...] = ()
    claimed_value: float | None = None
    note: str = ""

    @property
    def resolution_px(self) -> int:
        """The side of the claim's images; 224 where it states no one number."""
        stated = self.setting.get("resolution_px")
        return stated if isinstance(stated, int) else 224

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """Each a subject and its baselines: subjects and baselines in step where they are as many, else each x all."""
        if isinstance(self.subject, str):
            return ((self.subject, *self.baseline),)
        if len(self.subject) == len(self.baseline):
            return tuple(zip(self.subject, self.baseline, strict=True))
        return tuple((subject, *self.baseline) for subject in self.subject)


@cache
def claims() -> tuple[Claim, ...]:
    """The comparisons that the papers make, in the order of the ledger.

    Raises:
        ValueError: a claim with an unknown or missing key or word.
    """
    return tuple(_claim(table) for table in load("claims.toml")["claim"])


def _claim(table: Mapping[str, Any]) -> Claim:
    where = f"claims.toml, {table.get('id', 'a claim without id')}"
    parts = {
        "test": _test(table.get("test", {}), where),
        "recomputed": [build(Recomputed, entry, where) for entry in table.get("recomputed", ())],
    }
    return build(Claim, {**table, **parts}, where)


def _compare(table: Mapping[str, Any], where: str) -> Compare:
    """One comparison; a formula is written `{ name = "msa", n = 196, d = 384 }`."""
    formulas = {
        key: build(
            Formula, {"arguments": {k: v for k, v in call.items() if k != "name"}, "name": call.get("name", "")}, where
        )
        for key, call in table.items()
        if key in ("formula", "over")
    }
    return build(Compare, {**table, **formulas}, where)


def _test(table: Mapping[str, Any], where: str) -> ClaimTest:
    compare = [_compare(entry, where) for entry in table.get("compare", ())]
    test = build(ClaimTest, {**table, "compare": compare}, where)
    for entry in compare:
        one_of(entry.relation, RELATIONS, f"{where}: relation")
        if entry.formula and not entry.over:
            raise ValueError(f"{where}: a formula is compared with another; {entry.formula.name} has no `over`")
    one_of(test.needed, NEEDED, f"{where}: needed")
    if bool(test.compare) == bool(test.why_not):
        raise ValueError(f"{where}: a claim has comparisons or a why_not; got {len(test.compare)} and {test.why_not!r}")
    return test
