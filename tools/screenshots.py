"""Photograph the page of a report in Chromium, for docs/images/.

    python tools/screenshots.py reports/index.html

`make report` writes that page. Look at every image before it is committed: nothing compares them.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests" / "report"))

from driven import open_browser, taken_away, view, visit  # noqa: E402  the steps of the page's tests

INTEL = quote("Intel(R) Xeon(R) Processor (2 cores) (intel6m167-2c-c09f)")


class Shot(NamedTuple):
    """A file, the window in pixels, the theme, and what is chosen: the page's address behind `#`."""

    name: str
    width: int
    height: int
    theme: str
    address: str = ""


LAYERS = f"#machine={INTEL}&res=512x512&batch=1&pick=hilo"
SHOTS = (
    Shot("page-1280-light", 1280, 900, "light", LAYERS),
    Shot("page-1280-dark", 1280, 900, "dark", LAYERS),
    Shot("page-390-light", 390, 844, "light", LAYERS),
    Shot("page-390-dark", 390, 844, "dark", LAYERS),
    Shot("page-backbones-dark", 1280, 940, "dark", "#scope=backbone&pick=litv2_s"),
    Shot(
        "page-unmeasured-light", 1280, 1500, "light", f"#machine={INTEL}&res=640x640&batch=4&pick=hilo&tab=resolution"
    ),
)


def main(page: Path) -> None:
    """Write every image; says its name."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        sys.exit("the page is photographed by chromium and chromedriver; one of them is not installed; install both")
    with tempfile.TemporaryDirectory() as profile, open_browser(chromium, driver, Path(profile)) as browser:
        for shot in SHOTS:
            view(browser, shot.width, shot.height, shot.theme)
            visit(browser, page.resolve(), shot.address)
            save(browser, shot.name)
        save_export(browser, page.resolve(), Path(profile) / "export.svg")


def save_export(browser: Any, page: Path, drawn: Path) -> None:
    """What the button SVG gives, kept in `drawn`, as an image."""
    view(browser, 1280)
    visit(browser, page, f"{LAYERS}&pick=sra")
    (svg,) = taken_away(browser, "svg")
    drawn.write_text(svg, encoding="utf-8")
    width, height = re.findall(r' (?:width|height)="([\d.]+)"', svg)[:2]
    view(browser, round(float(width)), round(float(height)))
    browser.get(drawn.as_uri())
    save(browser, "page-export")


def save(browser: Any, name: str) -> None:
    """What the window shows, as an image of this name; 256 colours take a third of the bytes and look the same."""
    path = IMAGES / f"{name}.png"
    shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
