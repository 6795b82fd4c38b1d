r"""How wide a text is in LaTeX's own font, where it may break, and which columns fit beside each other.

All widths are points at `\footnotesize` of a paper set in 10 points. Computer Modern is the widest font in use: what
fits in it fits in Times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attnbench import inert

TEXT_WIDTH = 465.0  # the text of `article` is 6.5 in (469 pt) wide; the conferences' have 6.9 to 7.2 in
GAP = 6.0  # between two columns, with \tabcolsep at 3pt
SIZE = 8.0  # \footnotesize
ELASTIC = 95.0  # a text column wider than this may be set in lines, and is at least so wide
LONGEST_WORD = 16  # letters, after which a word may break anywhere

# In parts of the font's size, rounded up; measured in Computer Modern at 8 points.
_NARROW, _WIDE, _SPACE, _DIGIT, _CAPITAL = 0.42, 0.89, 0.36, 0.54, 0.82
_BREAKS = re.compile(r"(?<=[_/=,;:+)\]-])(?=\S)")


def width(text: str) -> float:
    """Points of a text in one line."""
    return SIZE * sum(_letter(c) for c in text)


def _letter(c: str) -> float:
    if c == " ":
        return _SPACE
    if c in "iljtfrs.,:;'|()[]!-/":
        return _NARROW
    if c in "mwMW%@=+<>±×≤≥~—#&":
        return _WIDE + (0.15 if c in "MW" else 0)
    if ord(c) > 126 and inert.latex(c).startswith("U+"):
        return len(inert.latex(c)) * 0.65
    return _CAPITAL if c.isupper() else 0.6 if c in "bdhknpquvxy" else _DIGIT


def pieces(text: str) -> Iterator[str]:
    """The parts of a text between which a line may break: words, and those of a long word."""
    for word in text.split():
        for piece in _BREAKS.split(word):
            yield from (piece[i : i + LONGEST_WORD] for i in range(0, len(piece), LONGEST_WORD))


def breakable(text: str) -> str:
    r"""A text for LaTeX with `\allowbreak` where a word may break."""
    return " ".join(r"\allowbreak{}".join(map(inert.latex, pieces(word))) for word in inert.plain(text).split())


def longest_piece(text: str) -> float:
    """Points of the widest part that no line break divides."""
    return max(map(width, pieces(text)), default=0.0)


def lines(text: str, room: float) -> list[str]:
    """A text in lines of at most so many points, one piece a line at least."""
    found: list[str] = []
    for word in text.split():
        for place, piece in enumerate(pieces(word)):
            joined = f"{found[-1]}{' ' if place == 0 else ''}{piece}" if found else piece
            if found and width(joined) <= room:
                found[-1] = joined
            else:
                found.append(piece)
    return found


@dataclass(frozen=True)
class Extent:
    """The least and the natural width of a column, and the group that is not torn apart."""

    least: float
    natural: float
    group: str = ""


def panels(extents: Sequence[Extent]) -> list[list[int]]:
    """The columns of each tabular, the first column before all of them; as few tabulars as fit, evenly filled."""
    rest = _together(extents)
    limit = max([TEXT_WIDTH - extents[0].least, *(_least(extents, run) for run in rest)]) if rest else TEXT_WIDTH
    fewest = len(_packed(extents, rest, limit))
    even = min(
        (room for room in map(float, range(int(limit), 0, -5)) if len(_packed(extents, rest, room)) == fewest),
        default=limit,
    )
    return [[0, *places] for places in _packed(extents, rest, even)]


def _together(extents: Sequence[Extent]) -> list[list[int]]:
    runs: list[list[int]] = []
    for place in range(1, len(extents)):
        if runs and extents[place].group and extents[place].group == extents[runs[-1][-1]].group:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _least(extents: Sequence[Extent], places: Sequence[int]) -> float:
    return sum(extents[place].least + GAP for place in places)


def _packed(extents: Sequence[Extent], runs: Sequence[Sequence[int]], room: float) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for run in runs:
        if found[-1] and _least(extents, [*found[-1], *run]) > room:
            found.append([])
        found[-1] += run
    return found


def shared_out(extents: Sequence[Extent]) -> list[float]:
    """The width of each column of one tabular: at least its least, and what is left goes to those that want more."""
    widths = [e.least for e in extents]
    spare = TEXT_WIDTH - sum(widths) - GAP * (len(widths) - 1)
    wanted = [e.natural - e.least for e in extents]
    share = min(1.0, max(0.0, spare) / sum(wanted)) if sum(wanted) else 0.0
    return [w + share * more for w, more in zip(widths, wanted, strict=True)]
