"""Jobs of a sweep on a real Slurm are ended at random moments; the same command must finish the sweep every time.

    python benchmarks/slurm_faults.py --count 50 --seed 0

Each case is one sweep of two parts on a cluster of two nodes on this machine (tests/support/slurm_cluster.py), with one
fault: the job's process is killed, the job is cancelled, requeued or warned of its time limit, its node goes down, or
the command itself is killed and started again. A case is good if every planned cell has one record, every record that
was there before the fault is unchanged, and no round is stored twice.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "slurm")]

LONGEST_S = 8.0  # after the first job starts: a fault may come at any moment until then


def main() -> int:
    """Print a line a case and a count; exit code 1 if one was not good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from slurm_sweeps import FAULTS, assert_finished, ended, records, run
    from support.slurm_cluster import SlurmCluster, missing

    if missing():
        print(missing())
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped
    rng, verdicts = random.Random(given.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, SlurmCluster(Path(folder) / "cluster") as cluster:
        for number in range(given.count):
            out, wait = Path(folder) / f"sweep{number}", rng.uniform(0, LONGEST_S)
            fault = rng.choice([*FAULTS, "the command is killed"])
            process = run(cluster, out)
            cluster.wait_for(lambda: "RUNNING" in cluster.jobs().values(), 60)
            time.sleep(wait)
            running = sorted(job for job, state in cluster.jobs().items() if state == "RUNNING")
            if fault == "the command is killed":
                process.kill()
                process.communicate()
                process = run(cluster, out)
            elif running:
                FAULTS[fault](cluster, rng.choice(running))
            before = records(out) if out.exists() else {}
            code, errors = ended(process, cluster)
            try:
                assert code == 0, errors.strip().splitlines()[-1:]
                assert_finished(out)
                assert before.items() <= records(out).items(), "a record was changed"
                verdict = "good" if running else "good, no job was running"
            except AssertionError as error:
                verdict = f"bad: {error}"
            verdicts[verdict.partition(":")[0]] += 1
            print(f"{number:3} {wait:5.1f} s  {fault:35} {verdict}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    return 1 if verdicts["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
