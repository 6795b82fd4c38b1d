"""Every published params or MACs cell is equal, or stands in the table with its reason; the reasons stay true."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
import synthetic as made

from attnbench import published
from attnbench.published import differences as reasons
from attnbench.published.differences import Reason
from attnbench.report import differences, write
from attnbench.report.differences import ALONE, EQUAL, KNOWN, STATES, UNKNOWN, Counted
from attnbench.report.evidence import Evidence, gather
from attnbench.report.tables import comma_separated

RUNS = sorted(path.parent for path in (Path(__file__).parents[2] / "reports" / "runs").glob("*/run.json"))
HOSTILE = '<img src=x onerror="alert(1)">'
Key = tuple[str, str, str]

# variant: resolution and counts, as the authors' own code has them
LIT = {
    "litv1_s": ((224, 224), {"params": 27_973_720, "macs": 4_076_614_656, "macs_fvcore": 4_088_619_264}),
    "litv1_m": ((224, 224), {"params": 49_372_264, "macs": 8_592_454_656, "macs_fvcore": 8_613_490_944}),
    "litv1_b": ((224, 224), {"params": 87_292_384, "macs": 15_027_531_776, "macs_fvcore": 15_055_580_160}),
    "litv2_b": ((384, 384), {"params": 86_520_704, "macs": 39_646_044_160, "macs_fvcore": 39_728_472_064}),
    "litv2_s": ((224, 224), {"params": 27_844_000, "macs": 3_723_626_496, "macs_fvcore": 3_735_631_104}),
    "lightvit_t": ((224, 224), {"params": 9_377_698, "macs": 772_183_808, "macs_fvcore": 781_049_600}),
    "lightvit_s": ((224, 224), {"params": 19_200_248, "macs": 1_825_346_432, "macs_fvcore": 1_838_978_560}),
    "lightvit_b": ((224, 224), {"params": 35_195_653, "macs": 4_106_798_080, "macs_fvcore": 4_128_747_264}),
    "mask_rcnn[backbone=litv2_m[window_size=4]]": ((1280, 800), {"params": 68_336_424, "macs_mmdet": 331_150_088_180}),
    "retinanet[backbone=litv2_s]": ((1280, 800), {"params": 38_014_252, "macs_mmdet": 242_391_433_320}),
    "semantic_fpn[backbone=litv2_m]": ((512, 512), {"params": 52_435_854, "macs_mmdet": 62_499_235_840}),
}


def evidence(folder: Path, counts: dict[str, tuple[tuple[int, int], dict[str, int]]]) -> Evidence:
    """A run in which these models were counted and nothing else."""
    records = []
    for variant, (res, values) in counts.items():
        cell = made.model(variant, res_h=res[0], res_w=res[1], device="cpu")
        record = made.measured(cell, **values)
        unset = {key: v for key, v in record.values.items() if key in values or not key.startswith("macs")}
        records.append(type(record)(cell=cell, outcome="ok", values=unset, protocol="standard", words=record.words))
    return gather([made.run(folder / "run", records)])


def cells(found: Evidence) -> dict[Key, Counted]:
    return {c.key: c for c in differences.counted(found)}


def printed_counts(file: str) -> int:
    """The params and FLOPs cells of a published file that hold a number."""
    return sum(
        bool(text) for row in published.read(file) for key, text in row.items() if "params" in key or "flops" in key
    )


@pytest.fixture
def lit(tmp_path: Path) -> dict[Key, Counted]:
    return cells(evidence(tmp_path, LIT))


@pytest.fixture(scope="module")
def stored() -> dict[Key, Counted]:
    assert RUNS, "the repository holds reference runs"
    return cells(gather(RUNS))


def test_each_reason_names_published_cells_and_no_cell_has_two(stored: dict[Key, Counted]) -> None:
    named = [(r.file, row, q) for r in reasons.reasons() for row in r.rows for q in r.quantities]
    assert [key for key in named if key not in stored] == []
    assert [key for key, times in Counter(named).items() if times > 1] == []
    assert [key for key in reasons.absent() if key not in {(file, row) for file, row, _ in stored}] == []


def test_each_reason_has_words_a_cause_and_a_way_of_printing() -> None:
    for reason in reasons.reasons():
        assert reason.why
        assert reason.cause in reasons.CAUSES
        assert reason.printed in reasons.WAYS
        assert reason.cause != "inferred" or reason.has_arithmetic, "what no source says needs a sum that fits"


def test_each_reason_is_of_a_cell_that_the_committed_runs_count_and_that_differs(stored: dict[Key, Counted]) -> None:
    assert [key for key in reasons.by_cell() if stored[key].state == ALONE] == [], "commit a run that counts them"
    assert [key for key in reasons.by_cell() if stored[key].state == EQUAL] == [], "take the reason out"


def test_no_model_that_is_said_to_be_absent_is_in_the_committed_runs(stored: dict[Key, Counted]) -> None:
    assert [c.key for c in stored.values() if c.key[:2] in reasons.absent() and c.state != ALONE] == []


def unmet(found: dict[Key, Counted]) -> list[tuple[Key, str, str]]:
    """Reasons whose arithmetic does not lead to the printed text: the cell, what it gives, what is printed."""
    wrong = []
    for key, reason in reasons.by_cell().items():
        ours, pair = found[key].exact, found[key].pair
        if reason.has_arithmetic and ours is not None:
            text = reason.prints(ours, pair.metric.scale, pair.printed)
            if text != pair.printed:
                wrong.append((key, text, pair.printed))
    return wrong


def test_the_arithmetic_of_each_reason_leads_from_our_count_to_the_printed_text(
    stored: dict[Key, Counted], lit: dict[Key, Counted]
) -> None:
    assert unmet(stored) == []
    assert unmet(lit) == []


def test_the_states_of_all_cells_add_up_to_the_published_ones(tmp_path: Path) -> None:
    summary, apart = differences.tables(evidence(tmp_path, LIT))
    rows = list(csv.DictReader(io.StringIO(comma_separated(summary))))
    assert {r["file"]: int(r["cells"]) for r in rows if r["file"]} == {
        name: n for name in published.names() if name != "macs" and (n := printed_counts(name))
    }
    for r in rows:
        assert int(r["cells"]) == sum(int(r[k]) for k in STATES)
    *by_table, everything = rows
    for key in ("cells", *STATES):
        assert int(everything[key]) == sum(int(r[key]) for r in by_table)
    assert len(apart.rows) == sum(int(everything[k]) for k in ("known", "inferred", "unknown"))


def test_a_differing_cell_shows_both_figures_the_exact_one_and_the_sum(lit: dict[Key, Counted]) -> None:
    cell = lit["coco_detection", "LITv2-M*", "mask_rcnn_flops_g"]
    assert (cell.pair.printed, cell.ours, cell.exact, cell.state) == ("315", "331", 331_150_088_180, KNOWN)
    assert cell.difference_pct is not None
    assert cell.difference_pct.value == pytest.approx(5.127, abs=1e-3)
    assert cell.why.endswith("331,150,088,180 - 12,613,386,240 (stage 3) - 3,072,000,000 (stage 4) = 315,464,701,940")


def test_a_cell_that_only_another_count_meets_names_that_count(lit: dict[Key, Counted]) -> None:
    cell = lit["imagenet_models", "LITv2-B at 384", "flops_g"]
    assert (cell.state, cell.other_counts, cell.why) == (KNOWN, ("macs_fvcore",), "fvcore's count prints as published")


def test_a_cell_without_a_reason_is_unknown(tmp_path: Path) -> None:
    found = cells(evidence(tmp_path, {"litv2_s": ((224, 224), {"params": 27_844_000, "macs": 5_000_000_000})}))
    cell = found["imagenet_models", "LITv2-S", "flops_g"]
    assert (cell.state, cell.why) == (UNKNOWN, "unknown")
    assert found["imagenet_models", "LITv2-S", "params_m"].state == EQUAL


def test_a_reason_that_the_sources_leave_open_counts_as_unknown(tmp_path: Path) -> None:
    counts = {"litv2_s[attention=sra]": ((224, 224), {"params": 31_635_616, "macs": 3_908_625_408})}
    cell = cells(evidence(tmp_path, counts))["attention_swap", "SRA", "imagenet_flops_g"]
    assert cell.state == UNKNOWN
    assert cell.why.startswith("unknown; ")


def test_a_published_model_that_nothing_here_can_build_says_so(lit: dict[Key, Counted]) -> None:
    cell = lit["lightvit_imagenet", "LVT", "params_m"]
    assert (cell.state, cell.why) == (ALONE, "neither timm nor transformers has this model")
    assert lit["imagenet_models", "ResNet-50", "params_m"].why == "its partner is not in these runs"


@pytest.mark.parametrize(
    ("way", "ours", "text"),
    [
        ("rounded", 62_499_235_840, "62"),
        ("rounded twice", 62_499_235_840, "63"),
        ("truncated", 48_603_264_000, "48"),
        ("rounded", 48_603_264_000, "49"),
        ("truncated", 55_484_350_464, "55.4"),
    ],
)
def test_a_count_is_printed_in_the_way_that_the_reason_states(way: str, ours: int, text: str) -> None:
    reason = Reason(file="f", rows=("r",), quantities=("q",), why="", printed=way)
    assert reason.prints(ours, 1e9, text) == text


def test_the_tables_stand_on_the_page_with_every_text_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))
    key = ("imagenet_models", "LITv1-S", "params_m")
    hostile = Reason(file=key[0], rows=(key[1],), quantities=(key[2],), why=HOSTILE)
    monkeypatch.setattr(differences, "by_cell", lambda: {key: hostile})
    evidence(tmp_path, LIT)
    write([tmp_path / "run"], tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.index('id="table-differences"') < page.index('id="table-errata"')
    assert 'id="table-differences-summary"' in page
    assert r"\u003cimg src=x" in page
    assert "&lt;img src=x" in (tmp_path / "out" / "tables" / "differences.md").read_text()
    for name in ("index.html", "tables/differences.md"):
        assert "<img src=x" not in (tmp_path / "out" / name).read_text()
    assert all((tmp_path / "out" / "tables" / f"differences-summary.{e}").stat().st_size for e in ("md", "csv", "tex"))
