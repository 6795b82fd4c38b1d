"""What the arms of a comparison hold between their turns, and whether one that fits alone is lost among them.

A forked child times a whole comparison group as a worker does, and counts what is allocated after each round beyond
weights and inputs. Arms that it drops are tried alone in a child of their own.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from attnbench import registry
from attnbench.execution import perform
from attnbench.execution.jobs import TimingJob, TrialJob, to_line
from attnbench.execution.status_file import StatusFile
from attnbench.execution.timing import Timing
from attnbench.planning.cell import Cell
from attnbench.planning.sizes import size_bytes
from attnbench.planning.sweep import Sweep, plan
from attnbench.results.events import Dropped, Event, Failure, Round, Trial
from proof.check import Check, check
from proof.context import Context

Say = Callable[[dict[str, Any]], None]
SPARE = 64 << 20  # bytes of tables, workspaces and rounding that arms may hold


def company(context: Context, mode: str) -> list[Check]:
    """The group of every layer, in `mode`: `forward`, `train`, or `paper` (a forward pass that autograd records)."""
    sweep = Sweep(
        mechanism=("msa", "hilo", "window") if context.tiny else (),
        device=(context.device,),
        res=((64, 64),) if context.tiny else ((512, 512),) if mode != "paper" else ((224, 224),),
        batch=(1,) if context.tiny else (64,),
        dim=(24,) if context.tiny else (768,),
        heads=(3,) if context.tiny else (12,),
        pass_=("train" if mode == "train" else "forward",),
    )
    known = registry.load(entry_points=False)
    made = plan(sweep, known, threads=torch.get_num_threads())
    cells = [c for c in made.cells if c.id not in made.declined]
    limit = 0 if context.on_cpu else size_bytes(context.memory)
    job = TimingJob(
        cells=tuple(cells), group=cells[0].group, process=0, calls={c.id: 3 for c in cells}, first_round=0, rounds=2,
        prime_s=0.02, inference=mode != "paper", memory_limit=limit,
    )  # fmt: skip
    said = forked(lambda say: _time(job, say))
    rounds = [line for line in said if line["event"] == "round"]
    lost = [line["cell"] for line in said if line["event"] == "dropped"]
    held = max((line["held"] for line in rounds), default=0)
    beyond = max((line["held"] - line["inputs"] for line in rounds), default=0)
    names = f"{mode}, {len(cells)} layers, limit {context.memory if limit else 'none'}"
    seen = f"{held / 2**20:.0f} MiB beyond weights after {len(rounds)} rounds" if rounds else f"no round: {said[-1:]}"
    fits = [c.variant for c in cells if c.id in lost and _fits_alone(c, mode, limit)]
    lost_names = ", ".join(c.variant for c in cells if c.id in lost) or "none"
    return [
        check(f"held between turns: {names}", f"at most {SPARE >> 20} MiB beyond weights and inputs", seen,
              bool(rounds) and beyond <= SPARE),
        check(f"lost in company: {names}", "nothing that fits alone",
              f"lost: {lost_names}; of them fit alone: {', '.join(fits) or 'none'}", bool(rounds) and not fits),
    ]  # fmt: skip


def _time(job: TimingJob, say: Say) -> None:
    status = StatusFile()
    status.reset()
    before = allocated(job.cells[0].device)
    timing: list[Timing] = []

    def hear(event: Event) -> None:
        if isinstance(event, Round):
            weights = sum(arm.weights_bytes for arm in timing[0].arms)
            on_cpu = job.cells[0].device.startswith("cpu")  # the originals and their copy lie together
            inputs = sum(x.nbytes for x in timing[0].inputs.originals) * (2 if on_cpu else 1)
            held = allocated(job.cells[0].device) - before - weights
            say({"event": "round", "held": held, "inputs": inputs, "arms": len(event.turns)})
        elif isinstance(event, Dropped):
            say({"event": "dropped", "cell": event.cell, "outcome": event.outcome, "reason": event.reason})

    timing.append(Timing(job, status, hear))
    timing[0].run()


def _fits_alone(cell: Cell, mode: str, limit: int) -> bool:
    job = TrialJob(cell=cell, inference=mode != "paper", memory_limit=limit)

    def work(say: Say) -> None:
        status = StatusFile()
        status.reset()

        def hear(event: Event) -> None:
            if isinstance(event, Trial | Failure):
                say({"event": type(event).__name__})

        perform.do(to_line(job), os.dup(status.descriptor), hear)

    return any(line["event"] == "Trial" for line in forked(work))


def allocated(device: str) -> int:
    """Bytes in use on the device: by its allocator, or on the CPU by all tensors that Python can reach."""
    if not device.startswith("cpu"):
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def forked(work: Callable[[Say], None]) -> list[dict[str, Any]]:
    """Do `work` in a forked child; what it said, and how it ended if that was by an error."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)

        def say(line: dict[str, Any]) -> None:
            os.write(write, (json.dumps(line) + "\n").encode())

        try:
            work(say)
        except BaseException as error:  # the child ends here, whatever it was
            say({"event": "ended", "reason": f"{type(error).__name__}: {error}"[:300]})
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        lines: Sequence[dict[str, Any]] = [json.loads(line) for line in file]
    os.waitpid(child, 0)
    return list(lines)
