"""Numbers that are too large for a float are refused wherever they stand; what only looks like one is not."""

from __future__ import annotations

import json

import pytest

from attnbench.results.lines import parse

LARGE = ("1e999", "-1E+999", "1.5e00400", "9" * 400 + ".5", "0.001e999")


@pytest.mark.parametrize("number", LARGE)
@pytest.mark.parametrize("around", ["[%s]", '{"a": %s}', '{"a":%s ,"b":1}', "[1,%s\t]", "[%s\n]", "%s"])
def test_a_number_beyond_the_largest_float_is_refused(number: str, around: str) -> None:
    with pytest.raises(ValueError, match="a number must be finite"):
        parse((around % number).encode())


@pytest.mark.parametrize("text", ["[1e300]", "[1e-999]", '["1e999"]', '{"cell": "a1e999b", "s": 0.25}', '"é1e999,"'])
def test_what_only_looks_like_such_a_number_is_read(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)
