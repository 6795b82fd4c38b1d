"""A table as LaTeX sees it in a two-column paper."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def assert_compiles(table: str, folder: Path) -> None:
    """pdflatex takes the table and it fits a page; skipped with the reason where it is not installed."""
    siunitx = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True) if shutil.which("kpsewhich") else None
    if not shutil.which("pdflatex") or siunitx is None or siunitx.returncode:
        pytest.skip("pdflatex or siunitx is not installed: the table was not compiled")
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{siunitx}"
    (folder / "paper.tex").write_text(
        rf"\documentclass[twocolumn]{{article}}{packages}\begin{{document}}{table}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, timeout=100)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-1500:]
    assert "Overfull" not in log
    assert "Float too large" not in log
