"""Prove the CUDA paths with one command, where there is a GPU; on the CPU, run the same steps as far as they apply.

    make gpu-proof                                   # on the first GPU, into reports/local/proof-cuda
    make gpu-proof DEVICE=cpu
    python benchmarks/gpu_proof.py --steps quick,late --hours 0.5
    python benchmarks/gpu_proof.py --reference       # the published tables' cells too, and the report of them

Every step is a process of its own that may take 8 minutes (a published table as long as there is time); what it
leaves lies in the output folder: run folders, a log, its result. A step that has its result is not repeated, and a run
that was cut off is resumed: repeat the command until `proof.md` has a verdict for every question. Exit codes: 0 nothing
refuted, 1 something refuted, 2 usage or no such device, 3 some steps are not finished.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from proof import check, tool_steps
from proof.check import Check, Result
from proof.context import ROOT, Context, die_with_parent

LIMIT_S = 480.0
REFERENCE = tuple(sorted(file.stem for file in (ROOT / "benchmarks" / "reference").glob("*.toml")))


def _probe(name: str, context: Context) -> list[Check]:
    from proof import probes  # with torch, which only these steps need

    return getattr(probes, name)(context)


def _company(mode: str, context: Context) -> list[Check]:
    from proof import company

    return company.company(context, mode)


STEPS: dict[str, Callable[[Context], list[Check]]] = {
    "doctor": tool_steps.doctor,
    "quick": tool_steps.quick,
    "late": tool_steps.late,
    "hang": tool_steps.hang,
    "oom": tool_steps.oom,
    **{f"company-{mode}": partial(_company, mode) for mode in ("forward", "train", "paper")},
    "paper": tool_steps.paper,
    **{name: partial(_probe, name) for name in ("queue", "cold", "depthwise", "conditions", "compiled")},
    "errors-fp32": partial(tool_steps.errors, precision="fp32", most=1e-5),
    "errors-bf16": partial(tool_steps.errors, precision="bf16", most=3e-2),
    "train": tool_steps.train,
    "flex": tool_steps.flex,
    "recompile": tool_steps.recompile,
    "compile": tool_steps.compile_all,
    "energy": tool_steps.energy,
    "graphs": tool_steps.graphs,
    "second": tool_steps.second,
    **{f"layers-{res}": partial(tool_steps.layers, res=res) for res in ("224", "512")},
    "tests": tool_steps.tests,
}
REFERENCES: dict[str, Callable[[Context], list[Check]]] = {
    f"reference-{name}": partial(tool_steps.reference, name=name) for name in REFERENCE
}


def arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu. [cuda]")
    parser.add_argument("--out", type=Path, help="the output folder. [reports/local/proof-DEVICE]")
    parser.add_argument("--steps", metavar="LIST", help=f"some of: {', '.join(STEPS)}. [all]")
    parser.add_argument("--hours", type=float, default=2.0, help="stop after so many hours. [2]")
    parser.add_argument("--size", choices=("tiny", "full"), help="of layers and runs. [full; tiny on the CPU]")
    parser.add_argument("--memory", default="24GiB", metavar="SIZE", help="the GPU memory to emulate. [24GiB]")
    parser.add_argument("--reference", action="store_true", help="also measure the published tables' cells.")
    parser.add_argument("--again", metavar="LIST", default="", help="steps to repeat although they have a result.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.size = given.size or ("tiny" if given.device.startswith("cpu") else "full")
    given.out = (given.out or ROOT / "reports" / "local" / f"proof-{given.device.replace(':', '-')}").resolve()
    for name in [*_words(given.steps), *_words(given.again), *_words(given.one)]:
        if name not in {**STEPS, **REFERENCES}:
            parser.error(f"a step is one of {', '.join([*STEPS, *REFERENCES])}; got {name!r}")
    return given


def main() -> None:
    """Run the steps that have no result yet, then write the table; ends with the exit code."""
    given = arguments()
    if given.one:
        one(given)
        return
    title = _title(given.device)
    chosen = _words(given.steps) or list(STEPS)
    chosen += [name for name in REFERENCES if given.reference and name not in chosen]
    end = time.monotonic() + given.hours * 3600
    results = []
    for name in chosen:
        path = _path(given.out, name)
        known = check.read(path)
        if known is None or not known.finished or name in _words(given.again):
            _in_a_process(given, name, end)
            known = check.read(path) or _open(name, f"it gave no result; see {given.out / 'logs' / name}.log")
        print(f"{name}: {'; '.join(f'{c.name}: {c.verdict} ({c.seen})' for c in known.checks)}", flush=True)
        results.append(known)
    if given.reference:
        _report(given.out)
    head = [f"`{given.device}`: {title}; sizes {given.size}; memory emulated {given.memory}.", _version()]
    page = given.out / "proof.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(check.table(results, head))
    print(page)
    verdicts = {c.verdict for result in results for c in result.checks}
    sys.exit(1 if check.REFUTED in verdicts else 3 if check.UNFINISHED in verdicts else 0)


def one(given: argparse.Namespace) -> None:
    """One step, in this process; its result goes to the disk."""
    context = Context(
        device=given.device, out=given.out, tiny=given.size == "tiny", memory=given.memory, fresh=given.fresh,
        step=given.one,
    )  # fmt: skip
    start = time.monotonic()
    checks = tuple({**STEPS, **REFERENCES}[given.one](context))
    result = Result(
        step=given.one, checks=checks, commands=tuple(context.commands), seconds=time.monotonic() - start,
        device=given.device,
    )  # fmt: skip
    result.write(_path(given.out, given.one))


def _in_a_process(given: argparse.Namespace, name: str, end: float) -> None:
    """One step in a session of its own, killed with all that it started when its time is over."""
    left = end - time.monotonic()
    _path(given.out, name).unlink(missing_ok=True)
    if left <= 0:
        _open(name, f"the {given.hours:g} hours were over").write(_path(given.out, name))
        return
    limit = left if name in REFERENCES else min(LIMIT_S, left)
    words = ["--device", given.device, "--out", str(given.out), "--size", given.size, "--memory", given.memory]
    words += ["--fresh"] if name in _words(given.again) else []
    log = given.out / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *words, "--one", name],
            stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            process.wait(limit)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            _open(name, f"not done in {limit:.0f} s; run the same command again").write(_path(given.out, name))


def _open(name: str, reason: str) -> Result:
    return Result(step=name, checks=(check.unfinished("the step", "a result", reason),))


def _path(out: Path, name: str) -> Path:
    return out / "steps" / f"{name}.json"


def _title(device: str) -> str:
    """The device's name; ends with 2 and the reason where it cannot be opened."""
    code = "import sys; from attnbench.machine.devices import open_device; print(open_device(sys.argv[1]).title())"
    done = subprocess.run([sys.executable, "-c", code, device], capture_output=True, text=True)
    if done.returncode:
        print((done.stderr.strip().splitlines() or ["the device cannot be opened"])[-1], file=sys.stderr)
        sys.exit(2)
    return done.stdout.strip()


def _version() -> str:
    import importlib.metadata

    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    commit = git.stdout.strip()[:12] if not git.returncode else "unknown"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("attnbench", "torch"))
    return f"{versions}, commit {commit}."


def _report(out: Path) -> None:
    runs = sorted(str(folder.parent) for folder in (out / "runs").glob("reference-*/records.jsonl"))
    if runs:
        subprocess.run([sys.executable, "-m", "attnbench", "report", *runs, "--out", str(out / "report")], check=False)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


if __name__ == "__main__":
    main()
