"""What each part of the authors' measuring procedure changes: every departure from ours alone, and all together.

The authors time one block of 30 calls of each layer, in a process of its own, without warm-up, in train mode with
autograd on, with the system's allocator, and print the mean (attnbench/published/schema.md, 13). Each procedure has a
run folder of its own; all measure the same arms, and each is compared with ours. Both procedures are measured twice:
what moves between two runs of one procedure is noise.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from attnbench import __version__
from attnbench.analysis import ranking
from attnbench.analysis.ranking import Measurement, Move
from attnbench.errors import AttnbenchError
from attnbench.execution import runner
from attnbench.machine import environment
from attnbench.planning import protocol as protocols
from attnbench.planning.sweep import Sweep
from attnbench.published.suites import LAYERS
from attnbench.results.lines import finite
from attnbench.results.store import open_run, read_rounds

SCHEMA = 1
OURS, AUTHORS, AGAIN = "ours", "authors", "authors-again"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is measured: arms, sizes and the protocol that departures depart from.

    Attributes:
        mechanism: variants of layers; `reference`: the arm that ratios refer to.
        res: (height, width) in pixels. `batch`: images per batch, for every procedure but `batch`.
        paper_batch: the authors' batch, a departure of its own; 0: `batch`.
        protocol, overrides: our procedure. `block`: calls of the authors' block.
        threads: CPU threads; empty: all that this process may use.
        departures: names of the single departures to measure; empty: all.
    """

    mechanism: tuple[str, ...] = LAYERS
    reference: str = "msa"
    res: tuple[int, int] = (224, 224)
    batch: int = 1
    paper_batch: int = 0
    dim: int = 768
    heads: int = 12
    device: str = "cpu"
    threads: tuple[int, ...] = ()
    protocol: str = "quick"
    overrides: tuple[tuple[str, Any], ...] = ()
    block: int = 30
    seed: int = 0
    plugins: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the study goes that was given no --out: the same command finds it again."""
        return Path("runs") / f"protocols-{hashlib.sha256(repr(self).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """One way to measure.

    Attributes:
        name: of its run folder. `title`: for people.
        changes: protocol numbers that it replaces. `axes`: fields of the sweep that it replaces.
        mean: a turn's time is the mean of its calls.
        samples_of: the procedure whose samples it reads, if it measures nothing itself.
        against: the procedure that it is compared with.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)
    mean: bool = False
    samples_of: str = ""
    against: str = OURS


def procedures(request: Request) -> list[Procedure]:
    """Ours, each single departure, the authors', and both again; in the order in which they are measured.

    Raises:
        AttnbenchError: a departure that this request does not have.
    """
    block = {"looks": (1,), "processes": 1, "calls": request.block, "turn_s": 0.0}
    cold = {"prime_s": 0.0, "prime_calls": 0}
    parts = [
        Procedure(name="no-warm-up", title="no warm-up", changes=cold),
        Procedure(name="one-block", title=f"one block of {request.block} calls of each arm", changes=block),
        Procedure(name="mean", title="mean of the calls, not median", mean=True, samples_of=OURS),
        Procedure(name="train-mode", title="train mode, autograd on", changes={"inference": False}),
        Procedure(name="fixed-order", title="fixed order", changes={"order": "fixed"}),
        Procedure(name="one-process", title="one process", changes={"processes": 1}),
        Procedure(name="in-sequence", title="arms in sequence", changes={"schedule": "sequential"}),
        Procedure(name="separate", title="in sequence, a process for each arm", changes={"schedule": "separate"}),
    ]
    axes: dict[str, Any] = {}
    if request.device == "cpu":
        axes["allocator"] = ("system",)
        parts.append(Procedure(name="allocator", title="the system's allocator", axes={"allocator": ("system",)}))
    else:
        axes["precision"] = ("tf32",)
        parts.append(Procedure(name="tf32", title="TF32, PyTorch's default then", axes={"precision": ("tf32",)}))
    if request.paper_batch not in (0, request.batch):
        axes["batch"] = (request.paper_batch,)
        title = f"batch {request.paper_batch}, not {request.batch}"
        parts.append(Procedure(name="batch", title=title, axes={"batch": (request.paper_batch,)}))
    names = [p.name for p in parts]
    for name in request.departures:
        if name not in names:
            raise AttnbenchError(f"a departure must be one of {', '.join(names)}; got {name!r}")
    paper = protocols.get("paper")
    limits = {"target": paper.target, "budget_s": paper.budget_s, "timeout_s": paper.timeout_s}
    every = {**block, **cold, **limits, "inference": False, "schedule": "separate", "order": "fixed"}
    return [
        Procedure(name=OURS, title="ours"),
        *(p for p in parts if not request.departures or p.name in request.departures),
        Procedure(name=AUTHORS, title="the authors': all of these", changes=every, axes=axes, mean=True),
        Procedure(name=AGAIN, title="the authors', again", changes=every, axes=axes, mean=True, against=AUTHORS),
        Procedure(name="ours-again", title="ours, again"),
    ]


def sweep_of(request: Request, procedure: Procedure) -> Sweep:
    """The sweep that measures the arms by this procedure; every procedure has the same rounds, however few the arms."""
    changed = {"few_arms": False, **dict(request.overrides), **procedure.changes}
    axes: dict[str, Any] = {
        "mechanism": request.mechanism, "reference": request.reference, "res": (request.res,),
        "batch": (request.batch,), "dim": (request.dim,), "heads": (request.heads,), "device": (request.device,),
        "threads": request.threads, "protocol": request.protocol, "measure": ("latency",), "seed": request.seed,
        "plugins": request.plugins, "overrides": tuple(changed.items()),
    }  # fmt: skip
    return Sweep(**{**axes, **procedure.axes})


def measure(
    request: Request, out: Path, *, progress: Callable[[str], None] = print, command: str = ""
) -> dict[str, Any]:
    """Measure the arms by every procedure, each into a run folder under `out`, and compare.

    Finished runs are not measured again: the same call resumes a study that was interrupted.

    Returns:
        Plain values, as protocols.json holds them.

    Raises:
        AttnbenchError: a request that cannot be served, a folder that cannot be used, or no arm beside the reference.
        Interrupted: Ctrl-C; the same call resumes.
    """
    made = procedures(request)
    sweeps = {p.name: sweep_of(request, p) for p in made}
    for sweep in sweeps.values():  # what cannot be served is refused before anything is measured
        planned, _ = runner.make_plan(sweep)
        arms = [c.variant for c in planned.cells if c.id not in planned.declined]
        if request.reference not in arms or len(arms) < 2:
            raise AttnbenchError(
                f"ratios need a reference and another arm; got reference={request.reference}, arms {', '.join(arms)}"
            )
    measured: dict[str, Measurement] = {}
    seconds: dict[str, float] = {}
    for number, p in enumerate(made, start=1):
        started = time.monotonic()
        progress(f"{number} of {len(made)}: {p.title}")
        folder = out / (p.samples_of or p.name)
        if not p.samples_of:
            runner.run(sweeps[p.name], folder, command=command)
        measured[p.name] = read_measurement(folder, request.reference, p)
        seconds[p.name] = time.monotonic() - started
    _lend_biases(measured)
    rows = [_compared(p, measured, seconds[p.name], request.seed) for p in made]
    return {
        "schema": SCHEMA,
        "kind": "protocols",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "attnbench": __version__,
        "command": command,
        "request": finite(asdict(request)),
        "environment": finite(environment.describe((request.device,))),
        "procedures": finite(rows),
    }


def read_measurement(folder: Path, reference: str, procedure: Procedure) -> Measurement:
    """The log times of a run's arms, the reference first.

    Raises:
        AttnbenchError: the run has not timed the reference and another arm.
    """
    run = open_run(folder)
    ok = {r.cell.variant: r.cell.id for r in run.records if r.outcome == "ok"}
    if reference not in ok or len(ok) < 2:
        raise AttnbenchError(
            f"ratios need {reference} and another arm; {folder} has timed {', '.join(ok) or 'none'}; "
            "`attnbench show` gives the reasons"
        )
    rounds = [r for of_group in read_rounds(folder).values() for r in of_group]
    arms = {reference: ok[reference], **ok}
    shared = procedure.changes.get("schedule", "interleaved") == "interleaved"
    return ranking.measurement(rounds, arms, mean=procedure.mean, shared=shared)


def _lend_biases(measured: dict[str, Measurement]) -> None:
    """Give each measurement of a single process the biases of others: the authors' of their two, else those of ours."""
    for names, lenders in (((AUTHORS, AGAIN), (AUTHORS, AGAIN)), (tuple(measured), (OURS, "ours-again"))):
        common = [arm for arm in measured[names[0]].arms if all(arm in measured[n].arms for n in lenders)]
        biases = ranking.process_biases(*(measured[name].of(common) for name in lenders))
        for name in names:
            found = measured[name]
            if len(found.logs) == 1 and found.biases is None and biases is not None:
                kept = [arm for arm in common if arm in found.arms]
                columns = biases[:, [common.index(arm) for arm in kept]]
                measured[name] = replace(found.of(kept), biases=columns)


def _compared(procedure: Procedure, measured: Mapping[str, Measurement], seconds: float, seed: int) -> dict[str, Any]:
    """A procedure's ratios, and how they differ from those of the procedure that it is compared with."""
    row: dict[str, Any] = {
        "name": procedure.name, "title": procedure.title, "seconds": seconds,
        "changes": {**procedure.changes, **procedure.axes, **({"statistic": "mean"} if procedure.mean else {})},
    }  # fmt: skip
    there = measured[procedure.name]
    if procedure.name == OURS:
        return {**row, "against": None, "ratios": _ratios(there)}
    here = measured[procedure.against]
    common = [arm for arm in here.arms if arm in there.arms]
    here, there, paired = here.of(common), there.of(common), procedure.samples_of == procedure.against
    found = ranking.moves(here, there, paired=paired)
    most = max(found, key=_size)
    changed, pairs = ranking.swapped(here, there)
    return {
        **row, "against": procedure.against, "ratios": _ratios(there), "moves": [asdict(m) for m in found],
        "median_move": median(_size(m) for m in found), "greatest_move": most.estimate - 1, "greatest_arm": most.arm,
        "moved": ranking.count_moved(found), "tau": asdict(ranking.tau(here, there, paired=paired, seed=seed)),
        "swapped": changed, "pairs": pairs,
    }  # fmt: skip


def _ratios(found: Measurement) -> dict[str, float]:
    return {arm: math.exp(speed) for arm, speed in zip(found.arms, found.speeds(), strict=True)}


def _size(move: Move) -> float:
    """How far a ratio moved, up or down alike: 1.25 and 0.8 are 25 %."""
    return max(move.estimate, 1 / move.estimate) - 1
