"""Stores of many records, made of committed runs, and what reading them costs: wall time and peak memory.

    python benchmarks/scale.py --records 100000 --stores 10 --folder /tmp/scale

Each store is a collection of one run a machine and committed run. Its cells are those of the committed run at many
batch sizes, its rounds the committed rounds; every machine differs from the others in its microcode and its run_id.
`merge` joins `--stores` such stores of different machines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from attnbench.planning.cell import Cell
from attnbench.results import collection
from attnbench.results.store import RECORDS, RUN, SAMPLES

COMMITTED = Path(__file__).parents[1] / "reports" / "runs"
MACHINES = 10  # in a store
SAMPLED_S = 0.5  # between two readings of the memory
_ID = re.compile(r'"([0-9a-f]{12})"')


def make(folder: Path, records: int, first_machine: int = 0) -> int:
    """Write a store of at least so many records; returns how many it has.

    Args:
        folder: must not exist.
        records: wanted.
        first_machine: number of its first machine.
    """
    runs = sorted(path.parent for path in COMMITTED.glob(f"*/{RUN}"))
    each = sum(1 for run in runs for _ in (run / RECORDS).open())
    batches = -(-records // (each * MACHINES))
    collection.begin(folder)
    for machine in range(first_machine, first_machine + MACHINES):
        for number, run in enumerate(runs):
            _make_run(run, folder / collection.PARTS / f"m{machine}r{number}", batches, machine)
    return each * MACHINES * batches


def _make_run(source: Path, place: Path, batches: int, machine: int) -> None:
    place.mkdir(parents=True)
    facts = json.loads((source / RUN).read_text())
    old_id, facts["run_id"] = facts["run_id"], place.name
    facts["environment"].setdefault("fingerprint", {})["microcode"] = f"0x{machine:x}"
    cells = [Cell.from_dict(cell) for cell in facts["plan"]["cells"]]
    facts["plan"]["cells"], declined = [], facts["plan"].get("declined", {})
    facts["plan"]["declined"] = {}
    texts = {name: (source / name).read_text().replace(f'"{old_id}"', f'"{place.name}"') for name in (RECORDS, SAMPLES)}
    journal = texts[SAMPLES].splitlines(keepends=True)
    once = [line for line in journal if _kind(line) in ("count", "ceilings", "session")]
    with (place / RECORDS).open("w") as records, (place / SAMPLES).open("w") as samples:
        samples.writelines(once)
        for factor in range(1, batches + 1):
            named: dict[str, str] = {}
            for cell in cells:
                other = replace(cell, batch=cell.batch * factor)
                named |= {cell.id: other.id, cell.group: other.group}
                facts["plan"]["cells"].append(other.as_dict())
                if cell.id in declined:
                    facts["plan"]["declined"][other.id] = declined[cell.id]
            records.writelines(_rebatched(texts[RECORDS], named, factor))
            samples.writelines(_renamed(line, named) for line in journal if line not in once)
    (place / RUN).write_text(json.dumps(facts))


def _kind(line: str) -> str:
    return str(json.loads(line)["kind"])


def _renamed(text: str, named: dict[str, str]) -> str:
    return _ID.sub(lambda found: f'"{named.get(found[1], found[1])}"', text)


def _rebatched(text: str, named: dict[str, str], factor: int) -> Iterator[str]:
    for line in _renamed(text, named).splitlines():
        record = json.loads(line)
        record["cell"]["batch"] *= factor
        yield json.dumps(record) + "\n"


def measure(*words: str) -> tuple[float, float, float]:
    """A command of the tool: its wall time and its processor time in s, and its peak memory in GiB.

    The memory is that of all its processes together, a page that several share counted once (Linux's PSS).
    """
    before, began, peak = _processor_s(), time.perf_counter(), 0
    command = [sys.executable, "-m", "attnbench", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as running:
        while running.poll() is None:
            peak = max(
                peak, sum(_pss_kib(place) for place in Path("/proc").glob("[0-9]*") if _is_of(place, running.pid))
            )
            time.sleep(SAMPLED_S)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return time.perf_counter() - began, _processor_s() - before, peak / 2**20


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _is_of(place: Path, session: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getsid(int(place.name)) == session
    return False


def _pss_kib(place: Path) -> int:
    with contextlib.suppress(OSError):  # it has ended
        found = re.search(r"^Pss:\s+(\d+)", (place / "smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def main() -> None:
    """Make the stores that are not there, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="of each store")
    parser.add_argument("--stores", type=int, default=1, help="to merge; 1: no merge")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/attnbench-scale"), help="for the stores; kept")
    parser.add_argument("--only", choices=("export", "report", "merge"), help="one command alone")
    given = parser.parse_args()
    stores = [given.folder / f"store{number}" for number in range(given.stores)]
    for number, store in enumerate(stores):
        if not store.exists():
            print(f"{store}: {make(store, given.records, number * MACHINES)} records", flush=True)
    for title, words in (
        ("export", ("export", str(stores[0]), "--out", str(given.folder / "table.csv"))),
        ("report", ("report", str(stores[0]), "--out", str(given.folder / "report"))),
        ("merge", ("merge", *map(str, stores), "--out", str(given.folder / "merged"))),
    ):
        if given.only not in (None, title) or (title == "merge" and given.stores == 1):
            continue
        shutil.rmtree(given.folder / "merged", ignore_errors=True)
        wall, processor, peak = measure(*words)
        print(f"{title:8} {wall:7.1f} s, processor {processor:7.1f} s, peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
