"""The page in a browser: what its first screen answers, and what a reader does with it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import synthetic as made
from driven import choose, is_on_screen, log, ranking, taken_away, text, until, view, visit
from latex_compiler import assert_compiles

from attnbench.report import write
from attnbench.results.run_facts import RunFacts

HOSTILE = '<img src=x onerror="document.title=1">'
NAMES = ("msa", "hilo", "sra", "window", "focal", "dat", "van")
ATTENTION = ["hilo", "sra", "window", "msa", "dat", "focal"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("page")
    patched = pytest.MonkeyPatch()
    patched.setattr("attnbench.report.chart.KINDS", ("svg",))
    records = [made.measured(made.cell(HOSTILE)), made.failed(made.cell("xca", res_h=448, res_w=448))]
    models = [made.measured(made.model(f"litv2_{size}"), 1 / speed) for speed, size in enumerate("smb", 1)]
    write(
        [
            made.layers(base / "a", sizes=(224, 512, 1024), names=NAMES),
            made.run(base / "b", records, facts=RunFacts(environment=replace(made.HERE, host=HOSTILE))),
            made.run(base / "c", models),
        ],
        base / "out",
    )
    patched.undo()
    return base / "out" / "index.html"


@pytest.fixture
def shown(browser: Any, page: Path) -> Any:
    view(browser, 1280)
    visit(browser, page)
    return browser


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_first_screen_holds_the_chooser_the_ranking_and_the_front(
    browser: Any, page: Path, width: int, height: int, theme: str
) -> None:
    view(browser, width, height, theme)
    visit(browser, page, "#res=512x512&batch=64")
    for selector in ("#chooser summary", "#answer", "#ranked-chart", "#front-chart"):
        assert is_on_screen(browser, selector), selector
    assert browser.execute_script("return document.querySelectorAll('#front-chart .layer_2_marks path').length") == 6
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.documentElement.scrollHeight") < 6000
    ink, paper = browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    assert ("255" in paper) == (theme == "light")
    assert ink != paper
    assert log(browser) == []


def test_the_three_fastest_at_a_size_are_read_without_scrolling(browser: Any, page: Path) -> None:
    view(browser, 1280, 800)
    visit(browser, page)
    choose(browser, "res", "512x512")
    answer = text(browser, "answer")
    assert answer.startswith("Fastest at 512×512, batch 64, fp32, inference, on Invented CPU (attention only): 1 hilo ")
    assert [name for name in ATTENTION if name in answer.partition("only")[2].replace("× msa", "")] == ATTENTION[:3]
    assert is_on_screen(browser, "#answer")
    assert ranking(browser) == ATTENTION


def test_a_hostile_name_stays_text_and_the_console_stays_silent(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, f"#run=b&find={'%3Cimg'}&tab=machines")
    assert browser.title == "attnbench report"
    assert browser.execute_script("return [...document.images].every(i => i.src.startsWith('data:') || !i.src)")
    visit(browser, page, "#tab=cells")
    browser.execute_script("document.getElementById('cells-all').click()")
    cells = "return document.querySelector('[data-table=cells]').textContent"
    assert HOSTILE in browser.execute_script(cells)
    assert HOSTILE in text(browser, "panel-machines")
    assert log(browser) == []


@pytest.mark.parametrize(("now", "other"), [("light", "dark"), ("dark", "light")])
def test_the_theme_button_says_which_theme_a_press_gives(browser: Any, page: Path, now: str, other: str) -> None:
    view(browser, 1280, theme=now)
    visit(browser, page)
    assert text(browser, "theme") == f"{other} theme"
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script("return getComputedStyle(document.documentElement).colorScheme") == other
    assert text(browser, "theme") == f"{now} theme"


def test_hovering_over_a_row_marks_the_cell_in_both_charts_and_says_what_it_is(shown: Any) -> None:
    from selenium.webdriver import ActionChains

    rows = shown.find_elements("css selector", "#ranked-chart .layer_0_marks path")
    ActionChains(shown).move_to_element(rows[ranking(shown).index("sra")]).perform()
    until(shown, "return document.getElementById('said').textContent.startsWith('sra: ')")
    assert "× msa" in text(shown, "said")
    until(shown, "return document.querySelectorAll('#front-chart .layer_1_marks path').length === 1")
    assert "MiB" in until(shown, "const t = document.getElementById('tip'); return !t.hidden && t.textContent")


def test_a_click_chooses_and_the_choice_stands_in_the_address(shown: Any) -> None:
    rows = shown.find_elements("css selector", "#ranked-chart .layer_0_marks path")
    from selenium.webdriver import ActionChains

    ActionChains(shown).move_to_element(rows[ranking(shown).index("hilo")]).click().perform()
    until(shown, "return location.hash.includes('pick=hilo')")
    assert text(shown, "chips") == "hilo ×"
    colors = until(
        shown,
        "return [...document.querySelectorAll('#ranked-chart .layer_3_marks path')].map(p => p.getAttribute('fill'))",
    )
    assert colors.count("var(--c0)") == 1
    assert colors.count("var(--ink)") == 1
    assert set(colors) == {"var(--c0)", "var(--ink)", "var(--grey)"}


def test_a_shared_address_shows_the_same(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page)
    choose(browser, "res", "512x512")
    choose(browser, "kind", "all")
    browser.execute_script("document.getElementById('tab-claims').click()")
    until(browser, "return location.hash.includes('tab=claims')")
    address, answer = browser.execute_script("return location.hash"), text(browser, "answer")
    visit(browser, page, address)
    assert text(browser, "answer") == answer
    assert "van" in ranking(browser)
    assert browser.execute_script("return document.getElementById('panel-claims').classList.contains('open')")
    browser.execute_script("location.hash = 'res=224x224'")
    until(browser, "return document.getElementById('answer').textContent.includes('224×224')")


def test_a_size_that_was_not_measured_shows_the_nearest_and_the_command_that_measures_it(
    browser: Any, page: Path
) -> None:
    view(browser, 1280)
    visit(browser, page, "#res=640x480&batch=64&pick=hilo")
    note = text(browser, "unmeasured")
    assert "Not measured here: resolution 640×480." in note
    assert "Shown is the nearest: 512×512, batch 64" in note
    assert note.endswith("attnbench run --mechanism msa,hilo --res 640x480 --batch 64 --device cpu")
    choose(browser, "res", "1024x1024")
    assert browser.execute_script("return document.getElementById('unmeasured').hidden")


def test_kinds_names_and_memory_narrow_what_is_shown(shown: Any) -> None:
    assert ranking(shown) == ATTENTION
    choose(shown, "kind", "gate")
    until(shown, "return document.querySelectorAll('#ranked-chart .layer_0_marks path').length", wanted=2)
    assert set(ranking(shown)) == {"van", "msa"}, "the reference stays"
    choose(shown, "kind", "all")
    choose(shown, "find", "hilo, win")
    until(shown, "return document.querySelectorAll('#ranked-chart .layer_0_marks path').length", wanted=3)
    assert ranking(shown) == ["hilo", "window", "msa"]
    choose(shown, "memory", "1")
    assert "nothing that was timed fits" in text(shown, "answer")


def test_a_failed_cell_has_a_row_that_says_why(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, "#res=1024x1024&batch=64&tab=cells")
    words = browser.execute_script(
        "return [...document.querySelectorAll('#ranked-chart .layer_7_marks text')].map(t => t.textContent)"
    )
    assert "oom" in words
    assert "the trial needs 12.0 GiB" in text(browser, "panel-cells")


def test_the_backbones_front_is_of_published_accuracy(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page)
    choose(browser, "scope", "backbone")
    until(browser, "return document.getElementById('front-title').textContent", wanted="Accuracy and latency")
    assert "82.0 % top-1 as published" in text(browser, "said")


def column(browser: Any, table: str, title: str) -> list[str]:
    script = (
        "const t = document.querySelector(`[data-table=${arguments[0]}]`);"
        "const row = [...t.tHead.rows].find(r => r.querySelector('button'));"
        "const i = [...row.cells].findIndex(h => h.textContent.startsWith(arguments[1]));"
        "return [...t.tBodies[0].rows].map(r => r.cells[i].textContent)"
    )
    return list(browser.execute_script(script, table, title))


def press(browser: Any, table: str, title: str) -> None:
    browser.execute_script(
        "[...document.querySelectorAll(`[data-table=${arguments[0]}] thead button`)]"
        ".find(b => b.textContent.startsWith(arguments[1])).click()",
        table,
        title,
    )


def test_pressing_a_heading_sorts_by_the_number_and_back(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, "#tab=cells")
    for sign in (-1, 1):
        press(browser, "cells", "throughput")
        values = [sign * float(v.split(" ")[0]) for v in column(browser, "cells", "throughput") if v]
        assert len(values) == 6
        assert values == sorted(values)
    assert (
        browser.execute_script("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "ascending"
    )


def test_a_column_is_filtered_by_words_and_by_numbers(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, "#tab=cells")
    for title, typed, left in (("variant", "hilo", ["hilo"]), ("speed ratio", ">1.25", ["hilo", "sra"])):
        field = browser.find_element("css selector", f"[data-table=cells] [aria-label^='Filter {title}']")
        field.send_keys(typed)
        assert column(browser, "cells", "variant") == left
        field.clear()
        browser.execute_script("arguments[0].dispatchEvent(new Event('input'))", field)
    assert "6 of 6 rows" in browser.execute_script("return document.querySelector('[data-count=cells]').textContent")


def test_the_keyboard_alone_chooses_sorts_and_opens_tabs(browser: Any, page: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    view(browser, 1280)
    visit(browser, page)

    def to(selector: str) -> None:
        for _ in range(80):
            ActionChains(browser).send_keys(Keys.TAB).perform()
            if browser.execute_script("return document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"{selector} is not reached by the Tab key")

    to("#choose-res select")
    ActionChains(browser).send_keys("5").perform()
    until(browser, "return document.getElementById('answer').textContent.includes('512×512')")
    to("#add")
    ActionChains(browser).send_keys("sra", Keys.ENTER).perform()
    until(browser, "return location.hash.includes('pick=sra')")
    to("[role=tab]")
    ActionChains(browser).send_keys(Keys.END, Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
    until(browser, "return document.getElementById('panel-cells').classList.contains('open')")
    to("[data-table=cells] thead button")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert column(browser, "cells", "variant") == sorted(ATTENTION)
    to("[data-table=cells] .pick")
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    until(browser, "return location.hash.includes('pick=dat')")
    assert log(browser) == []


def test_what_is_shown_is_taken_away_as_csv_latex_svg_command_and_link(shown: Any) -> None:
    csv, latex, svg = taken_away(shown, "csv", "latex", "svg")
    assert csv.splitlines()[1].startswith("hilo,attention,global,layer,Invented CPU,cpu,224x224,64,fp32,forward")
    assert latex.count(r"\\") == 1 + len(ATTENTION)
    assert r"\bfseries " in latex
    assert re.search(r"\\begin\{tabular\}\{l(S\[table-format=\d+\.\d+\]){4,6}\}", latex)
    assert r"\toprule" in latex
    assert svg.count("<svg") == 3
    assert "var(" not in svg
    for name in ATTENTION:
        assert svg.count(f">{name}") >= 2, f"{name} has no name in one of the figures"
    shown.execute_script("document.querySelector('[data-action=command]').click()")
    until(shown, "return document.getElementById('copied').textContent.includes('attnbench run --mechanism')")
    shown.execute_script("document.querySelector('[data-action=link]').click()")
    until(shown, "return document.getElementById('copied').textContent.includes('file://')")
    assert log(shown) == []


def test_the_table_that_is_taken_away_fits_a_two_column_paper(shown: Any, tmp_path: Path) -> None:
    assert_compiles(taken_away(shown, "latex")[0], tmp_path)


def test_a_hostile_name_is_text_in_what_is_taken_away(shown: Any) -> None:
    runs = shown.execute_script("return [...document.querySelectorAll('#choose-run option')].map(o => o.value)")
    current = shown.execute_script("return document.querySelector('#choose-run select').value")
    (other,) = (run for run in runs if run != current)
    choose(shown, "run", other)
    csv, latex, svg = taken_away(shown, "csv", "latex", "svg")
    assert '"<img src=x onerror=""document.title=1"">",attention' in csv
    assert r"\textless{}img src=x" in latex
    assert "<img" not in latex
    assert "&lt;img src=x" in svg
    assert "<img" not in svg
    command = "document.querySelector('[data-action=command]').click()"
    shown.execute_script(command)
    copied = until(shown, "return document.getElementById('copied').textContent")
    assert f"--mechanism '{HOSTILE}' " in copied or f"--mechanism 'msa,{HOSTILE}' " in copied


def test_lines_over_resolution_carry_the_chosen_names(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, "#tab=resolution&pick=focal")
    names = "return [...document.querySelectorAll('#resolution-chart .layer_6_marks text')].map(t => t.textContent)"
    assert {"focal", "msa", "hilo"} <= set(until(browser, names))


def test_keyboard_and_screen_reader_find_their_way(browser: Any, page: Path) -> None:
    view(browser, 1280)
    visit(browser, page, "#tab=claims")
    named = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => !(e.getAttribute('aria-label') || "
        "e.getAttribute('aria-labelledby'))).length"
    )
    assert (
        browser.execute_script(
            named, "[role=region], [role=tabpanel], [role=tablist], [role=group], figure, form[aria-label]"
        )
        == 0
    )
    assert browser.execute_script(
        "return [...document.querySelectorAll('input, select')]"
        ".every(e => e.closest('label') || e.getAttribute('aria-label'))"
    )
    assert browser.execute_script("return [...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)")
    assert browser.execute_script(
        "return [...document.querySelectorAll('thead th')].every(e => e.colSpan > 1 || e.scope || !e.textContent)"
    )
    assert browser.execute_script("return document.documentElement.lang") == "en"
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("width", [1280, 390])
def test_no_tab_is_wider_than_the_window(browser: Any, page: Path, width: int) -> None:
    view(browser, width)
    visit(browser, page)
    tabs = browser.execute_script("return [...document.querySelectorAll('[role=tab]')].map(t => t.dataset.tab)")
    assert tabs == [
        "resolution", "kernels", "survival", "accuracy", "papers", "claims", "differences", "cells", "machines",
        "reading",
    ]  # fmt: skip
    for tab in tabs:
        browser.execute_script("document.getElementById(`tab-${arguments[0]}`).click()", tab)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, tab
    assert log(browser) == []


def test_the_printed_page_shows_every_section_and_leaves_the_controls_out(shown: Any) -> None:
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown.execute_script("dispatchEvent(new Event('beforeprint'))")
    try:
        display = "return getComputedStyle(document.querySelector(arguments[0])).display"
        assert shown.execute_script(display, "[role=tablist]") == "none"
        for tab in ("claims", "cells", "reading"):
            assert shown.execute_script(display, f"#panel-{tab}") == "block"
        assert shown.execute_script("return document.querySelectorAll('[data-table=claims] tbody tr').length") > 10
    finally:
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_page_of_an_empty_run_says_so_and_its_controls_do_nothing(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnbench.report.chart.KINDS", ("svg",))
    write([made.run(tmp_path / "run", [])], tmp_path / "out")
    view(browser, 1280)
    browser.get((tmp_path / "out" / "index.html").as_uri())
    assert until(browser, "return document.getElementById('answer').textContent") == "These runs hold no cell."
    for element in browser.execute_script("return [...document.querySelectorAll('[role=tab], [data-action]')]"):
        browser.execute_script("arguments[0].click()", element)
    assert log(browser) == []
