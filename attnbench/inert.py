r"""Text from outside -> text that its medium shows and does not obey: one function a medium.

Names of mechanisms, reasons of failures, notes, names of machines and files come from plugins and from run folders that
somebody else made. Whatever prints or writes such text passes it through the function of its medium. All of them begin
with `plain`: control characters, the marks that reorder text, halves of surrogate pairs and what is no character at all
become visible escapes such as `\x1b`, and line breaks become spaces. Letters of every script stay.

Sources:
    OWASP, CSV injection: https://owasp.org/www-community/attacks/CSV_Injection
    Boucher, Anderson (2021), Trojan source: invisible vulnerabilities, https://arxiv.org/abs/2111.00169
"""

from __future__ import annotations

import html as _html
import re
import unicodedata
from collections.abc import Mapping

_SPACES = "\t\n\v\f\r\x85\u2028\u2029"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*%?")
_STARTS = "=+-@＝＋－＠"  # of a formula; some spreadsheets read the full-width forms too
_BLOCK = re.compile(r"^(\s*)(?=[\[#=~]|[-+] |---)")  # begins a definition, a heading, a list or a rule
_AFTER_SEPARATOR = re.compile(rf";(\s*)(?=[{re.escape(_STARTS)}])(?!\s*{_NUMBER.pattern}(?:[;,\s]|$))")


def plain(text: str, *, lines: bool = False, backslash: str = "\\") -> str:
    """Text of one line without anything invisible that acts.

    Args:
        text: any text, halves of surrogate pairs included.
        lines: keep line breaks.
        backslash: what begins an escape.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _shown(c, backslash) for c in text)


def _shown(c: str, backslash: str) -> str:
    code = ord(c)
    if c in _SPACES:
        return " "
    no_character = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if no_character or unicodedata.category(c) in ("Cc", "Cf", "Cs"):
        width = "x02" if code < 0x100 else "u04" if code < 0x10000 else "U08"
        return f"{backslash}{width[0]}{code:{width[1:]}x}"
    return c


def terminal(text: str, *, lines: bool = False) -> str:
    """For a terminal: no escape sequence reaches it; `lines`: keep line breaks."""
    return plain(text, lines=lines)


def html(text: str) -> str:
    """For HTML and SVG, as content or in a quoted attribute."""
    return _html.escape(plain(text), quote=True)


def markdown(text: str, *, block: bool = False) -> str:
    """For GitHub's Markdown, a table's cell included: no markup, no HTML, no link behind other words.

    Args:
        text: any text.
        block: it begins a paragraph or an item, where a list, a heading or the definition of a link could begin.
    """
    text = plain(text).replace("\\", "\\\\")
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), *((c, f"\\{c}") for c in "|`*$")):
        text = text.replace(raw, safe)
    text = text.replace("](", "]\\(")
    return _BLOCK.sub(r"\1\\", text) if block else text


def spreadsheet(text: str) -> str:
    """For a field of a CSV file: no formula, also where a semicolon separates fields. A number stays one."""
    text = plain(text)
    if ";" in text:
        text = _AFTER_SEPARATOR.sub(r";\1'", text)
    start = text.lstrip()[:1]
    return f"'{text}" if start and start in _STARTS and not _NUMBER.fullmatch(text.strip()) else text


def latex(text: str) -> str:
    """For LaTeX; a letter that pdflatex may not know becomes its code point."""
    return "".join(_TEX.get(c, c if c.isprintable() and ord(c) < 127 else f"U+{ord(c):04X}") for c in plain(text))


_TEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "µ": r"$\mu$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "²": r"\textsuperscript{2}",
    "|": r"\textbar{}",
    '"': "''",
    "'": "'",
    "[": "{[}",
    "]": "{]}",
}
