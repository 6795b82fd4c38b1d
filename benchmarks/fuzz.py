"""Feed 10,000 wrong and nearly right inputs to the command line, and damaged run folders to what reads them.

python benchmarks/fuzz.py [--inputs 10000] [--folders 0] [--reports-every 50] [--seed 0]

The strategies are those of tests/fuzz, the damage that of tests/support/damage.py. Each input runs in a child process
with a limit on time and memory; the child is replaced when it exceeds one. Printed: how many were accepted, how many
refused with a sentence, and every traceback, hang, silent nonsense (what was accepted is not what was typed) and excess
of memory, with the input. Exit code 1 if there was any of these.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIME_S, START_S, MEMORY_BYTES = 10.0, 120.0, 1 << 30
BATCH = 100
DOORS = ("options", "sweep", "plugin", "other", "checkpoint")
REPORT_S = 60.0  # `report` draws its figures: tens of seconds on a busy machine
RUN = str(Path("reports", "runs", "small"))  # a healthy run, where the commands look for one
READING = ("show", "export", "export-json", "compare", "compare-arms", "claims", "recommend")


def main() -> None:
    """Print the counts and the faults; exit with code 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--folders", type=int, default=0, help="damaged run folders; each is read by every command")
    parser.add_argument("--reports-every", type=int, default=50, help="of how many folders `report` draws one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("DOOR", "START"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path[0] = str(ROOT / "tests")  # where the package `fuzz` is; this file's own folder has a module of that name
    if given.child:
        child(given.child[0], int(given.child[1]), given)
        return
    counts = share(given.inputs)
    if given.folders:
        counts["folders"] = given.folders
    faults = 0
    for door, number in counts.items():
        faults += supervise(door, number, given)
    sys.exit(1 if faults else 0)


def share(inputs: int) -> dict[str, int]:
    """How many of the inputs each door gets: half the options, the rest in equal parts."""
    rest = inputs // 2 // (len(DOORS) - 1)
    return {DOORS[0]: inputs - rest * (len(DOORS) - 1), **dict.fromkeys(DOORS[1:], rest)}


def supervise(door: str, number: int, given: argparse.Namespace) -> int:
    """Run the inputs of one door in children; print its counts and faults; returns the number of faults."""
    tally: Counter[str] = Counter()
    faults: list[str] = []
    next_one, peak, began, shown = 0, 0, time.monotonic(), "its start"
    while next_one < number:
        command = [sys.executable, __file__, "--child", door, str(next_one), "--inputs", str(number)]
        command += ["--seed", str(given.seed), "--reports-every", str(given.reports_every)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment()) as process:
            for line in lines_in_time(process):
                if "begun" in line:
                    next_one, shown = line["begun"] + 1, line["input"]
                    continue
                tally[line["outcome"]] += 1
                peak = max(peak, line["peak_bytes"])
                if line["outcome"] not in ("accepted", "refused"):
                    faults.append(f"{line['outcome']}: {line['why']}\n    {line['input']}")
                    print(f"  {faults[-1]}", flush=True)
            ended = process.returncode
        if ended and shown == "its start":
            sys.exit(f"the child for {door} does not start")
        if ended:
            what = "hang" if ended == -signal.SIGALRM else f"the process ended with {ended}"
            tally["hang" if ended == -signal.SIGALRM else "killed"] += 1
            faults.append(f"{what}\n    {shown}")
            print(f"  {faults[-1]}", flush=True)
    words = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()))
    seconds = time.monotonic() - began
    print(f"{door}: {number} inputs: {words}; peak memory {peak / 2**20:.0f} MiB; {seconds:.0f} s", flush=True)
    if peak > MEMORY_BYTES:
        faults.append("memory")
        print(f"  memory: more than {MEMORY_BYTES >> 20} MiB", flush=True)
    return len(faults)


def environment() -> dict[str, str]:
    """One thread, a cache of its own, and no plugin that is installed here."""
    cache = os.environ.get("ATTNBENCH_CACHE_DIR", tempfile.gettempdir() + "/attnbench-fuzz-cache")
    return {**os.environ, "OMP_NUM_THREADS": "1", "ATTNBENCH_DISABLE_PLUGINS": "1", "ATTNBENCH_CACHE_DIR": cache,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "MPLBACKEND": "agg"}  # fmt: skip


def lines_in_time(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The child's lines; a child that is silent for longer than its input may take is ended, as a hang."""
    assert process.stdout is not None
    buffer, limit = b"", START_S
    while True:
        ready, _, _ = select.select([process.stdout], [], [], limit)
        if not ready:
            process.send_signal(signal.SIGALRM)  # its default action ends it, also inside of C code
            process.wait()
            return
        data = os.read(process.stdout.fileno(), 1 << 16)
        if not data:
            process.wait()
            return
        *whole, buffer = (buffer + data).split(b"\n")
        for raw in whole:
            line = json.loads(raw)
            limit = line.get("limit_s", START_S)
            yield line


def child(door: str, start: int, given: argparse.Namespace) -> None:
    """Try the inputs of a door from number `start` on; one line for each when it begins and when it has ended."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a command or a library writes to the descriptor is no result
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder)
        attempts = folders(folder, given) if door == "folders" else inputs_of(door, folder, given.seed)
        for number in range(given.inputs):
            rng = random.Random(f"{given.seed} {door} {number}")
            for limit_s, shown, attempt in attempts(rng, number):
                if number < start:  # of a child that ended
                    continue
                begun = {"begun": number, "input": shown[:2000], "limit_s": 2 * limit_s + 10.0}
                print(json.dumps(begun), file=results, flush=True)
                outcome, why = within(limit_s, attempt)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                line = {"outcome": outcome, "why": why, "input": shown[:2000], "peak_bytes": peak}
                print(json.dumps(line), file=results, flush=True)


def warm_up(folder: Path) -> None:
    """Import what the commands import, so that the first input pays for it no more than the others."""
    from support.damage import small_run
    from support.in_process import run_command

    small_run(folder / RUN)
    for words in (["plan", "-m", "msa"], ["recommend", "--res", "224"], ["export", RUN], ["show", "msa"]):
        run_command(words, folder)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, resource.RLIM_INFINITY))  # beyond: a MemoryError


class Late(BaseException):
    """The time of an input is over."""


def within(limit_s: float, attempt: Callable[[], tuple[str, str]], tries: int = 2) -> tuple[str, str]:
    """The outcome of an attempt; `hang` where it took longer than its limit twice, for the machine may be busy."""

    def late(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    began = time.monotonic()
    try:
        outcome = attempt()
    except Late:
        outcome = ("hang", f"more than {limit_s:.0f} s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if time.monotonic() - began < limit_s:  # a plugin's code, or what guards against it, may have caught the exception
        return outcome
    return within(limit_s, attempt, tries - 1) if tries > 1 else ("hang", f"more than {limit_s:.0f} s")


Attempt = tuple[float, str, Callable[[], tuple[str, str]]]


def inputs_of(door: str, folder: Path, seed: int) -> Callable[[random.Random, int], Iterator[Attempt]]:
    """The attempts of one door: a generator of them for a number."""
    from fuzz import grammar
    from support.in_process import Ended, fault, run_command

    from attnbench.commands import plan
    from attnbench.registry import registry

    plan._ceiling = lambda name: 1e11  # a measurement, which is no part of reading

    def judged(ended: Ended, words: list[str]) -> tuple[str, str]:
        wrong = fault(ended)
        if wrong:
            return "traceback" if "traceback" in wrong else "wrong end", wrong
        if ended.code == 0 and words[0] == "plan":
            nonsense = grammar.wrong(words[1:], json.loads(ended.out))
            if nonsense:
                return "nonsense", nonsense
        return ("accepted" if ended.code in (0, 1) else "refused"), ""

    def command(words: list[str]) -> tuple[str, str]:
        here, variables = os.getcwd(), dict(os.environ)
        try:
            outcome = judged(run_command([*words, *(["--json"] if words[0] == "plan" else [])], folder), words)
        finally:
            registry._loaded.clear()
        if os.getcwd() != here or dict(os.environ) != variables:
            return "nonsense", "the process was changed"
        return outcome

    def checkpoint(data: bytes) -> tuple[str, str]:
        return read_checkpoint(folder / "weights.pth", data)

    drawn = examples(strategy_of(door), f"{seed} {door}")

    def attempts(_: random.Random, number: int) -> Iterator[Attempt]:
        value = next(drawn)
        if door == "options":
            yield TIME_S, repr(value), lambda: command(["plan", *value])
        elif door == "other":
            yield TIME_S, repr(value), lambda: command(value)
        elif door == "sweep":
            (folder / "s.toml").write_bytes(value.encode("utf-8", "surrogatepass"))
            yield TIME_S, repr(value), lambda: command(["plan", "--sweep", "s.toml"])
        elif door == "plugin":
            file = f"odd_{number}.py"
            (folder / file).write_text(value)
            yield TIME_S, value, lambda: command(["plan", "--mechanism", "msa,odd", "--plugin", file])
        else:
            yield TIME_S, repr(value), lambda: checkpoint(value)

    return attempts


def strategy_of(door: str) -> Any:
    """The strategy of tests/fuzz whose values go through a door."""
    from fuzz import strategies
    from hypothesis import strategies as st

    return {
        "options": strategies.command_lines,
        "sweep": strategies.sweep_files,
        "plugin": strategies.plugins,
        "checkpoint": lambda: strategies.checkpoint_bytes(save),
        "other": lambda: other_commands(strategies, st),
    }[door]()


def examples(strategy: Any, seed: str) -> Iterator[Any]:
    """Endless examples of a hypothesis strategy, the same for the same seed; it draws a batch at a time."""
    for batch in itertools.count():
        yield from draw_batch(strategy, f"{seed} {batch}")


def draw_batch(strategy: Any, seed: str) -> list[Any]:
    """At most `BATCH` examples."""
    import hypothesis

    drawn: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=BATCH, phases=[hypothesis.Phase.generate], database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def draw(value: Any) -> None:
        drawn.append(value)

    draw()
    return drawn[:BATCH]


def other_commands(strategies: Any, st: Any) -> Any:
    """Words of the commands beside `plan` that read options; none of them measures."""
    odd, whole, size = strategies.ODD_TEXT, strategies.WHOLE, strategies.SIZE
    run = strategies.mostly(st.just(RUN))
    return st.one_of(
        st.tuples(st.just("show"), st.one_of(odd, strategies.VARIANT)),
        st.tuples(st.just("show"), st.just("--plugin"), odd, strategies.VARIANT),
        st.tuples(st.just("list"), st.one_of(odd, st.sampled_from(["protocols", "suites"]))),
        st.tuples(st.just("recommend"), st.just("--res"), strategies.RESOLUTION, st.just("--batch"), whole),
        st.tuples(st.just("recommend"), st.just("--res"), st.just("224"), st.just("--memory"), size),
        st.tuples(st.just("recommend"), st.just("--res"), st.just("224"), st.just("--device"), strategies.DEVICE),
        st.tuples(st.just("claims"), st.just("--claim"), odd),
        st.tuples(st.just("recommend"), st.just("--res"), st.just("224"), st.just("--dim"), whole),
        st.tuples(st.just("compare"), run, run, st.just("--margin"), strategies.NUMBER),
        st.tuples(st.just("compare"), run, st.just("--arms"), strategies.listed(strategies.VARIANT)),
        st.tuples(st.just("export"), run, st.just("--format"), st.one_of(odd, st.just("csv"), st.just("json"))),
        st.tuples(st.just("show"), run),
        st.tuples(st.just("new"), odd, st.just("--out"), st.just("/dev/full/x")),
        st.tuples(st.just("completion"), odd),
        st.tuples(odd, odd),
    ).map(list)


def save(buffer: io.BytesIO, old: bool) -> None:
    """A healthy checkpoint of a linear layer with two inputs and outputs."""
    import torch

    torch.manual_seed(0)
    torch.save(torch.nn.Linear(2, 2).state_dict(), buffer, _use_new_zipfile_serialization=not old)


def read_checkpoint(path: Path, data: bytes) -> tuple[str, str]:
    """Load a checkpoint of these bytes; what was accepted must be finite, what was refused must change nothing."""
    import torch

    from attnbench.errors import AttnbenchError
    from attnbench.registry.checkpoints import load_weights

    path.write_bytes(data)
    module = torch.nn.Linear(2, 2)
    before = [parameter.clone() for parameter in module.parameters()]
    try:
        load_weights(module, path)
    except AttnbenchError:
        same = all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
        return ("refused", "") if same else ("nonsense", "refused, and the module has changed")
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"[:200]
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())
    return ("accepted", "") if finite else ("nonsense", "weights that are not finite were accepted")


def folders(folder: Path, given: argparse.Namespace) -> Callable[[random.Random, int], Iterator[Attempt]]:
    """The attempts of a damaged run folder: every command that reads one, `report` for some."""
    from support.damage import damaged
    from support.in_process import fault, run_command

    healthy = folder / RUN

    def read(words: list[str]) -> tuple[str, str]:
        ended = run_command(words, folder)
        wrong = fault(ended)
        if wrong:
            return "traceback" if "traceback" in wrong else "wrong end", wrong
        return ("accepted" if ended.code in (0, 1) else "refused"), ""

    def attempts(rng: random.Random, number: int) -> Iterator[Attempt]:
        target = folder / "damaged"
        shutil.rmtree(target, ignore_errors=True)
        said = damaged(healthy, target, rng.randrange(1 << 62))
        reading = [*READING, *(["report"] if number % given.reports_every == 0 else [])]
        for name in reading:
            words = {
                "export-json": ["export", "damaged", "--format", "json"],
                "compare": ["compare", RUN, "damaged"],
                "compare-arms": ["compare", "damaged", "--arms", "msa,hilo"],
                "recommend": ["recommend", "damaged", "--res", "224"],
                "report": ["report", "damaged", "--out", "drawn"],
            }.get(name, [name, "damaged"])
            limit_s = REPORT_S if name == "report" else TIME_S
            yield limit_s, f"{' '.join(words)}: {said}", lambda words=words: read(words)
        shutil.rmtree(folder / "drawn", ignore_errors=True)

    return attempts


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
