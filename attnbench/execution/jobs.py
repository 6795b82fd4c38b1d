"""What a worker may be asked to do: frozen dataclasses, each with its one line of JSON. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from attnbench.planning.cell import Cell
from attnbench.results.events import Ceilings
from attnbench.results.lines import decode, encode


@dataclass(frozen=True, kw_only=True)
class CountJob:
    """Count parameters and multiply-accumulates of one layer, on the meta device.

    Attributes:
        imports: the plugins that the process may import, named as in `Registry.origins`; None: all.
    """

    kind: ClassVar[str] = "count"
    cell: Cell
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """Try one arm alone: build it, check its output, measure its memory.

    Attributes:
        inference: no autograd and eval mode for a forward pass.
        memory_limit: bytes that the process may allocate on the device; 0 for what is free.
        imports: as of a count. artifact: the file name of the exported layer, for a runtime that needs one.
    """

    kind: ClassVar[str] = "trial"
    cell: Cell
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None
    weights: str = ""
    seed: int = 0
    inference: bool = True
    memory_limit: int = 0
    artifact: str = ""


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Export one layer for its cell's runtime, unless the cache has it; `imports` as of a count."""

    kind: ClassVar[str] = "export"
    cell: Cell
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None
    weights: str = ""
    seed: int = 0
    memory_limit: int = 0


@dataclass(frozen=True, kw_only=True)
class TimingJob:
    """Build the arms of a comparison group and give rounds of them.

    Attributes:
        reference: id of the cell that has `reference_turns` turns a round; empty for none.
        calls: timed calls of a turn, by cell id. `artifacts`: file names of exported layers, by cell id.
        group, process: stamped on every round. `first_round`: number of the first.
        prime_s, prime_calls: untimed calls before a turn, by time and by count.
        cold: caches are flushed before each timed call. `strict`: a disturbed turn is taken again.
        sequential: an arm has its turns of every round before the next arm begins. fixed_order: arms stay in the order
            of `cells`.
        imports: as of a count.
    """

    kind: ClassVar[str] = "time"
    cells: tuple[Cell, ...]
    group: str
    process: int
    calls: Mapping[str, int]
    first_round: int
    rounds: int
    reference: str = ""
    reference_turns: int = 1
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None
    weights: str = ""
    seed: int = 0
    order_seed: int = 0
    inference: bool = True
    memory_limit: int = 0
    prime_s: float = 0.05
    prime_calls: int = 1
    cold: bool = False
    strict: bool = False
    sequential: bool = False
    fixed_order: bool = False
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CeilingsJob:
    """Measure what the cell's device reaches at its precision and threads.

    Attributes:
        known: measured since this machine was started; returned as it is if a quick look confirms it.
    """

    kind: ClassVar[str] = "ceilings"
    cell: Cell
    known: Ceilings | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeJob:
    """Look at one arm alone for something beside time: one pass of `PROBES`.

    Attributes:
        what: a word of `PROBES`.
        inference, memory_limit, imports, artifact: as of a trial.
    """

    kind: ClassVar[str] = "probe"
    cell: Cell
    what: str
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None
    weights: str = ""
    seed: int = 0
    inference: bool = True
    memory_limit: int = 0
    artifact: str = ""


@dataclass(frozen=True, kw_only=True)
class AgreementJob:
    """Compare the outputs of two versions of a layer: the `cell` with `base`, which differ in the variant alone.

    Attributes:
        memory_limit, imports: as of a trial.
    """

    kind: ClassVar[str] = "agreement"
    cell: Cell
    base: Cell
    plugins: tuple[str, ...] = ()
    imports: tuple[str, ...] | None = None
    seed: int = 0
    memory_limit: int = 0


Job = CountJob | ExportJob | TrialJob | TimingJob | CeilingsJob | ProbeJob | AgreementJob
_KINDS: Mapping[str, type[Any]] = {
    c.kind: c for c in (CountJob, ExportJob, TrialJob, TimingJob, CeilingsJob, ProbeJob, AgreementJob)
}


def to_line(job: Job) -> dict[str, Any]:
    """The job as plain values."""
    return {"kind": job.kind, **encode(job)}


def from_line(line: Mapping[str, Any]) -> Job:
    """Read a line that `to_line` made.

    Raises:
        ValueError: an unknown kind, or a part that is missing or has the wrong type.
    """
    kind = str(line.get("kind"))
    if kind not in _KINDS:
        raise ValueError(f"a job's kind must be one of {', '.join(_KINDS)}; got {kind!r}")
    job: Job = decode(_KINDS[kind], line, kind)
    return job
