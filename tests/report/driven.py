"""Steps of a driven test of the page: open, wait, read what is shown."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
SHOWN = (
    "const box = arguments[0].getBoundingClientRect();"
    "const inside = box.top >= 0 && box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1;"
    "return inside && box.width > 0 && box.height > 0"
)


@contextlib.contextmanager
def open_browser(chromium: str, driver: str, profile: Path) -> Iterator[Any]:
    """A headless browser with a profile of its own; the paths are those of the programs."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver, log_output=os.devnull))
    try:
        yield opened
    finally:
        opened.quit()


def until(browser: Any, script: str, *arguments: Any, wanted: Any = None, seconds: float = 20) -> Any:
    """What a script returns, as soon as it is true (or `wanted`); fails after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = browser.execute_script(script, *arguments)
        if found == wanted if wanted is not None else found:
            return found
        assert time.monotonic() < end, f"{script}: {found!r}"
        time.sleep(0.05)


def view(browser: Any, width: int, height: int = 1000, theme: str = "light") -> None:
    """The size of the window and the theme that the system asks for."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


def visit(browser: Any, page: Path, address: str = "") -> None:
    """Open the page afresh, with what stands behind `#`, and wait for its first answer."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(page.as_uri() + address)
    until(browser, "return document.documentElement.dataset.ready")


def text(browser: Any, id_: str) -> str:
    """The text of an element."""
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", id_))


def is_on_screen(browser: Any, selector: str) -> bool:
    """Whether the whole element is inside of the window, unscrolled."""
    return bool(browser.execute_script(SHOWN, browser.find_element("css selector", selector)))


def ranking(browser: Any) -> list[str]:
    """The names in the ranked chart, from the top."""
    script = (
        "return [...document.querySelectorAll('#ranked-chart .mark-rect.layer_0_marks path')]"
        ".map(p => p.__data__.datum.variant)"
    )
    return list(browser.execute_script(script))


def choose(browser: Any, axis: str, value: str) -> None:
    """Set a control and wait until the page has followed."""
    before = text(browser, "answer")
    browser.execute_script(
        "const c = document.querySelector(`#choose-${arguments[0]} select, #choose-${arguments[0]} input`);"
        "c.value = arguments[1]; c.dispatchEvent(new Event(c.tagName === 'INPUT' ? 'input' : 'change'))",
        axis,
        value,
    )
    until(browser, "return document.getElementById('answer').textContent !== arguments[0]", before)


def taken_away(browser: Any, *names: str) -> list[str]:
    """What the buttons of these names (csv, latex, svg) save; afterwards no link of this page saves anything."""
    browser.execute_script(
        "window.saved = []; const old = URL.createObjectURL; "
        "URL.createObjectURL = (blob) => { blob.text().then(t => saved.push(t)); return old(blob); };"
        "HTMLAnchorElement.prototype.click = () => {};"
    )
    for count, name in enumerate(names, 1):
        browser.execute_script("document.querySelector(`[data-action=${arguments[0]}]`).click()", name)
        until(browser, "return saved.length", wanted=count)
    return list(browser.execute_script("return saved"))


def log(browser: Any) -> list[str]:
    """Every message of the console since the page was opened."""
    return [str(entry["message"]) for entry in browser.get_log("browser")]
