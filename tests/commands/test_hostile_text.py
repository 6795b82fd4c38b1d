"""Hostile text in a run folder, in its name and in a plugin is text on every terminal, page, table and sheet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from support.damage import RECORDS, RUN, SAMPLES, small_run
from support.readers import ACTIVE, COMMANDS, call

import attnbench
from attnbench import inert
from attnbench.execution.progress import Bar
from attnbench.planning.cell import Cell
from attnbench.planning.protocol import PROTOCOLS
from attnbench.planning.remaining import Remaining
from attnbench.results.lines import parse

HOSTILE = (
    "=x\x1b[31m\x9b2J\u202eevil\ud800\x00\ufffe\"'</td><img src=x onerror=1>[a](javascript:b)|`c`\\input{d};=e\r\nf"
)
ASSETS = Path(attnbench.__file__).parent / "report" / "assets"
SEEN = "evil"  # a part that every medium shows


def hostile_run(folder: Path) -> Path:
    """A healthy run in which one variant's name and every free text are hostile."""
    small_run(folder)
    facts = json.loads((folder / RUN).read_text())
    facts.update(command=HOSTILE, created=HOSTILE, attnbench=HOSTILE)
    facts["plan"]["notes"] = [HOSTILE]
    facts["environment"].update(
        machine_label=HOSTILE, host=HOSTILE, devices={"cpu": HOSTILE}, variables={"OMP_X": HOSTILE}
    )
    facts["environment"]["cpu"]["model"] = HOSTILE
    renamed = {}
    for cell in facts["plan"]["cells"]:
        before = Cell.from_dict(parse(json.dumps(cell).encode())).id
        cell["variant"] = HOSTILE if cell["variant"] == "window" else cell["variant"]
        renamed[before] = Cell.from_dict(parse(json.dumps(cell).encode())).id
    (folder / RUN).write_text(json.dumps(facts))
    records = [json.loads(line) for line in (folder / RECORDS).read_text().splitlines()]
    for record in records:
        record["words"] |= dict.fromkeys(
            ("device_name", "kernel_ran", "stopped", "count_notes", "top_operators"), HOSTILE
        )
        if record["cell"]["variant"] == "window":
            record["cell"]["variant"] = HOSTILE
        if record["cell"]["variant"] == "hilo":
            record |= {"outcome": "failed", "reason": HOSTILE, "values": {}, "flags": [HOSTILE]}
    (folder / RECORDS).write_text("".join(json.dumps(r) + "\n" for r in records))
    samples = (folder / SAMPLES).read_text()
    for before, after in renamed.items():
        samples = samples.replace(before, after)
    (folder / SAMPLES).write_text(samples)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = os.fsdecode(b"run \xff\x1b[31m\x9b<img src=y>")
    return hostile_run(tmp_path_factory.mktemp("hostile") / name)


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "report"])
def test_no_reading_command_writes_what_a_terminal_obeys(name, run, tmp_path):
    answer = call(COMMANDS[name](run, tmp_path))
    assert answer.code == 0, answer.err
    assert not ACTIVE.search(answer.out + answer.err)
    if name in ("show", "export", "compare", "compare arms"):
        assert SEEN in answer.out


@pytest.mark.parametrize("form", ["md", "csv", "tex", "json"])
def test_no_form_of_the_claims_is_obeyed(form, run):
    answer = call(["claims", "--format", form, str(run)])
    assert answer.code == 0
    assert not ACTIVE.search(answer.out + answer.err)


def test_an_error_names_a_folder_without_obeying_its_name(run, tmp_path):
    (gone,) = [tmp_path / os.fsdecode(b"\x1b[31m\xff\n")]
    for words in (["show", str(run / "no.json")], ["export", str(gone)], ["list", "\x1b[2J"], ["show", "--\x1b[2J"]):
        answer = call(words)
        assert answer.code == 2
        assert not ACTIVE.search(answer.out + answer.err), words


def assert_no_formula(text: str) -> None:
    for row in csv.reader(io.StringIO(text)):
        for field in (part for whole in row for part in (whole, *whole.split(";"))):
            bare = field.lstrip()
            assert not re.match(r"[=@]|[+-](?![\d.])", bare), field


def test_the_export_holds_no_formula(run):
    text = call(["export", str(run)]).out
    assert "'=x" in text
    assert_no_formula(text)


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def report(run, tmp_path_factory) -> Path:
    from attnbench.report import chart  # a name: `attnbench.report` may be the function of that name

    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chart, "KINDS", ("svg",))
        answer = call(COMMANDS["report"](run, out))
    assert answer.code == 0, answer.err
    assert not ACTIVE.search(answer.out + answer.err)
    return out


def test_every_file_of_a_report_holds_printable_text(report):
    files = [path for path in report.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".md", ".csv", ".tex", ".svg", ".sha256"}
    ours = {
        path.read_text().strip() for path in ASSETS.glob("*.js")
    }  # the charts' library holds some in its own patterns

    def written(path: Path) -> str:
        text = path.read_bytes().decode()
        for script in ours:
            text = text.replace(script, "")
        return text

    assert [path for path in files if ACTIVE.search(written(path))] == []
    assert SEEN in (report / "index.html").read_text()


def test_the_page_has_no_element_and_no_handler_of_the_hostile_text(report):
    page = Elements()
    page.feed((report / "index.html").read_text())
    assert not [tag for tag, _ in page.found if tag in ("iframe", "object")]
    assert [tag for tag, attributes in page.found if "type" not in attributes].count("script") == 2  # no data
    assert all("data-of" in attributes for tag, attributes in page.found if tag == "img")  # the report's own figures
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert not [a for _, a in page.found if "javascript:" in (a.get("href") or a.get("src") or "")]


def test_the_figures_of_a_report_are_well_formed_and_draw_nothing_but_text(report):
    for path in (report / "figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not tags & {"img", "script", "a", "foreignObject"}, path
    assert any(SEEN in path.read_text() for path in (report / "figures").glob("*.svg"))


def test_the_tables_of_a_report_hold_no_formula_no_link_and_no_command(report):
    for path in (report / "tables").glob("*.csv"):
        assert_no_formula(path.read_text())
    markdown = (report / "tables" / "measured-layer.md").read_text()
    assert SEEN in markdown
    assert "[a](" not in markdown
    assert "<img" not in markdown
    assert r"\input" not in (report / "tables" / "measured-layer.tex").read_text()


def test_the_progress_of_a_run_is_not_obeyed():
    console = Console(file=io.StringIO(), width=200, color_system=None)
    bar = Bar(Remaining({}, PROTOCOLS["quick"], ()), console)
    bar.stage(HOSTILE)
    bar.say(HOSTILE)
    text = console.file.getvalue()
    assert text.count(SEEN) == 2
    assert not ACTIVE.search(text)


PLUGIN = """
import torch
from attnbench import mechanism

@mechanism(name="odd", title={0!a}, declines=lambda size: {1!a})
class Odd(torch.nn.Module):
    {1!a}
    def __init__(self, dim, heads): super().__init__()
"""


@pytest.mark.parametrize(("title", "line"), [(HOSTILE, ["list"]), ("odd", ["plan", "--mechanism", "msa,odd"])])
def test_hostile_words_of_a_plugin_are_refused_or_shown_as_text(title, line, tmp_path, monkeypatch):
    file = tmp_path / "odd.py"
    file.write_text(PLUGIN.format(*(words.replace("\ud800", "") for words in (title, HOSTILE))))
    monkeypatch.setenv("COLUMNS", "500")
    answer = call([*line, "--plugin", str(file)])
    assert answer.code == 0, answer.err
    assert SEEN in answer.out + answer.err
    assert ("must be printable" in answer.err) == (title is HOSTILE)
    assert not ACTIVE.search(answer.out + answer.err)


def test_the_escapes_of_this_file_are_what_it_tests():
    assert ACTIVE.search(HOSTILE)
    assert not ACTIVE.search(inert.plain(HOSTILE))
