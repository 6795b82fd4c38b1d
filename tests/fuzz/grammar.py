"""What an accepted command line must have meant: a second reading of the options, written apart from the package.

`wrong` compares the cells of a plan with it. A difference is nonsense that was accepted in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_DIGITS = re.compile(r"\s*\+?[0-9]+\s*")
_SIDES = re.compile(r"\s*\+?([0-9]+)\s*([xX]\s*\+?([0-9]+)\s*)?")
_YES = {"no": False, "false": False, "off": False, "yes": True, "true": True, "on": True}


def meaning(option: str, text: str) -> set[Any] | None:
    """The set of values that the text of an axis stands for; None where it stands for nothing."""
    found: set[Any] = set()
    for item in text.split(","):
        sides = _SIDES.fullmatch(item)
        if option == "--res":
            if not sides:
                return None
            height = int(sides[1])
            found.add((height, int(sides[3]) if sides[3] else height))
        elif option == "--compile":
            if item.strip().lower() not in _YES:
                return None
            found.add(_YES[item.strip().lower()])
        elif option in ("--batch", "--threads"):
            if not _DIGITS.fullmatch(item):
                return None
            found.add(int(item))
        else:
            found.add(item.strip())
    return found


READ_FROM_CELLS = {
    "--res": lambda c: (c["res_h"], c["res_w"]),
    "--batch": lambda c: c["batch"],
    "--threads": lambda c: c["threads"],
    "--runtime": lambda c: c.get("runtime", "compile" if c["compiled"] else "eager"),
    "--compile": lambda c: c["compiled"],
    "--precision": lambda c: c["precision"],
    "--pass": lambda c: c["pass_"],
    "--kernel": lambda c: c["kernel"],
    "--allocator": lambda c: c["allocator"],
}


def wrong(words: Sequence[str], plan: Mapping[str, Any]) -> str:
    """Why the cells of a plan are not what the words say; empty where they are. An option given twice: the last."""
    given = dict(zip(words[::2], words[1::2], strict=False))
    for option, read in READ_FROM_CELLS.items():
        if option not in given:
            continue
        meant, planned = meaning(option, given[option]), {read(cell) for cell in plan["cells"]}
        if meant is None:
            return f"{option} {given[option][:60]!r} stands for nothing, and was accepted"
        if meant != planned:
            return f"{option} {given[option][:60]!r} means {sorted(meant, key=str)[:5]}, planned {planned}"
    for number in ("--rounds", "--processes", "--calls", "--seed"):
        if number in given and not _DIGITS.fullmatch(given[number]):
            return f"{number} {given[number][:60]!r} is no whole number, and was accepted"
    ids = [cell["id"] for cell in plan["cells"]]
    if len(ids) != len(set(ids)):
        return "two cells of the plan are the same"
    return "" if ids else "a plan without cells was accepted"
