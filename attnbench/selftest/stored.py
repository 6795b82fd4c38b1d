"""The result of a self-test as a JSON file, with protocol and machine, and as lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attnbench import __version__
from attnbench.errors import AttnbenchError
from attnbench.machine import environment
from attnbench.machine.environment import Environment
from attnbench.planning import protocol as protocols
from attnbench.results.events import BetweenRuns
from attnbench.results.journal import read_json
from attnbench.results.lines import decode, encode, finite
from attnbench.selftest.sensitivity import Sensitivity

SCHEMA = 1
HANG = 17  # characters of a label of `lines`, which what follows stands behind
RECENT = timedelta(hours=24)  # a self-test is about these hours


def describe(
    result: Sensitivity, *, device: str, protocol: str, allocator: str, overrides: tuple[tuple[str, object], ...] = (),
    between: BetweenRuns | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The result as plain values, with what it holds for: time, protocol, device, allocator and machine.

    `between`: what several runs differed by, if that was measured too.
    """
    return {
        "schema": SCHEMA,
        "kind": "selftest",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "attnbench": __version__,
        "device": device,
        "allocator": allocator,
        "protocol": finite(protocols.get(protocol, overrides)),
        "result": finite({**asdict(result), "resolvable": result.resolvable}),
        **({"between_runs": finite(encode(between))} if between else {}),
        "environment": encode(environment.describe((device,))),
    }


def default_file() -> Path:
    """Where a self-test is stored that was given no --out: beside the runs."""
    return Path("runs") / f"selftest-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write what `describe` returns.

    Raises:
        AttnbenchError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise AttnbenchError(f"{path} cannot be written: {error.strerror or error}; use another --out") from error


def load(path: Path) -> dict[str, Any]:
    """Read a file that `save` wrote.

    Raises:
        AttnbenchError: the file cannot be read, is no self-test, or has an unknown schema.
    """
    try:
        data = read_json(path)
    except ValueError as error:
        raise AttnbenchError(f"a stored self-test must be a JSON file; {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("kind") != "selftest":
        raise AttnbenchError(f"{path} is not a stored self-test; `attnbench selftest` writes one")
    if data.get("schema") != SCHEMA:
        got = str(data.get("schema"))[:40]
        raise AttnbenchError(f"a self-test's schema must be {SCHEMA}; got {got} in {path}")
    try:
        _ = datetime.now(UTC) - datetime.fromisoformat(data["created"])
        _ = heading(data), *lines(data)  # all that is read of it
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AttnbenchError(
            f"a self-test has a result with its numbers; {path} is damaged ({type(error).__name__}: {error}); "
            "restore it, or run `attnbench selftest` again"
        ) from error
    return data


def latest(folder: Path = Path("runs"), *, now: datetime | None = None) -> dict[str, Any] | None:
    """The newest self-test of this machine in a folder, at most `RECENT` old; None if there is none."""
    now = now or datetime.now(UTC)
    here: Environment | None = None
    for path in sorted(folder.glob("selftest-*.json"), reverse=True):
        try:
            data = load(path)
        except AttnbenchError:
            continue
        if now - datetime.fromisoformat(data["created"]) > RECENT:
            continue
        machine = machine_of(data)
        here = here or environment.describe(tuple(machine.devices))
        if machine.host == here.host and machine.fingerprint == here.fingerprint:
            return data
    return None


def machine_of(data: Mapping[str, Any]) -> Environment:
    """The machine of a stored self-test.

    Raises:
        AttnbenchError: the description is damaged.
    """
    try:
        return decode(Environment, data["environment"])
    except (KeyError, ValueError) as error:
        raise AttnbenchError(f"a stored self-test describes its machine; this one is damaged: {error}") from error


def heading(data: Mapping[str, Any]) -> str:
    """When it was made, with which version, on which machine."""
    machine = machine_of(data).machine_label
    return f"self-test of {data['created']}, attnbench {data['attnbench']}, {machine}"


def sentence(data: Mapping[str, Any]) -> str:
    """One sentence for people with the smallest detectable difference."""
    what = f"`{data['protocol']['name']}` on {data['device']}"
    found = data["result"]["resolvable"]
    if found is None:
        return f"{what} has too few rounds for an interval: it detects no difference at all; use more --rounds."
    return f"{what} detects a difference of {found:.1%} in 4 of 5 comparisons; smaller ones stay undecided more often."


def between_sentence(data: Mapping[str, Any]) -> str:
    """What runs differed by, in one sentence for people."""
    found = decode(BetweenRuns, data["between_runs"])
    most, sd = max(found.ratio_sd.items(), key=lambda item: item[1])
    return (
        f"{found.runs} runs of `{data['protocol']['name']}`: beyond what each sees, ratios differ by "
        f"{found.other_ratio_sd:.2%} ({most} most, by {sd:.2%}) and times by {found.other_time_sd:.2%}; "
        "later runs of the same protocol include it until the machine is started again"
    )


def lines(data: Mapping[str, Any]) -> Iterator[str]:
    """The result as lines of text, each with a label, and the sentence."""
    r = data["result"]
    level = data["protocol"]["level"]
    yield (
        f"identical arms   {r['excluding']} of {r['trials']} intervals exclude 1 (rate {r['rate']['estimate']:.1%}, "
        f"95 % interval {r['rate']['low']:.1%} to {r['rate']['high']:.1%}; nominal {100 * (1 - level):.3g} %)"
    )
    pairs = r["trials"] * (2 * r["trials"] - 1)
    every = r["rate_of_all_pairs"]
    ends = f", 95 % interval {every['low']:.1%} to {every['high']:.1%}" if isinstance(every, Mapping) else ""
    share = every["estimate"] if isinstance(every, Mapping) else every
    yield f"                 of all {pairs} pairs, which share arms, {share:.1%}{ends}"
    yield (
        f"                 median half-width {_percent(r['half_width'])} between two arms, "
        f"{_percent(r['reference_half_width'])} against the reference"
    )
    yield (
        f"doubled work     ratio {_interval(r['twice'])} over {r['trials']} trials, the intervals of "
        f"{r['twice_hits']} contain it"
    )
    yield f"known allocation {r['allocation'][0] / 2**20:.1f} MiB measured of {r['allocation'][1] / 2**20:.1f} MiB"
    yield f"known delay      {r['delay'][0] * 1e3:.2f} ms measured of {r['delay'][1] * 1e3:.2f} ms"
    if "between_runs" in data:
        yield f"between runs     {between_sentence(data)}"
    yield f"interleaving     a layer alone takes {_interval(r['alone'])} of its time among larger layers"
    yield sentence(data)


def _percent(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.2%}"


def _interval(found: Mapping[str, float | None]) -> str:
    low, high = ("?" if found[end] is None else f"{found[end]:.3f}" for end in ("low", "high"))
    return f"{found['estimate']:.3f} [{low}, {high}]"
