"""A headless browser for the tests of the page, started once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from driven import open_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed: the page was not tried in a browser")
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed: no browser test")
    with open_browser(chromium, driver, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
