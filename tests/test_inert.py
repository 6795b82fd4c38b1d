"""Text from outside is shown and not obeyed, whatever the medium."""

from __future__ import annotations

import csv
import io
import re

import pytest
from support.readers import ACTIVE

from attnbench import inert

HOSTILE = (
    "=x\x1b[31m\x9b2J\u202eevil\ud800\x00\ufffe</title><script>alert(1)</script>"
    "[a](javascript:b)|`c`\\input{/etc/passwd}\r\nq"
)
MEDIA = (inert.terminal, inert.html, inert.markdown, inert.spreadsheet, inert.latex)


@pytest.mark.parametrize("medium", MEDIA, ids=lambda f: f.__name__)
def test_no_medium_lets_anything_invisible_through(medium):
    shown = medium(HOSTILE)
    assert not ACTIVE.search(shown)
    assert "\n" not in shown
    shown.encode()


@pytest.mark.parametrize("medium", MEDIA, ids=lambda f: f.__name__)
def test_every_character_leaves_every_medium_printable(medium):
    shown = medium("".join(map(chr, (*range(0x10000), *range(0xE0000, 0xE0080)))))
    assert not ACTIVE.search(shown)
    shown.encode()


def test_letters_of_every_script_stay():
    text = "größer 注意力 внимание انتباه תשומת ½ × – 😀"
    assert [inert.terminal(text), inert.spreadsheet(text), inert.markdown(text), inert.html(text)] == [text] * 4


def test_what_was_taken_out_can_still_be_read():
    assert inert.terminal("a\x1b[2Jb\u202ec\ud800\U000e0041") == r"a\x1b[2Jb\u202ec\ud800\U000e0041"
    assert inert.terminal("a\nb\tc\u2028d") == "a b c d"
    assert inert.terminal("a\nb\x1b", lines=True) == "a\nb\\x1b"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "' =1"),
        ("\r=1", "' =1"),
        (" =1", "' =1"),
        ("＝1", "'＝1"),
        ("a;=1+1", "a;'=1+1"),
        ("a; @x", "a; '@x"),
        ("-3.5", "-3.5"),
        ("+1e-3", "+1e-3"),
        ("-3.5 %", "-3.5 %"),
        ("a; -3.5; b", "a; -3.5; b"),
        ("", ""),
        ("2x2", "2x2"),
    ],
)
def test_a_spreadsheet_gets_no_formula_and_keeps_its_numbers(text, field):
    assert inert.spreadsheet(text) == field


def test_a_field_keeps_its_place_in_a_row_of_csv():
    out = io.StringIO()
    csv.writer(out).writerow([inert.spreadsheet('a,"b"\n=c'), "d"])
    assert [len(row) for row in csv.reader(io.StringIO(out.getvalue()))] == [2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("`x` *y* $z$", r"\`x\` \*y\* \$z\$"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("[a](b)", r"\[a]\(b)"),
        ("![a](b)", r"![a]\(b)"),
        ("[a]: http://b", r"\[a]: http://b"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("--- a", r"\--- a"),
        ("- -", r"\- -"),
        ("-3.5", "-3.5"),
        ("hilo[alpha=0.5]", "hilo[alpha=0.5]"),
    ],
)
def test_markdown_is_shown_as_it_is_written(text, shown):
    assert inert.markdown(text, block=True) == shown


def test_what_begins_a_block_of_markdown_begins_none_in_a_cell():
    assert inert.markdown("+ HiLo") == "+ HiLo"


def test_html_closes_neither_an_attribute_nor_an_element():
    assert not re.search("[<>\"']", inert.html(HOSTILE + "\"'"))


def test_latex_has_no_command_but_those_that_print_a_character():
    commands = set(re.findall(r"\\[A-Za-z]+", inert.latex(HOSTILE + "%$#_~^&")))
    assert commands == {
        r"\textbackslash",
        r"\textless",
        r"\textgreater",
        r"\textbar",
        r"\textasciitilde",
        r"\textasciicircum",
    }
