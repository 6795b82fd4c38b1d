"""Kill a run's whole process group at random moments, again and again; then look at what is there.

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

WORDS = [
    "-m",
    "msa,sra,window,hilo",
    "--res",
    "224,384",
    "--batch",
    "1,2",
    "--protocol",
    "quick",
    "--quiet",
    "--out",
    "r",
]


def main() -> None:
    """Print what was found; exit 1 if a record is lost, doubled or changed."""
    options = argparse.ArgumentParser()
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--longest", type=float, default=12.0, help="seconds before a kill, at most")
    given = options.parse_args()
    dice, sound = random.Random(given.seed), True
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "r" / "records.jsonl"
        command = [sys.executable, "-m", "attnbench", "run", *WORDS]
        for number in range(given.kills):
            before = records.read_bytes() if records.exists() else b""
            child = subprocess.Popen(command, cwd=folder, start_new_session=True)
            time.sleep(dice.uniform(0.2, given.longest))
            ended = child.poll()
            if ended is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            now = records.read_bytes() if records.exists() else b""
            kept = before[: before.rfind(b"\n") + 1]
            sound &= now.startswith(kept)
            state = "had ended" if ended is not None else "killed"
            same = now.startswith(kept)
            print(f"{number + 1:2} {state}: {now.count(bytes([10]))} records, earlier ones unchanged: {same}")
        code = subprocess.run(command, cwd=folder, check=False).returncode
        run = open_run(Path(folder) / "r")
        ids, planned = [r.cell.id for r in run.records], [c.id for c in run.cells]
        lines = records.read_bytes().count(b"\n")
        sound &= sorted(ids) == sorted(planned) and lines == len(planned) and code == 0
        print(f"at the end: {lines} lines, {len(set(ids))} cells of {len(planned)} planned, exit {code}")
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
