"""The share of a run's wall time outside the layers' calls, and where it goes.

    python benchmarks/overhead.py [--scope layers|models|all] [--protocol standard] [--keep FOLDER]

A sweep of four layers at batch 8, and one of three whole models at 224 px and batch 1, each started as a user does; the
clock starts before Python. Primers are calls of the layers; their share stands apart. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnbench.results.events import Event, Round, SessionEnd, Trial
from attnbench.results.store import read_events

SWEEPS: Mapping[str, Sequence[str]] = {
    "layers": ("-m", "msa,sra,window,hilo", "--batch", "8"),
    "models": ("--backbone", "litv2_s,litv1_s,lightvit_t", "--reference", "litv2_s", "--res", "224", "--batch", "1"),
}


def phases(wall_s: float, events: Sequence[Event]) -> dict[str, float]:
    """Seconds of each part of a run of one session; all but the first two are outside the layers' calls.

    Args:
        wall_s: of the whole command.
        events: the run's journal.
    """
    trials = [e for e in events if isinstance(e, Trial)]
    rounds = [e for e in events if isinstance(e, Round)]
    session_s, forward_s = next((e.seconds, e.forward_s) for e in events if isinstance(e, SessionEnd))
    primer_s = math.fsum(r.primer_s for r in rounds)
    timed_s = math.fsum(turn.host_s * len(turn.calls_s) for r in rounds for turn in (*r.turns, *r.alone))
    trials_s, rounds_s = math.fsum(t.job_s for t in trials), math.fsum(r.seconds for r in rounds)
    trials_forward_s = math.fsum(t.forward_s for t in trials)
    first_calls_s = forward_s - trials_forward_s - primer_s - timed_s
    return {
        "timed calls, first calls and those of trials": forward_s - primer_s,
        "primers": primer_s,
        "Python, imports, plan, table": wall_s - session_s,
        "inside trials": trials_s - trials_forward_s,
        "inside rounds: inputs, checks, canaries, conditions": rounds_s - primer_s - timed_s,
        "processes, building, ceilings, counts, journal": session_s - trials_s - rounds_s - first_calls_s,
    }


def measure(name: str, protocol: str, folder: Path) -> str:
    """Run a sweep; its wall time, and a line for each part with its share."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "attnbench", "run", *SWEEPS[name], "--device", "cpu", "--protocol", protocol]
    subprocess.run([*command, "--quiet", "--out", str(folder)], check=True)
    wall_s = time.perf_counter() - start
    parts = phases(wall_s, read_events(folder))
    outside_s = math.fsum(list(parts.values())[2:])
    lines = [f"{name}, {protocol}: {wall_s:.1f} s, {outside_s / wall_s:.1%} of it outside the layers' calls"]
    return "\n".join(lines + [f"  {seconds:6.2f} s {seconds / wall_s:6.1%}  {part}" for part, seconds in parts.items()])


def main() -> None:
    """Print the parts of each sweep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scope", choices=[*SWEEPS, "all"], default="all")
    parser.add_argument("--protocol", default="standard")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run folders there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in SWEEPS if given.scope == "all" else [given.scope]:
            print(measure(name, given.protocol, (given.keep or Path(temporary)) / name), flush=True)


if __name__ == "__main__":
    main()
