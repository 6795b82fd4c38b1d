"""Damaged run folders: every way in which the files of a run may be wrong, for tests and for `make fuzz`.

`small_run` writes a healthy folder with everything that a run may hold; `damage` breaks one in place and says how;
`JSON_DAMAGE` lists what a JSON value may be replaced with, and `at_every_position` does it exhaustively.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RUN, RECORDS, SAMPLES = "run.json", "records.jsonl", "samples.jsonl"
FILES = (RUN, RECORDS, SAMPLES)
PUBLISHED_RUN = Path(__file__).parents[2] / "reports" / "runs" / "intel6m167-224-batch8-quick"
FOREIGN_RUN = Path(__file__).parents[2] / "reports" / "runs" / "counts-384"
ARMS = ("hilo", "msa", "window")

BETWEEN_RUNS = {
    "kind": "between_runs", "key": ["cpu", 2, "pinned", "quick-01234567"], "runs": 10, "measured": "2026-11-29",
    "ratio_sd": {"hilo": 0.01}, "time_sd": {"msa": 0.02, "hilo": 0.03}, "other_ratio_sd": 0.01, "other_time_sd": 0.02,
}  # fmt: skip
RUN_VALUES = {"run_ratio_sd": 0.01, "run_time_sd": 0.03, "run_df": 9.0}

Place = tuple[str | int, ...]


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


class Raw(str):
    """JSON text that is written as it stands, for what `json.dumps` would not write."""


# What stands in place of a value: Python values, or raw text.
JSON_DAMAGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308,
    Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("\"\\ud800\""),
    "", " ", "nan", "0", "ok", "x" * 100_000, "\x1b[31mred\x1b[0m", "<script>alert(1)</script>", "=1+1", "../../x",
    "\u202e\u0000\n\r", "[", "msa[", "hilo[alpha=nan]",
    [], [[]], [None], [1], ["x"], {}, {"": {}}, {"x": 1}, [{}],
    Raw(_nested(50)), Raw(_nested(5000)), Raw(_nested(100_000)), Raw('{"a":' * 3000 + "1" + "}" * 3000),
)  # fmt: skip

BROKEN_TEXT: tuple[bytes, ...] = (
    b"", b"\n", b"null", b"[]", b"{}", b"0", b'"text"', b"{", b"}", b"\xff\xfe\x00", b"\x00" * 64, b"\xef\xbb\xbf{}",
    b"NaN", b'{"schema": {}}', b'{"kind":"trial"}', b'{"kind":"count"}', _nested(100_000).encode(), b"9" * 5000,
    b'{"a":1}{"b":2}', b'{"schema": 2, "schema": "2"}', b"\xe2\x80\xa8", b"\r\n\r\n",
)  # fmt: skip


def small_run(folder: Path, source: Path = PUBLISHED_RUN, arms: Sequence[str] = ARMS) -> Path:
    """Write a healthy folder with the plan, records and journal of a few arms of a stored run."""
    facts = json.loads((source / RUN).read_text())
    records = [json.loads(line) for line in (source / RECORDS).read_text().splitlines()]
    kept = [r for r in records if r["cell"]["variant"] in arms]
    kept = [{**r, "values": {**r["values"], **RUN_VALUES}} for r in kept]
    ids = {r["cell_id"] for r in kept}
    facts["plan"]["cells"] = [c for c in facts["plan"]["cells"] if c["variant"] in arms]
    folder.mkdir(parents=True)
    (folder / RUN).write_text(json.dumps(facts, indent=1) + "\n")
    _write_lines(folder / RECORDS, kept)
    lines: list[dict[str, Any]] = [BETWEEN_RUNS]
    counts = 0
    for line in (source / SAMPLES).read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "round":
            event["turns"] = [turn for turn in event["turns"] if turn["cell"] in ids]
        elif event["kind"] == "count":
            counts += 1
            if counts > len(arms):
                continue
        elif event.get("cell", "") and event["cell"] not in ids:
            continue
        lines.append(event)
    _write_lines(folder / SAMPLES, lines)
    return folder


def damage(folder: Path, rng: random.Random, times: int = 1) -> str:
    """Break the files of a run folder in place, in `times` ways; returns what was done, for a message."""
    return "; ".join(rng.choice(_WAYS)(folder, rng) for _ in range(times))


def damaged(source: Path, target: Path, seed: int) -> str:
    """Copy a run folder to `target` and break the copy, the same way for the same seed; returns what was done."""
    shutil.copytree(source, target)
    rng = random.Random(seed)
    return damage(target, rng, times=rng.choice((1, 1, 1, 2, 3)))


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """The place of every value inside a JSON value, itself included."""
    yield here
    items: Any = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*here, key))


def with_value(value: Any, place: Place, new: Any) -> Any:
    """A copy of a JSON value in which the part at `place` is `new`."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[place[0]] = with_value(value[place[0]], place[1:], new)
    return copy


def without(value: Any, place: Place) -> Any:
    """A copy of a JSON value without the part at `place`."""
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    if len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = without(value[place[0]], place[1:])
    return copy


def json_text(value: Any) -> str:
    """JSON of a value that may contain `Raw` text; numbers that are too long for JSON are written in full."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(k))}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(json_text, value)) + "]"
    return json.dumps(value)


def at_every_position(folder: Path, file: str, line: int = 0, values: Sequence[Any] = JSON_DAMAGE) -> Iterator[str]:
    """Put each of `values` in place of each value of one file (or of one line of it), one at a time.

    Yields a description while the damage is there; the file is as before afterwards.
    """
    path = folder / file
    before = path.read_bytes()
    whole = json.loads(before) if file == RUN else json.loads(before.splitlines()[line])
    lines = before.splitlines(keepends=True)
    try:
        for place in places(whole):
            for new in (*values, Raw("")) if place else values:
                made = without(whole, place) if new == "" and isinstance(new, Raw) else with_value(whole, place, new)
                text = json_text(made).encode("utf-8", "surrogatepass") + b"\n"
                path.write_bytes(text if file == RUN else b"".join([*lines[:line], text, *lines[line + 1 :]]))
                yield f"{file}:{line} {_dotted(place)} = {json_text(new)[:40]}"
    finally:
        path.write_bytes(before)


def _write_lines(path: Path, values: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(v, separators=(",", ":")) + "\n" for v in values))


def _dotted(place: Place) -> str:
    return ".".join(map(str, place)) or "(all)"


def _a_file(folder: Path, rng: random.Random) -> Path | None:
    there = [folder / name for name in FILES if (folder / name).is_file() and not (folder / name).is_symlink()]
    return rng.choice(there) if there else None


def _changed_bytes(change: Callable[[bytearray, random.Random], str]) -> Callable[[Path, random.Random], str]:
    def way(folder: Path, rng: random.Random) -> str:
        path = _a_file(folder, rng)
        if path is None:
            return "nothing left to change"
        data = bytearray(path.read_bytes())
        if not data:
            return f"{path.name} is empty"
        said = change(data, rng)
        path.write_bytes(bytes(data))
        return f"{path.name}: {said}"

    return way


def _flip_bits(data: bytearray, rng: random.Random) -> str:
    at = [rng.randrange(len(data)) for _ in range(rng.choice((1, 1, 3, 20)))]
    for i in at:
        data[i] ^= 1 << rng.randrange(8)
    return f"bits flipped at {at[:3]}"


def _cut(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data))
    del data[at:]
    return f"cut at byte {at}"


def _drop_a_part(data: bytearray, rng: random.Random) -> str:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 2, 10, 100, 5000)))
    del data[start:end]
    return f"bytes {start} to {end} removed"


def _insert(data: bytearray, rng: random.Random) -> str:
    at, what = rng.randrange(len(data) + 1), rng.choice(BROKEN_TEXT)
    data[at:at] = what
    return f"{what[:20]!r} inserted at {at}"


def _zeros(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data))
    end = min(len(data), at + 4096)
    data[at:end] = bytes(end - at)
    return f"zeros from {at} to {end}"


def _append(data: bytearray, rng: random.Random) -> str:
    what = rng.choice(BROKEN_TEXT)
    data += what + rng.choice((b"", b"\n"))
    return f"{what[:20]!r} appended"


def _change_json(folder: Path, rng: random.Random) -> str:
    """One value inside of run.json or of one line replaced, removed, duplicated or given another key."""
    path = _a_file(folder, rng)
    if path is None:
        return "nothing left to change"
    content = path.read_bytes()
    lines = [content] if path.name == RUN else content.splitlines()
    number = rng.randrange(len(lines)) if lines else -1
    try:
        whole = json.loads(lines[number])
    except (ValueError, IndexError, RecursionError):
        return f"{path.name}: no JSON to change"
    try:
        every = list(places(whole))
        place = rng.choice(every)
        how = rng.randrange(10)
        if how == 0 and place:
            made, said = without(whole, place), f"{_dotted(place)} removed"
        elif how == 1:
            other = rng.choice(every)
            new: Any = whole
            for key in other:
                new = new[key]
            made, said = with_value(whole, place, new), f"{_dotted(place)} = that of {_dotted(other)}"
        else:
            new = rng.choice(JSON_DAMAGE)
            made, said = with_value(whole, place, new), f"{_dotted(place)} = {json_text(new)[:40]}"
        lines[number] = json_text(made).encode("utf-8", "surrogatepass")
    except RecursionError:
        return f"{path.name}: nested too deeply to change again"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return f"{path.name}:{number + 1} {said}"


def _change_lines(folder: Path, rng: random.Random) -> str:
    """Lines removed, repeated, in another order, or of another run."""
    path = folder / rng.choice((RECORDS, SAMPLES))
    if not path.is_file():
        return f"{path.name} is not there"
    lines = path.read_bytes().splitlines(keepends=True)
    how = rng.choice(("removed", "repeated", "shuffled", "foreign", "line of the other file", "no newline at the end"))
    at = rng.randrange(len(lines)) if lines else 0
    if how == "removed" and lines:
        del lines[at]
    elif how == "repeated" and lines:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif how == "shuffled":
        rng.shuffle(lines)
    elif how == "foreign":
        lines += (FOREIGN_RUN / path.name).read_bytes().splitlines(keepends=True)
    elif how == "line of the other file":
        other = folder / (SAMPLES if path.name == RECORDS else RECORDS)
        lines += other.read_bytes().splitlines(keepends=True)[:1] if other.is_file() else []
    elif lines:
        lines[-1] = lines[-1].rstrip(b"\n")
    path.write_bytes(b"".join(lines))
    return f"{path.name}: {how}"


def _change_the_file(folder: Path, rng: random.Random) -> str:
    """A file missing, empty, a folder, a FIFO, a dangling or circular link, or that of another run."""
    path = folder / rng.choice(FILES)
    if path.is_dir() or not os.path.lexists(path):
        return f"{path.name} is no file any more"
    how = rng.choice(("missing", "empty", "folder", "fifo", "dangling", "circular", "foreign", "broken", "device"))
    path.unlink()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    elif how in ("dangling", "circular", "device"):
        path.symlink_to({"dangling": "nowhere", "circular": path.name, "device": "/dev/zero"}[how])
    elif how == "foreign":
        path.write_bytes((FOREIGN_RUN / path.name).read_bytes())
    elif how == "broken":
        path.write_bytes(rng.choice(BROKEN_TEXT))
    return f"{path.name} is {how}"


_WAYS: tuple[Callable[[Path, random.Random], str], ...] = (
    *(_changed_bytes(change) for change in (_flip_bits, _cut, _drop_a_part, _insert, _zeros, _append)),
    *(_change_json,) * 10,
    *(_change_lines,) * 2,
    _change_the_file,
)  # fmt: skip
