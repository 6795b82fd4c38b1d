"""The ledger gives the comparisons that test each claim; a slip in it is an error that names its place."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from attnbench.published import claims as ledger
from attnbench.published import rules as made
from attnbench.published.claims import Claim, ClaimTest, Compare, Formula, claims
from attnbench.published.rules import ClaimComparison, rules

KNOWN = Path(__file__).with_name("rules.csv")
COLUMNS = (
    "claim", "kind", "needed", "device_name", "what", "quantity", "subject", "baseline", "relation", "bound", "margin",
    "device", "pass", "batch", "resolution", "baseline_resolution", "value", "optional",
)  # fmt: skip


def row(claim: str, c: ClaimComparison) -> tuple[str, ...]:
    rule = rules()[claim]
    cells = (
        claim, rule.kind, rule.needed, rule.device_name, c.what, c.quantity, " ".join(c.subject[1]),
        " ".join(c.baseline[1]), c.relation, f"{c.bound:g}", f"{c.margin:.6g}", c.device, c.pass_, c.batch,
        "{}x{}".format(*c.resolution), "{}x{}".format(*c.baseline_resolution) if c.baseline_resolution else "",
        "" if c.value is None else f"{c.value:.9g}", "yes" if c.optional else "",
    )  # fmt: skip
    return tuple(map(str, cells))


def claim(test: ClaimTest, **changes: object) -> Claim:
    """The first claim of the ledger (HiLo over SRA on a CPU, 1.4), tested otherwise."""
    return replace(claims()[0], test=test, **changes)


def formula(name: str, **arguments: float) -> Formula:
    return Formula(name=name, arguments=arguments)


def expand(test: ClaimTest, **changes: object) -> list[ClaimComparison]:
    return list(made._comparisons(claim(test, **changes)))


def test_the_comparisons_of_every_claim_are_those_of_the_stored_table() -> None:
    with KNOWN.open(newline="") as file:
        known = [tuple(line) for line in csv.reader(file)]
    assert known[0] == COLUMNS
    assert [row(name, c) for name, rule in rules().items() for c in rule.comparisons] == known[1:]


def test_every_claim_has_comparisons_or_a_reason_why_not() -> None:
    assert len(rules()) == len(claims()) == 71
    assert [name for name, rule in rules().items() if bool(rule.comparisons) == bool(rule.why_not)] == []


def test_a_comparison_takes_what_it_leaves_out_from_its_claim() -> None:
    (c,) = expand(ClaimTest(compare=(Compare(relation="factor"),)))
    assert (c.what, c.quantity, c.device) == ("HiLo/SRA", "throughput_img_per_s", "cpu")
    assert (c.subject, c.baseline) == (("layer", ("hilo",)), ("layer", ("sra",)))
    assert (c.relation, c.bound, c.margin) == ("near", 1.4, pytest.approx(0.05 / 1.4 + 0.03))


def test_a_factor_is_met_within_the_rounding_of_its_digits_and_three_per_cent() -> None:
    factor = ClaimTest(compare=(Compare(relation="factor"),))
    (c,) = expand(factor, claimed_value=1.11)
    assert c.margin == pytest.approx(0.005 / 1.11 + 0.03)


def test_a_comparison_at_more_resolutions_is_not_missed_there() -> None:
    found = expand(ClaimTest(compare=(Compare(relation="higher"),), also_at_px=(512,)))
    assert [(c.resolution, c.optional) for c in found] == [((224, 224), False), ((512, 512), True)]


def test_a_setting_of_the_subject_alone_stands_inside_its_backbone() -> None:
    compare = Compare(relation="higher", metric="fps", subject_setting="window_size=4")
    (c,) = expand(
        ClaimTest(compare=(compare,), tasks=("retinanet",), pairs=(("LITv2-S", "LITv2-S"),), names="classifiers")
    )
    assert c.subject == ("task", ("retinanet[backbone=litv2_s[window_size=4]]",))
    assert c.baseline == ("task", ("retinanet[backbone=litv2_s]",))
    assert (c.batch, c.resolution) == (1, (800, 1280))


@pytest.mark.parametrize(("needed", "least"), [("all", 5), ("most", 3), ("one", 1)])
def test_all_most_or_one_of_the_comparisons_must_hold(needed: str, least: int) -> None:
    assert made.ClaimRule(needed=needed).least_of(5) == least


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"compare": [{"relation": "above"}]}, r"claims\.toml, c: relation must be one of higher, .*; got 'above'"),
        ({"compare": [{"relation": "lower", "bounds": 2}]}, r"claims\.toml, c: Compare has no bounds; its keys: b"),
        ({"compare": [{"metric": "flops"}]}, r"claims\.toml, c: Compare needs relation"),
        ({"compare": [{"relation": "lower"}], "needed": "some"}, r"needed must be one of all, most, one; got 'some'"),
        ({"compare": [{"relation": "lower", "formula": {"name": "msa"}}]}, r"c: a formula is .*; msa has no `over`"),
        ({}, r"claims\.toml, c: a claim has comparisons or a why_not; got 0 and ''"),
    ],
)
def test_a_slip_in_a_test_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ledger._test(table, "claims.toml, c")


@pytest.mark.parametrize(
    ("compare", "test", "changes", "message"),
    [
        (Compare(relation="lower"), {}, {"baseline": ("Nobody",)}, "no partner is known under the name 'Nobody'"),
        (Compare(relation="lower"), {"names": "layer"}, {}, "names must be one of layers, .*; got 'layer'"),
        (Compare(relation="lower", metric="speed"), {}, {}, "metric must be one of throughput, .*; got 'speed'"),
        (Compare(relation="lower"), {}, {"device_class": "tpu"}, "device_class must be one of none, .*; got 'tpu'"),
        (Compare(relation="factor"), {}, {"claimed_value": None}, "a factor needs a claimed_value"),
        (Compare(relation="lower", over=formula("cosine")), {}, {}, "formula must be one of msa, .*; got 'cosine'"),
        (
            Compare(relation="lower", over=formula("msa", m=1)),
            {},
            {},
            "the arguments of a formula must be its own; .*'m'",
        ),
    ],
)
def test_a_name_that_nothing_knows_is_refused(
    compare: Compare, test: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"hilo-cpu-faster-than-sra: {message}"):
        expand(ClaimTest(compare=(compare,), **test), **changes)
