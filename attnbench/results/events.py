"""What a worker says and the journal keeps: frozen dataclasses, each with its one line of JSON.

`to_line` and `from_line` are the only places that know the keys. Runs of schema 1 hold a round as one mapping of
samples by cell; `from_line` reads both forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, ClassVar

from attnbench.results.lines import decode, encode, significant
from attnbench.results.schema_1 import OLDER

Conditions = Mapping[str, float | str]

SHORTEST_S, LONGEST_S = 1e-12, 1e9  # of a call: no clock resolves less, and no run lasts longer (30 years)
MOST_TURNS = 1000  # of one arm in one round; the reference has about the square root of the number of arms
_LARGEST = float(2**63)
MOST_SD = 3.0  # of a log between runs: a factor of 20


@dataclass(frozen=True, kw_only=True)
class Count:
    """Parameters and multiply-accumulates of all cells with one `count_key`.

    Attributes:
        key: the cells' `count_key`.
        values: quantities by name; None where a counter gives none. Empty when nothing could be counted.
        lower_bound: an operator is not counted.
        notes: what a reader of the counts must know, or why there are none.
    """

    kind: ClassVar[str] = "count"
    key: str
    values: Mapping[str, int | None] = field(default_factory=dict)
    lower_bound: bool = False
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A layer was exported for a runtime; nothing of this is stored but the values, with the trial's.

    Attributes:
        cell: the cell's id. `artifact`: the file's name in the cache. `values`: quantities by name.
    """

    kind: ClassVar[str] = "exported"
    cell: str
    artifact: str
    values: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm alone in a fresh process: it was built, its output checked, its memory measured.

    Attributes:
        cell: the cell's id.
        values: quantities by name: bytes, parameters, `compile_s`. `words`: of the runtime: version, options, executed.
        call_s: seconds of one call, device time.
        kernel_ran: the attention kernel that ran. `device_name`: what people call the device.
        notes: on the memory figures.
        forward_s: seconds inside calls; `job_s`: of the whole trial.
    """

    kind: ClassVar[str] = "trial"
    cell: str
    values: Mapping[str, float | int] = field(default_factory=dict)
    call_s: float = math.nan
    kernel_ran: str = ""
    device_name: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    forward_s: float = 0.0
    job_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the output of a cell is from that of another version of its layer; in no journal.

    Attributes:
        cell: the cell's id.
        difference: greatest |difference| over greatest |output of the other|; None where they cannot be compared.
        why: they cannot be compared, in words.
    """

    kind: ClassVar[str] = "agreement"
    cell: str
    difference: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One pass beside time over one arm, alone in a fresh process.

    Attributes:
        cell: the cell's id. `what`: a word of `PROBES`.
        values: quantities by name. `words`: what goes with them into the record, or why there are none.
    """

    kind: ClassVar[str] = "probe"
    cell: str
    what: str
    values: Mapping[str, float | int] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArmTurn:
    """One turn of one arm: its timed calls and what went on meanwhile.

    Attributes:
        cell: the cell's id.
        calls_s: device seconds of each timed call, in order.
        host_s: host seconds per call until the device was done. `queue_s`: until all calls were queued (least).
        primers: untimed calls before. `retaken`: how often the turn was taken again because it was disturbed.
        conditions: of the turn, primers included, as the device's reading gives them.
    """

    cell: str
    calls_s: tuple[float, ...]
    host_s: float = math.nan
    queue_s: float = math.nan
    primers: int = 0
    retaken: int = 0
    conditions: Conditions = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """The turn's time: the median of its calls."""
        return median(self.calls_s)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn of every arm of a comparison group, in random order; the reference may have several.

    Attributes:
        group: of the cells. `process`: number of the timing process. `round`: number within the group.
        turns: in the order in which they were taken, all in the process that the arms share.
        alone: turns in processes of their own, one an arm: of the isolated arms and of a copy of the reference.
        seconds: wall time of the whole round. `forward_s`: of it inside calls. `primer_s`: in untimed calls.
        conditions: of the whole round.
    """

    kind: ClassVar[str] = "round"
    group: str
    process: int
    round: int
    turns: tuple[ArmTurn, ...]
    alone: tuple[ArmTurn, ...] = ()
    seconds: float = 0.0
    forward_s: float = 0.0
    primer_s: float = 0.0
    conditions: Conditions = field(default_factory=dict)

    def shared(self, cell: str) -> list[ArmTurn]:
        """The turns of one arm in the process that the arms share."""
        return [turn for turn in self.turns if turn.cell == cell]

    def of(self, cell: str) -> list[ArmTurn]:
        """The turns of one arm, those in the shared process before those alone; empty when it had none."""
        return self.shared(cell) or [turn for turn in self.alone if turn.cell == cell]

    def pair(self, one: str, other: str) -> tuple[list[ArmTurn], list[ArmTurn]]:
        """The turns of two arms that may be compared: both of the shared process, or those alone where there are any.

        Either is empty when the arm had no turn.
        """
        mine, others = self.shared(one), self.shared(other)
        if mine and others:
            return mine, others
        apart = [[turn for turn in self.alone if turn.cell == cell] for cell in (one, other)]
        return apart[0] or mine, apart[1] or others

    def log_time(self, cell: str) -> float | None:
        """Mean over an arm's turns of the log of its time; None when it had no turn."""
        return mean_log(self.of(cell))


def mean_log(turns: Sequence[ArmTurn]) -> float | None:
    """Mean of the logs of the turns' times; None without a turn."""
    return math.fsum(math.log(turn.seconds) for turn in turns) / len(turns) if turns else None


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """An arm that left the comparison, and why."""

    kind: ClassVar[str] = "dropped"
    cell: str
    outcome: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job ended without its result: the outcome and the reason for the cell's record."""

    kind: ClassVar[str] = "failure"
    outcome: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What a device reaches at best, at one precision, thread count and allocator; None: not measured.

    Attributes:
        key: device, precision, threads, allocator.
        macs_per_s: of a large matrix product. `conv_macs_per_s`: of a 1x1 convolution, channels last.
            `linear_macs_per_s`: of a linear layer packed by oneDNN. `bytes_per_s`: of a large copy, read plus written.
        libraries: what executes a linear layer and a convolution.
    """

    kind: ClassVar[str] = "ceilings"
    key: tuple[str | int, ...]
    macs_per_s: float | None = None
    bytes_per_s: float | None = None
    conv_macs_per_s: float | None = None
    linear_macs_per_s: float | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def peak_macs_per_s(self) -> float | None:
        """The highest rate of the three forms: the roof of a layer."""
        rates = (self.macs_per_s, self.conv_macs_per_s, self.linear_macs_per_s)
        return max((rate for rate in rates if rate), default=None)


@dataclass(frozen=True, kw_only=True)
class BetweenRuns:
    """What runs of one machine differ by beyond what any of them sees, as `attnbench selftest --runs` measured it.

    Attributes:
        key: device, threads, allocator, protocol with a digest of its numbers.
        runs: that it rests on, one more than its degrees of freedom. `measured`: when, ISO 8601.
        ratio_sd: standard deviation of the log speed ratio to the reference, by mechanism; `other_ratio_sd`: of a
            mechanism that was not among them. `time_sd`, `other_time_sd`: of the log time.
    """

    kind: ClassVar[str] = "between_runs"
    key: tuple[str | int, ...]
    runs: int
    measured: str
    ratio_sd: Mapping[str, float]
    time_sd: Mapping[str, float]
    other_ratio_sd: float
    other_time_sd: float


@dataclass(frozen=True, kw_only=True)
class SessionEnd:
    """A session of a run ended: its wall time, and the part spent inside calls."""

    kind: ClassVar[str] = "session"
    seconds: float
    forward_s: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A worker reached a stage of its job; nothing of it is stored.

    Attributes:
        cell: the cell of a plugin whose code has run since the last event; empty: no plugin's code has, but by import.
    """

    kind: ClassVar[str] = "progress"
    stage: str
    cell: str = ""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A worker finished its job; without this, the end of its process came too early."""

    kind: ClassVar[str] = "done"


Event = (
    Count
    | Trial
    | Exported
    | Probe
    | Agreement
    | Round
    | Dropped
    | Failure
    | Ceilings
    | BetweenRuns
    | SessionEnd
    | Progress
    | Done
)
_KINDS: Mapping[str, type[Any]] = {
    c.kind: c
    for c in (
        Count, Trial, Round, Exported, Probe, Agreement, Dropped, Failure, Ceilings, BetweenRuns, SessionEnd, Progress,
        Done,
    )
}  # fmt: skip


def to_line(event: Event) -> dict[str, Any]:
    """The event as plain values, times with seven significant digits."""
    return {"kind": event.kind, **_rounded(encode(event))}


def from_line(line: Mapping[str, Any]) -> Event:
    """Read a line that `to_line` made, of any schema so far.

    Raises:
        ValueError: an unknown kind, or a part that is missing, has the wrong type or cannot be: a time of 0.
    """
    kind = line.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"an event's kind must be one of {', '.join(_KINDS)}; got {str(kind)[:40]!r}")
    older = OLDER.get(kind)
    event: Event = decode(_KINDS[kind], older(line) if older else line, kind)
    for name, value, least, most in _ranges(event):
        if not least <= value <= most:
            raise ValueError(f"{kind}.{name} must be {least:g} to {most:g}; got {value:.6g}")
    if isinstance(event, Round):
        _check_turns(event)
    return event


def _ranges(event: Event) -> Iterator[tuple[str, float, float, float]]:
    """The numbers of an event with the least and the largest that they can be; what was not measured is left out."""
    if isinstance(event, Count | Trial | Probe):
        for name, value in event.values.items():
            if value is not None:
                yield f"values.{name}", value, -_LARGEST if isinstance(event, Probe) else 0, _LARGEST
    if isinstance(event, Trial) and not math.isnan(event.call_s):
        yield "call_s", event.call_s, SHORTEST_S, LONGEST_S
    if isinstance(event, Ceilings):
        for field_ in fields(event):
            rate = getattr(event, field_.name)
            if field_.name.endswith("_per_s") and rate is not None:
                yield field_.name, rate, 0, _LARGEST
    if isinstance(event, BetweenRuns):
        yield "runs", event.runs, 2, _LARGEST
        several = [("ratio_sd", event.ratio_sd), ("time_sd", event.time_sd)]
        yield from ((f"{name}.{of}", sd, 0, MOST_SD) for name, by in several for of, sd in by.items())
        yield from (
            ("other_ratio_sd", event.other_ratio_sd, 0, MOST_SD),
            ("other_time_sd", event.other_time_sd, 0, MOST_SD),
        )
    if isinstance(event, Round):
        yield "process", event.process, 0, _LARGEST
        yield "round", event.round, 0, _LARGEST
        for place, turn in enumerate(event.turns):
            for call, seconds in enumerate(turn.calls_s):
                yield f"turns[{place}].calls_s[{call}]", seconds, SHORTEST_S, LONGEST_S
            yield f"turns[{place}].retaken", turn.retaken, 0, _LARGEST
    for name in ("seconds", "forward_s", "primer_s", "job_s"):
        if hasattr(event, name):
            yield name, getattr(event, name), 0, LONGEST_S


def _check_turns(event: Round) -> None:
    """Refuse a round in which an arm has no call, or more turns than any reference gets.

    Raises:
        ValueError: with the place of the turn.
    """
    turns: dict[str, int] = {}
    for place, turn in enumerate(event.turns):
        turns[turn.cell] = turns.get(turn.cell, 0) + 1
        if not turn.calls_s or turns[turn.cell] > MOST_TURNS:
            got = f"{len(turn.calls_s)} calls in turn {turns[turn.cell]} of {turn.cell[:40]!r}"
            raise ValueError(f"round.turns[{place}] must have calls, in at most {MOST_TURNS} turns an arm; got {got}")


def _rounded(value: Any) -> Any:
    """Clock readings with seven digits; what is not finite is left out."""
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items() if not (isinstance(v, float) and not math.isfinite(v))}
    return value
