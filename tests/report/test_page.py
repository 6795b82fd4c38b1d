from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import synthetic as made

from attnbench.report import write
from attnbench.results.run_facts import RunFacts

HOSTILE = '<img src=x onerror="document.title=1">'
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("page")
    names = ("msa", "hilo", "sra", "window", "focal", "dat")
    records = [made.measured(made.cell(HOSTILE)), made.failed(made.cell("xca", res_h=448, res_w=448))]
    write(
        [
            made.layers(base / "a", sizes=(224, 512, 1024), names=names),
            made.run(base / "b", records, facts=RunFacts(environment=replace(made.HERE, host=HOSTILE))),
        ],
        base / "out",
    )
    return base / "out" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed: the page was not tried in a browser")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: no browser test")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with_service = webdriver.ChromeService(driver, log_output=os.devnull)
    opened = webdriver.Chrome(options=options, service=with_service)
    yield opened
    opened.quit()


@pytest.fixture
def shown(browser: Any, page: Path) -> Any:
    view(browser, 1280)
    browser.get(page.as_uri())
    return browser


def view(browser: Any, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )


def column(browser: Any, table: str, place: int) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelector(`[data-table=${arguments[0]}]`).tBodies[0].rows].filter(r => !r.hidden)"
        ".map(r => r.cells[arguments[1]].dataset.key)",
        table,
        place,
    )
    return found


def heading(browser: Any, table: str, text: str) -> int:
    found: int = browser.execute_script(
        "return [...document.querySelectorAll(`[data-table=${arguments[0]}] thead tr:last-child th`)]"
        ".findIndex(h => h.textContent.startsWith(arguments[1]))",
        table,
        text,
    )
    return found


def press(browser: Any, table: str, place: int) -> None:
    browser.execute_script(
        "document.querySelectorAll(`[data-table=${arguments[0]}] thead tr:last-child th button`)[arguments[1]].click()",
        table,
        place,
    )


def test_it_loads_without_a_console_error_and_a_hostile_name_stays_text(shown: Any) -> None:
    assert [e for e in shown.get_log("browser") if e["level"] != "INFO"] == []
    assert shown.title == "attnbench report"
    assert shown.execute_script("return document.images.length") == 0
    assert HOSTILE in shown.execute_script("return document.querySelector('[data-table=measured-layer]').textContent")
    assert HOSTILE in shown.execute_script("return document.getElementById('runs').textContent")


def test_pressing_a_heading_sorts_by_the_number_and_back(shown: Any) -> None:
    place = heading(shown, "measured-layer", "throughput")
    for up in (True, False):
        press(shown, "measured-layer", place)
        values = [float(v) for v in column(shown, "measured-layer", place) if v]
        assert len(values) == 17
        assert values == sorted(values, reverse=not up)
        sort = "return document.querySelector('[data-table=measured-layer] [aria-sort]').getAttribute('aria-sort')"
        assert shown.execute_script(sort) == ("ascending" if up else "descending")


def test_a_filter_keeps_the_rows_with_all_its_words(shown: Any) -> None:
    field = shown.find_element("css selector", "[data-filter=measured-layer]")
    field.send_keys("hilo 512x512")
    assert column(shown, "measured-layer", 0) == ["hilo"]
    assert (
        shown.execute_script("return document.querySelector('[data-count=measured-layer]').textContent")
        == "1 of 20 rows"
    )
    shown.execute_script(
        "const s = document.querySelector('select[data-outcome=measured-layer]'); s.value = 'oom'; "
        "s.dispatchEvent(new Event('change'))"
    )
    assert column(shown, "measured-layer", 0) == []


def test_a_mechanism_can_be_switched_off_everywhere(shown: Any) -> None:
    count = (
        "return [...document.querySelectorAll('g.mark')].filter(g => g.dataset.mechanism === 'hilo' && "
        "getComputedStyle(g).display !== 'none').length"
    )
    assert shown.execute_script(count) > 10
    shown.execute_script("document.querySelector('#switches input[value=hilo]').click()")
    assert shown.execute_script(count) == 0
    assert "hilo" not in column(shown, "measured-layer", 0)
    shown.execute_script("document.getElementById('all').click()")
    assert "hilo" in column(shown, "measured-layer", 0)


def test_a_point_tells_its_cell_on_hover(shown: Any) -> None:
    from selenium.webdriver import ActionChains

    mark = "g.mark[data-mechanism=hilo][data-tip*='img/s'] use"
    point = shown.find_element("css selector", mark)
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(shown).move_to_element(point).perform()
    tip = shown.find_element("id", "tip")
    assert tip.is_displayed()
    assert "hilo; 224x224 batch 64 cpu fp32 forward eager; Invented CPU" in tip.text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(shown: Any, width: int, theme: str) -> None:
    view(shown, width)
    shown.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width
    ink, paper = shown.execute_script("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    assert ink != paper


def test_keyboard_and_screen_reader_find_their_way(shown: Any) -> None:
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => !(e.getAttribute('aria-label') || "
        "e.getAttribute('aria-labelledby'))).length"
    )
    assert shown.execute_script(script, "svg[role=img], [role=region], section, nav") == 0
    assert shown.execute_script("return [...document.querySelectorAll('input, select')].every(e => e.closest('label'))")
    assert shown.execute_script("return [...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)")
    assert shown.execute_script(
        "return [...document.querySelectorAll('thead th')].every(e => e.colSpan > 1 || e.scope || !e.textContent)"
    )
    assert shown.execute_script("return document.documentElement.lang") == "en"
    levels = shown.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_printed_page_shows_all_and_leaves_the_controls_out(shown: Any) -> None:
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert shown.execute_script("return getComputedStyle(document.querySelector('.bar')).display") == "none"
    finally:
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
