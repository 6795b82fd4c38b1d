"""Compare attnbench's median time with that of torch.utils.benchmark, for the same layer, threads and precision.

The two measure alternately, in fresh processes with the pinned allocator; the table gives the median of the ratios
of the pairs. PyTorch stops by its own rule (`blocked_autorange`).
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

TORCH_TIMER = """
import itertools, json, sys, torch, attnbench
from torch.utils.benchmark import Timer
name, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
layer = attnbench.build(name).eval()
inputs = itertools.cycle([torch.randn(batch, 14, 14, 768) for _ in range(3)])  # in turn, as attnbench does
with torch.inference_mode():
    timer = Timer("layer(next(inputs))", globals={"layer": layer, "inputs": inputs}, num_threads=threads)
    print(json.dumps(timer.blocked_autorange(min_run_time=2.0).median))
"""


def torch_timer_s(name: str, batch: int, threads: int) -> float:
    """The median seconds of one call by torch.utils.benchmark."""
    command = [sys.executable, "-c", TORCH_TIMER, name, str(batch), str(threads)]
    done = subprocess.run(command, env={**os.environ, **PINNED}, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def attnbench_s(name: str, batch: int, threads: int, seed: int) -> float:
    """The median seconds of one call by attnbench."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(
            mechanism=(name,), reference="none", batch=(batch,), threads=(threads,), measure=("latency",), seed=seed
        )
        return float(open_run(run(sweep, Path(folder) / "r")).records[0].values["latency_s"])


def main() -> None:
    """Print one row for each layer and batch."""
    threads = default_threads()
    print("layer    batch   attnbench   torch       attnbench / torch (median of 5 pairs)")
    for name in ("msa", "sra", "window", "hilo"):
        for batch in (1, 8):
            pairs = [(attnbench_s(name, batch, threads, n), torch_timer_s(name, batch, threads)) for n in range(5)]
            a, b = (median(p[i] for p in pairs) for i in (0, 1))
            ratio = median(x / y for x, y in pairs)
            print(f"{name:8} {batch:5}   {a * 1e3:7.3f} ms  {b * 1e3:7.3f} ms  {ratio:.4f}", flush=True)


if __name__ == "__main__":
    main()
