"""The texts of a figure's PDF, with their sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pypdf import PdfReader


def texts(pdf: Path) -> list[tuple[str, float]]:
    """The texts of a figure with their sizes in points."""
    found: list[tuple[str, float]] = []

    def visit(text: str, _matrix: Any, _at: Any, _font: Any, size: float) -> None:
        if text.strip():
            found.append((text.strip(), size))

    (page,) = PdfReader(pdf).pages
    page.extract_text(visitor_text=visit)
    return found


def flat(text: str) -> str:
    return re.sub(r"\s", "", text)
