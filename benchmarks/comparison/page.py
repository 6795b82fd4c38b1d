"""The sections of docs/speed.md, each between its markers."""

from __future__ import annotations

from pathlib import Path

from attnbench.errors import AttnbenchError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "speed.md"


def put(mark: str, content: str, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- MARK:begin -->` and `<!-- MARK:end -->`.

    Raises:
        AttnbenchError: the page lacks the markers.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, first, rest = page.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last):
        raise AttnbenchError(f"the page needs the lines {begin} and {end}; {page.name} lacks them; put them back")
    page.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")
