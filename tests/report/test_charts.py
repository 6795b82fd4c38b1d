"""The compiled charts are what Altair and vl-convert make, to the byte, and hold no data."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.report.page import asset
from attnbench.report.style import MARKERS

ROOT = Path(__file__).parents[2]


def test_the_compiled_charts_are_what_their_source_makes() -> None:
    versions = json.loads(asset("versions.json"))
    for package, name in (("altair", "altair"), ("vl-convert-python", "vl-convert")):
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install '.[charts]'): the charts were not compiled again")
        if not installed.startswith(versions[name]):
            pytest.skip(f"{package} {installed} is installed; the charts were compiled with {versions[name]}")
    done = subprocess.run([sys.executable, ROOT / "tools" / "charts.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_report_needs_the_packages_that_compile_the_charts() -> None:
    code = "import sys; sys.modules['altair'] = sys.modules['vl_convert'] = None; import attnbench.report.write"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_bundle_cannot_end_its_script_element() -> None:
    bundle = asset("vega.js")
    assert "</script" not in bundle.lower()
    assert "<!--" not in bundle


def test_the_page_and_the_figures_use_the_same_kinds() -> None:
    charts = json.loads(asset("charts.json"))
    (shapes,) = (scale for scale in charts["ranked"]["scales"] if scale["name"] == "shape")
    assert set(MARKERS) == set(shapes["domain"]) - {"attention"}


def test_every_licence_of_the_bundle_is_kept() -> None:
    licences = asset("LICENSES.txt")
    for package in ("vega-embed", "vega-interpreter", "vega-lite", "d3-array", "semver", "fast-json-patch"):
        assert package in licences
    assert licences.count("Copyright") >= 20
