"""Compare our medians with torch.utils.benchmark's on the same layer, threads and precision.

Both measure in turn in fresh processes with the pinned allocator, several times over; the ratio of the two is
taken pair by pair. `adaptive` is PyTorch's own stopping rule.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from attnbench import Sweep, run
from attnbench.execution.fork_server import PINNED
from attnbench.machine.environment import default_threads
from attnbench.results.store import open_run

THEIRS = """
import itertools, json, sys, torch, attnbench
from torch.utils.benchmark import Timer
name, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
layer = attnbench.build(name).eval()
inputs = itertools.cycle([torch.randn(batch, 14, 14, 768) for _ in range(3)])  # in turn, as ours
with torch.inference_mode():
    timer = Timer("layer(next(inputs))", globals={"layer": layer, "inputs": inputs}, num_threads=threads)
    print(json.dumps(timer.blocked_autorange(min_run_time=2.0).median))
"""


def theirs(name: str, batch: int, threads: int) -> float:
    """PyTorch's median seconds."""
    words = [sys.executable, "-c", THEIRS, name, str(batch), str(threads)]
    done = subprocess.run(words, env={**os.environ, **PINNED}, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def ours(name: str, batch: int, threads: int, seed: int) -> float:
    """Our median seconds."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(
            mechanism=(name,), reference="none", batch=(batch,), threads=(threads,), measure=("latency",), seed=seed
        )
        return float(open_run(run(sweep, Path(folder) / "r")).records[0].values["latency_s"])


def main() -> None:
    """Print a table."""
    threads = default_threads()
    print("layer    batch   ours        torch's     ours / torch's (median of 5 pairs)")
    for name in ("msa", "sra", "window", "hilo"):
        for batch in (1, 8):
            pairs = [(ours(name, batch, threads, n), theirs(name, batch, threads)) for n in range(5)]
            a, b = (median(p[i] for p in pairs) for i in (0, 1))
            ratio = median(x / y for x, y in pairs)
            print(f"{name:8} {batch:5}   {a * 1e3:7.3f} ms  {b * 1e3:7.3f} ms  {ratio:.4f}", flush=True)


if __name__ == "__main__":
    main()
