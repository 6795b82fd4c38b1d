"""Sentences and docstrings -> lines of a terminal: broken between words, what follows stands under its beginning."""

from __future__ import annotations

import re
import textwrap

WIDEST = 110  # characters of a line of prose; longer ones are hard to read
PROSE = ("Paper", "Agrees", "Differs")  # sections of a mechanism's docstring whose line breaks mean nothing
SECTIONS = (*PROSE, "Shapes", "Cost")
_MARGIN = 8  # where the text of a section begins


def wrap(words: str, width: int, hang: int | None = None) -> list[str]:
    """Break a line between words; a word that is longer than the width stays whole.

    Args:
        words: one line, perhaps indented.
        width: characters of a line.
        hang: blanks before every line but the first; by default those of the first.
    """
    blanks = len(words) - len(words.lstrip()) if hang is None else hang
    return textwrap.wrap(
        words, width, subsequent_indent=" " * blanks, break_long_words=False, break_on_hyphens=False
    ) or [""]  # fmt: skip


def docstring_lines(text: str, width: int) -> list[str]:
    """A module's docstring for people: paragraphs are filled, formulas keep their lines, sections hang.

    Args:
        text: as `inspect.cleandoc` gives it.
        width: characters of the terminal.
    """
    made: list[str] = []
    for block in re.split(r"\n(?=\S|\n)", text):
        section = block.split(" ", 1)[0]
        if section not in SECTIONS or section in PROSE:
            made += wrap(_joined(block), min(width, WIDEST), _MARGIN if section in PROSE else None)
            continue
        for number, line in enumerate(block.splitlines()):
            made += wrap(line, width, None if number else _MARGIN)
    return made


def _joined(block: str) -> str:
    """One line of the lines of a block; the blanks behind the name of a section stay."""
    first, *others = block.splitlines() or [""]
    return " ".join([first, *(line.strip() for line in others)])
