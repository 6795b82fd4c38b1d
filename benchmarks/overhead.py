"""The share of a run's wall time outside the layers' calls: imports, processes, building, bookkeeping.

A `standard` sweep of four mechanisms at batch 8, started as a user does; the clock starts before Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attnbench.execution.runner import forward_share

ARGUMENTS = ["-m", "msa,sra,window,hilo", "--device", "cpu", "--batch", "8", "--protocol", "standard", "--quiet"]


def main() -> None:
    """Print the wall time, the time in forward calls, and the share outside."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "attnbench", "run", *ARGUMENTS, "--out", str(out)], check=True)
        wall = time.perf_counter() - start
        forward = forward_share(out)[1]
    print(f"wall {wall:.1f} s, in forward calls {forward:.1f} s, outside {(wall - forward) / wall:.1%}")


if __name__ == "__main__":
    main()
