from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic as made
from click.testing import CliRunner

from attnbench import published
from attnbench.commands.report import command
from attnbench.errors import AttnbenchError
from attnbench.published.layouts import LAYOUTS
from attnbench.report import published as papers
from attnbench.report import spectrum_figure, write
from attnbench.report.chart import Chart
from attnbench.report.evidence import gather
from attnbench.report.matching import same_variant
from attnbench.results.run_facts import RunFacts

HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the figures for the page alone."""
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("report")
    cpu = made.layers(base / "cpu", sizes=(224, 512, 1024))
    gpu = made.layers(base / "gpu", device="cuda", threads=1, device_name="Invented GPU")
    models = made.run(
        base / "models",
        [made.measured(made.model(f"litv2_s[alpha={a}]"), 1 + a, device_name="Invented GPU") for a in (0.0, 0.5, 0.9)],
    )
    kernels = [
        made.measured(made.cell(n, kernel="sdpa", precision=p), 2.0) for n in ("msa", "hilo") for p in ("fp32", "bf16")
    ]
    (models / "spectrum.json").write_text(json.dumps(made.SPECTRUM))
    write([cpu, gpu, models, made.run(base / "kernels", kernels)], base / "out")
    return base / "out"


def test_every_published_file_has_its_table_with_a_row_for_each_of_its_rows(report: Path) -> None:
    assert {layout.file for layout in LAYOUTS} >= {n for n in published.names() if n != "macs"}
    tables = papers.tables(gather([report.parent / "cpu"]))
    for layout, table in zip(LAYOUTS, tables, strict=True):
        wanted = [layout.label_of(r) for r in published.read(layout.file)]
        assert list(dict.fromkeys(row[0] for row in table.rows)) == list(dict.fromkeys(wanted)), layout.file


def test_of_the_papers_a_report_writes_what_has_a_partner_in_these_runs(tmp_path: Path, quick: None) -> None:
    write([made.layers(tmp_path / "run", sizes=(224,), names=("msa", "hilo", "window"))], tmp_path / "out")
    layouts = {layout.file.replace("_", "-") for layout in LAYOUTS}
    tables = {p.stem for p in (tmp_path / "out" / "tables").iterdir()}
    assert tables & layouts == {"layer-benchmark", "layer-benchmark-settings"}
    assert len(rows(tmp_path / "out", "layer-benchmark")) == 14, "a table is whole"
    assert {"claims", "errata", "published-all"} <= tables
    figures = {p.stem for p in (tmp_path / "out" / "figures").iterdir()}
    assert {name for name in figures if name.startswith("fig")} == {"fig2-complexity", "fig3-resolution", "fig6-layers"}
    write([made.run(tmp_path / "other", [made.measured(made.cell("mlla", res_h=96, res_w=96))])], tmp_path / "none")
    tables = {p.stem for p in (tmp_path / "none" / "tables").iterdir()}
    assert tables & {*layouts, "errata", "differences", "differences-summary", "published-all"} == set()


def test_every_published_figure_has_a_partner_or_a_reason(report: Path) -> None:
    found = rows(report, "published-all")
    assert len(found) > 400
    assert [r for r in found if not r["measured"] and not r["note"]] == []
    hilo = next(r for r in found if (r["file"], r["row"], r["quantity"]) == ("layer_benchmark", "HiLo", "flops_m_2dp"))
    assert hilo["published"] == "298.30"
    counted = next(r for r in found if (r["file"], r["row"], r["quantity"]) == ("layer_benchmark", "HiLo", "flops_m"))
    assert counted["measured"] == "298.296"
    assert counted["prints_alike"] == "yes"


def test_every_figure_comes_as_pdf_svg_and_png(report: Path) -> None:
    names = {p.stem for p in (report / "figures").iterdir() if p.suffix != ".md"}
    assert names >= {
        "fig2-complexity",
        "fig3-resolution",
        "fig4-alpha",
        "fig6-layers",
        "flops-speed",
        "pareto",
        "scaling",
        "kernels",
    }
    for name in names:
        assert all((report / "figures" / f"{name}.{kind}").stat().st_size > 500 for kind in ("pdf", "svg", "png"))


def test_failures_and_declines_are_rows_with_their_reasons(report: Path) -> None:
    found = {(r["variant"], r["resolution"], r["device"]): r for r in rows(report, "measured-layer")}
    assert found["msa", "1024x1024", "cpu"]["outcome"] == "oom"
    assert "12.0 GiB" in found["msa", "1024x1024", "cpu"]["reason"]
    assert found["dat", "1024x1024", "cpu"]["outcome"] == "declined"


def test_rows_of_one_condition_stand_in_the_order_of_their_speed(report: Path) -> None:
    found = [
        r
        for r in rows(report, "measured-layer")
        if (r["device"], r["resolution"], r["kernel"]) == ("cpu", "512x512", "eager")
    ]
    speeds = [float(r["throughput_img_per_s"]) for r in found]
    assert len(speeds) == 14
    assert speeds == sorted(speeds, reverse=True)


def test_two_machines_have_a_column_that_says_whose_the_numbers_are(report: Path) -> None:
    assert {r["machine"] for r in rows(report, "measured-layer")} == {"Invented CPU", "Invented GPU"}
    assert "machine" not in rows(report, "measured-backbone")[0] or rows(report, "measured-backbone")[0]["machine"]


def test_the_page_begins_with_the_answer_and_is_one_file(report: Path) -> None:
    text = (report / "index.html").read_text()
    assert "On Invented CPU the fastest of 14 layers" in text
    assert text.index('id="chooser"') < text.index('id="answer"') < text.index('role="tablist"')
    text = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # library code holds markup in its strings
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert not re.search(r"url\(\s*['\"]?http", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert sorted(ids) == sorted(set(ids))


def digests(out: Path) -> dict[str, str]:
    files = (p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    folder = made.layers(tmp_path / "run", sizes=(224, 512), names=("msa", "hilo", "sra"))
    code = (
        "import sys; from pathlib import Path; from attnbench.report import write\n"
        "write([Path(sys.argv[1])], Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(folder), str(tmp_path / seed)],
            check=True,
            env={"PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
        )
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import attnbench.report.write, attnbench.report.claims, attnbench.report.recommend\n"
        "import attnbench.published.rules\n"
        "import attnbench.commands.report, attnbench.commands.claims, attnbench.commands.recommend\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_hostile_name_is_text_everywhere(tmp_path: Path, quick: None) -> None:
    records = [made.measured(made.cell(n)) for n in ("msa", HOSTILE)] + [
        made.measured(made.cell(n, res_h=448, res_w=448)) for n in ("msa", HOSTILE)
    ]
    write(
        [made.run(tmp_path / "run", records, facts=RunFacts(environment=replace(made.HERE, host=HOSTILE)))],
        tmp_path / "out",
    )
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".html", ".svg", ".md"):
            assert "<img src=x" not in path.read_text(), path
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;img src=x" in page, "a fact of a run"
    assert "\\u003cimg src=x" in page, "a variant in the page's data"


def test_an_empty_run_gives_a_report_that_says_so(tmp_path: Path, quick: None) -> None:
    write([made.run(tmp_path / "run", [])], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "an empty run" in text
    assert "These runs hold no cell" in text


def test_a_run_of_failures_alone_gives_a_report_that_says_so(tmp_path: Path, quick: None) -> None:
    write(
        [
            made.run(
                tmp_path / "run", [made.failed(made.cell("msa")), made.failed(made.cell("sra"), "crashed", "signal 11")]
            )
        ],
        tmp_path / "out",
    )
    assert "every record is a failure or a decline" in (tmp_path / "out" / "index.html").read_text()
    assert {r["outcome"] for r in rows(tmp_path / "out", "measured-layer")} == {"oom", "crashed"}


def test_a_planned_cell_without_a_record_is_a_row(tmp_path: Path, quick: None) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell("msa"))], planned=[made.cell("hilo")])
    write([folder], tmp_path / "out")
    assert [(r["variant"], r["outcome"]) for r in rows(tmp_path / "out", "measured-layer")] == [
        ("msa", "ok"),
        ("hilo", "missing"),
    ]
    assert "1 of 2 planned cells have no record yet" in (tmp_path / "out" / "index.html").read_text()


def test_one_point_alone_gives_its_figures(tmp_path: Path) -> None:
    write([made.run(tmp_path / "run", [made.measured(made.cell("msa"))])], tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "fig3-resolution.png").exists()
    assert "one resolution only" in (tmp_path / "out" / "figures" / "README.md").read_text()


def test_a_torn_last_line_is_told(tmp_path: Path, quick: None) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell("msa")), made.measured(made.cell("sra"))])
    file = folder / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    write([folder], tmp_path / "out")
    assert "the last line was torn" in (tmp_path / "out" / "index.html").read_text()


def test_a_damaged_record_ends_in_a_sentence(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell(n)) for n in ("msa", "sra", "xca")])
    lines = (folder / "records.jsonl").read_text().splitlines()
    (folder / "records.jsonl").write_text("\n".join([lines[0], "{torn", lines[2]]) + "\n")
    with pytest.raises(AttnbenchError, match="line 2"):
        write([folder], tmp_path / "out")


def test_a_damaged_plan_ends_in_a_sentence(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell())])
    facts = json.loads((folder / "run.json").read_text())
    facts["plan"]["cells"] = [{"scope": "layer"}]
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(AttnbenchError, match=r"run\.json is damaged"):
        write([folder], tmp_path / "out")


def test_the_same_run_named_twice_is_read_once(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell())])
    assert len(gather([folder, str(folder)]).points) == 1


def test_out_that_is_a_file_ends_in_a_sentence(tmp_path: Path) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell())])
    (tmp_path / "out").write_text("")
    with pytest.raises(AttnbenchError, match="cannot be written"):
        write([folder], tmp_path / "out")


def test_the_command_prints_the_page(tmp_path: Path, quick: None) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell("msa"))])
    done = CliRunner().invoke(command, [str(folder), "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "out" / "index.html")


@pytest.mark.parametrize(
    ("measured", "wanted", "same"),
    [
        ("hilo", "hilo", True),
        ("hilo[window_size=2]", "hilo", True),
        ("hilo[window_size=4]", "hilo", False),
        ("hilo[alpha=0.5]", "hilo[alpha=0.5]", True),
        ("litv2_s[attention=hilo,alpha=0.9]", "litv2_s", True),
        ("litv2_s[alpha=0.50]", "litv2_s[alpha=0.5]", True),
        ("litv2_s[attention=sra]", "litv2_s", False),
        ("window[shift_size=3]", "window", False),
        ("litv2_s", "litv2_s[alpha=0.9]", True),
    ],
)
def test_a_variant_is_found_however_it_is_spelled(measured: str, wanted: str, same: bool) -> None:
    assert same_variant(made.cell(measured), wanted) is same


def test_every_published_partner_is_a_variant_that_the_registry_knows() -> None:
    from attnbench import registry
    from attnbench.published.partners import TABLES
    from attnbench.registry.variant import parse_variant

    known = registry.load(entry_points=False)
    ours = [
        variant
        for name in ("layers", "swaps", "steps", "queries")
        for _, found in TABLES[name].values()
        for variant in found
    ]
    assert len(ours) == 14 + 5 + 4 + 2
    for variant in ours:
        known.check(parse_variant(variant))


def test_a_stored_spectrum_is_drawn_and_a_damaged_one_ends_in_a_sentence(tmp_path: Path, quick: None) -> None:
    folder = made.run(tmp_path / "run", [made.measured(made.cell())])
    (folder / "spectrum.json").write_text(json.dumps(made.SPECTRUM))
    write([folder], tmp_path / "out")
    assert "Hi-Fi" in (tmp_path / "out" / "figures" / "fig5-spectrum.svg").read_text()
    for change in (
        {"frequency": [0.0]}, {"frequency": {}}, {"frequency": [10**400] * 3}, {"frequency": [1e300] * 3},
        {"frequency": [], "amplitude": {"Hi-Fi": []}}, {"amplitude": {}}, {"amplitude": {"a": 1}},
        {"amplitude": {name: [1.0, 2.0, 3.0] for name in "abcdefghi"}}, {"maps": {"Hi-Fi": [[0.0], [1.0, 2.0]]}},
        {"maps": {"Hi-Fi": []}}, {"maps": {"Hi-Fi": [[]]}}, {"maps": [1]}, {"caption": 7},
    ):  # fmt: skip
        (folder / "spectrum.json").write_text(json.dumps({**made.SPECTRUM, **change}))
        with pytest.raises(AttnbenchError, match=r"spectrum\.json is damaged"):
            list(spectrum_figure.charts(gather([folder])))
    (folder / "spectrum.json").write_text("[" * 100_000)
    with pytest.raises(AttnbenchError, match="nested too deeply"):
        list(spectrum_figure.charts(gather([folder])))


def test_the_gallery_shows_figures_that_a_report_draws(report: Path) -> None:
    gallery = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()
    shown = set(re.findall(r"reports/figures/([\w-]+\.png)", gallery))
    assert len(shown) == 8
    assert {name for name in shown if not (report / "figures" / name).exists()} == set()
    linked = set(re.findall(r"\]\(([\w-]+\.(?:png|pdf|svg))\)", (report / "figures" / "README.md").read_text()))
    assert linked == {p.name for p in (report / "figures").iterdir()} - {"README.md"}


def test_a_published_row_has_a_line_for_each_machine_that_measured_it(tmp_path: Path) -> None:
    runs = [
        made.run(tmp_path / name, [made.measured(made.cell(n, device="cuda"), device_name=name) for n in layers])
        for name, layers in (("GPU A", ("msa", "hilo")), ("GPU B", ("hilo", "sra")))
    ]
    lines = next(table for table in papers.tables(gather(runs)) if table.name == "layer-benchmark").rows
    whose = [(row[0], row[1]) for row in lines if row[0] in ("MSA", "HiLo", "SRA", "VAN")]
    assert whose == [("MSA", "GPU A"), ("SRA", "GPU B"), ("VAN", "GPU A"), ("HiLo", "GPU A"), ("HiLo", "GPU B")]


def test_values_that_no_measurement_gives_and_texts_that_no_one_can_type_do_not_end_the_report(
    tmp_path: Path, quick: None
) -> None:
    records = [
        made.measured(made.cell("msa")),
        made.measured(made.cell("hilo"), throughput_img_per_s=0.0, macs=0, peak_memory_bytes=0),
        made.measured(made.cell("sra"), throughput_img_per_s=-1.0, ratio_to_reference=0.0, throughput_low=-2.0),
        made.measured(made.cell("hilo[<b>"), throughput_low=0.0),
        made.measured(made.cell("neu_é中[", res_h=16, res_w=1024), macs=10**18),
        made.measured(made.model("litv2_s", res_h=1, res_w=1)),
    ]
    write([made.run(tmp_path / "run", records)], tmp_path / "out")
    found = rows(tmp_path / "out", "measured-layer")
    assert sorted(row["outcome"] for row in found) == ["failed", "failed", "failed", "ok", "ok"]
    assert sum("its figures cannot be stored" in row["reason"] for row in found) == 3


@pytest.mark.parametrize("names", [3, 60])
def test_names_at_the_ends_of_lines_stay_beside_the_axes_and_apart(names):
    chart = Chart("many", "Many", size=(6, 3), room=0.3)
    (axes,) = chart.axes
    axes.set_ylim(0, 1)
    chart.end_labels(axes, [(f"m{i}", 1.0, 0.001 * i) for i in range(names)])
    chart.place()
    places = sorted(note.xyann[1] for note in axes.texts)
    assert places[0] >= -0.01
    assert places[-1] <= 1.06
    assert min(b - a for a, b in itertools.pairwise(places)) > min(0.5 / names, 0.03)
