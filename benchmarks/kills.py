"""Kill the process group of a run at random times and resume it, many times; then check its records.

python benchmarks/kills.py [--kills 20]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attnbench.results.store import open_run

ARGUMENTS = [
    "-m", "msa,sra,window,hilo", "--res", "224,384", "--batch", "1,2", "--protocol", "quick", "--quiet", "--out", "r",
]  # fmt: skip


def main() -> None:
    """Print the state after each kill; exit with code 1 if a record is lost, duplicated or changed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=12.0, help="maximum seconds before a kill")
    given = parser.parse_args()
    rng, intact = random.Random(given.seed), True
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "r" / "records.jsonl"
        command = [sys.executable, "-m", "attnbench", "run", *ARGUMENTS]
        for number in range(given.kills):
            before = records.read_bytes() if records.exists() else b""
            child = subprocess.Popen(command, cwd=folder, start_new_session=True)
            time.sleep(rng.uniform(0.2, given.longest))
            exit_code = child.poll()
            if exit_code is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            now = records.read_bytes() if records.exists() else b""
            kept = before[: before.rfind(b"\n") + 1]
            same, count = now.startswith(kept), now.count(b"\n")
            intact &= same
            state = "killed" if exit_code is None else "already finished"
            print(f"{number + 1:2} {state}: {count} records, earlier ones unchanged: {same}")
        code = subprocess.run(command, cwd=folder, check=False).returncode
        run = open_run(Path(folder) / "r")
        ids, planned = [r.cell.id for r in run.records], [c.id for c in run.cells]
        lines = records.read_bytes().count(b"\n")
        intact &= sorted(ids) == sorted(planned) and lines == len(planned) and code == 0
        print(f"at the end: {lines} lines, {len(set(ids))} cells of {len(planned)} planned, exit {code}")
    sys.exit(0 if intact else 1)


if __name__ == "__main__":
    main()
