"""Inject faults into real runs at random instants, resume each run, and count what was lost, doubled or changed.

python benchmarks/faults.py [--count 300] [--seed 0] [--kinds 'SIGKILL*,disk*'] [--jobs 2]
    [--add benchmarks/faults.json] [--out docs/reliability.md]

A campaign starts `attnbench run` on small layers, injects a fault, lets the command end, and starts the same command
again with the next fault, until the run is complete or has had its share; then the command runs without a fault and
must finish. After every session the folder is compared with what it held before: a record or an event that was
acknowledged must be there once and unchanged; the exit code must be a documented one; no traceback may be printed; no
process may be left. At the end the records must be those of the plan. Faults of the journal alone, in this process and
at every byte, are counted apart.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import math
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from injection.campaign import IN_PROCESS, Campaign
from injection.disks import cannot_mount
from injection.journal_alone import every_byte
from injection.kinds import Kind, kinds
from injection.page import add, entry, page, table
from injection.session import SESSIONS, SHARED, Run


def work(campaign: Campaign, folder: Path, number: int, next_kind: Callable[[], str]) -> None:
    """Runs with faults, one after another, until there is no kind left."""
    known, runs = kinds(), itertools.count()
    run: Run | None = None
    while name := next_kind():
        kind = known[name]
        rng = random.Random(f"{campaign.seed} {name} {number} {next(runs)}")
        if kind.request:
            own = Run(campaign, folder / f"{number}-{next(runs)}", kind.request, f"ok {kind.costs}")
            inject(own, name, kind, rng)
            if own.folder.parent == own.base:  # a disk of its own is gone by now
                own.finish()
            own.clean()
            continue
        run = run or Run(campaign, folder / f"{number}-{next(runs)}", SHARED[next(runs) % 2])
        run.outcomes |= set(kind.costs.split())
        if not inject(run, name, kind, rng) and not run.complete:
            with run.start() as session:  # make progress
                session.wait_for_instant(rng)
                session.send("group", signal.SIGKILL)
                session.end()
        if run.code in (0, 3) and run.complete:
            run.judge()
        elif run.complete or len(run.history) >= SESSIONS:
            run.finish()
        else:
            continue
        run.clean()
        run = None
    if run:
        run.finish()
        run.clean()


def inject(run: Run, name: str, kind: Kind, rng: random.Random) -> int:
    """Inject a fault of this kind; a mistake of this script is reported as one."""
    run.kind = name
    run.history.append(name)
    return kind.inject(run, rng)


def deck(campaign: Campaign, names: Sequence[str], count: int, until: float) -> Callable[[], str]:
    """What gives the next kind, every kind once and then by its share, until enough faults were injected."""
    rng, known, waiting, lock = (
        random.Random(campaign.seed),
        kinds(),
        rng_shuffled(campaign.seed, names),
        threading.Lock(),
    )

    def next_kind() -> str:
        with lock:
            if campaign.injected >= count or time.monotonic() > until:
                return ""
            while not waiting:
                waiting.extend(n for n in rng.sample(names, len(names)) if rng.random() < known[n].share)
            return waiting.pop()

    return next_kind


def rng_shuffled(seed: int, names: Sequence[str]) -> list[str]:
    """The names in a random order."""
    return random.Random(seed).sample(names, len(names))


def main() -> None:
    """Run a campaign; exit with code 1 if anything was lost, doubled or changed, ended wrongly or did not finish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300, help="faults in real runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="*", help="patterns of names, separated by commas; --list shows the names")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no fault is injected any more")
    parser.add_argument("--add", type=Path, metavar="JSON", help="add the counts to the campaigns of this file")
    parser.add_argument("--out", type=Path, help="write the page here, of all campaigns in the file of --add")
    parser.add_argument("--list", action="store_true", help="print the names of the kinds")
    given = parser.parse_args()
    if given.list:
        print("\n".join([*kinds(), IN_PROCESS]))
        return
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the runs would inherit that it is ignored
    campaign = run_campaign(given.seed, given.count, given.kinds.split(","), given.jobs, given.minutes)
    print(table(campaign.tallies))
    names = ("count", "seed", "jobs", *(("minutes",) if given.minutes < math.inf else ()))
    words = [f"--{name} {getattr(given, name):g}" for name in names]
    made = entry(campaign, " ".join([*words, f"--kinds '{given.kinds}'"]))
    entries = add(given.add, made) if given.add else [made]
    if given.out:
        given.out.write_text(page(entries))
    sys.exit(1 if any(tally.bad for tally in campaign.tallies.values()) else 0)


def run_campaign(seed: int, count: int, patterns: Sequence[str], jobs: int = 1, minutes: float = math.inf) -> Campaign:
    """Inject so many faults of these kinds, or those that come about in so many minutes."""
    campaign = Campaign(seed)
    names = [n for n in kinds() if any(fnmatch.fnmatch(n, p) for p in patterns)]
    why = cannot_mount() if any(n.startswith("disk of") or n == "folder read-only" for n in names) else ""
    if why:
        print(
            f"file systems of a small size are left out: {why}; with `unshare -rm` they may be possible",
            file=sys.stderr,
        )
        names = [n for n in names if not n.startswith("disk of") and n != "folder read-only"]
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    if any(fnmatch.fnmatch(IN_PROCESS, p) for p in patterns):
        every_byte(campaign, folder)
    if names:
        following = deck(campaign, names, count + campaign.injected, time.monotonic() + 60 * minutes)
        with ThreadPoolExecutor(jobs) as pool:
            for job in [pool.submit(work, campaign, folder, number, following) for number in range(jobs)]:
                job.result()
    if campaign.details:
        print(f"the runs in which something was wrong are kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return campaign


if __name__ == "__main__":
    main()
