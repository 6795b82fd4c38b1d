"""Whether hostile plugins spoil other arms: msa and sra without and beside each, by the intervals of their ratio.

    python benchmarks/hostile.py [--res 224] [--protocol quick] [--isolate] [--out FOLDER]

A first run measures msa and sra alone. Then one run for each plugin measures them beside it: it sets the threads,
switches oneDNN off, zeroes its input, patches the clock, exits with 0, or writes to every open descriptor, from the
twelfth call of a process on; the last one patches torch.nn.Linear, which the guard does not see. A line a plugin says
whether sra's ratio with it lies inside the interval without it, whether both arms are ok, and what its own record says.
With --isolate the plugins have processes of their own (`--isolate plugins`). The exit code is 1 where an arm was
spoilt. Run it on a quiet machine: of six true ratios one in four runs has one outside a 95 % interval by chance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from attnbench import Sweep, run
from attnbench.planning.sizes import resolutions
from attnbench.results.record import Record
from attnbench.results.store import open_run

CALL = 12  # of a process, at which a plugin begins: after its trial and its first turn, and before its last
PLUGINS = {
    "sets_threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "switches_onednn": "torch.backends.mkldnn.enabled = False",
    "zeroes_input": "x.zero_()",
    "patches_clock": "time.perf_counter = lambda: 0.0",
    "exits": "os._exit(0)",
    "writes_everywhere": "[spray(n) for n in range(3, 256)]",
    "patches_linear": "nn.Linear.forward = slow",
}
SEEN = ("sets_threads", "switches_onednn", "zeroes_input", "patches_clock", "exits", "writes_everywhere")
TEXT = """
import contextlib, os, time
import torch
from torch import nn
from attnbench import mechanism

plain = nn.Linear.forward

def slow(self, x):
    plain(self, x)
    return plain(self, x)

def spray(n):
    with contextlib.suppress(OSError):
        os.write(n, b"garbage" * 9)

@mechanism(name={name!r})
class Hostile(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.line, self.calls = nn.Linear(dim, dim), 0

    def forward(self, x):
        self.calls += 1
        out = self.line(x)
        if self.calls >= {call}:
            {body}
        return out
"""


def measure(folder: Path, given: argparse.Namespace, plugin: str = "") -> dict[str, Record]:
    """The records of msa and sra, and of the plugin if there is one, by mechanism."""
    names: tuple[str, ...] = ("msa", "sra")
    words: dict[str, tuple[str, ...]] = {}
    if plugin:
        file = folder / f"{plugin}.py"
        file.write_text(TEXT.format(name=plugin, body=PLUGINS[plugin], call=CALL))
        names, words = (*names, plugin), {"plugins": (str(file),)}
        words |= {"isolate": ("plugins",)} if given.isolate else {}
    sweep = Sweep(
        mechanism=names, res=resolutions(given.res), measure=("latency",), protocol=given.protocol, **words
    )  # fmt: skip
    return {r.cell.mechanism: r for r in open_run(run(sweep, folder / (plugin or "without"))).records}


def ratio(record: Record) -> tuple[float, float, float]:
    """The speed ratio with its interval."""
    low, high = record.values.get("ratio_low", 0.0), record.values.get("ratio_high", float("inf"))
    return record.values["ratio_to_reference"], low, high


def judge(name: str, records: dict[str, Record], without: tuple[float, float, float]) -> tuple[bool, str]:
    """Whether the others were left whole, and a line for people."""
    others = [records[arm] for arm in ("msa", "sra")]
    if any(r.outcome != "ok" for r in others):
        return False, f"{name:18} SPOILT: {'; '.join(f'{r.cell.mechanism} {r.outcome}: {r.reason}' for r in others)}"
    estimate, low, high = ratio(records["sra"])
    inside, meets = without[1] <= estimate <= without[2], low <= without[2] and without[1] <= high
    words = "inside" if inside else "outside, intervals meet" if meets else "OUTSIDE, intervals apart"
    culprit = records[name]
    said = culprit.reason or ("isolated" if "isolated" in culprit.flags else "nothing")
    return meets, f"{name:18} {estimate:.4f} [{low:.4f}, {high:.4f}] {words}; its record: {culprit.outcome}, {said}"


def main() -> None:
    """Print the lines; exit with 1 where an arm was spoilt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--res", default="224")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--isolate", action="store_true", help="time the plugins in processes of their own")
    parser.add_argument("--plugins", default="", help=f"some of {', '.join(PLUGINS)}; all, or without --isolate those "
                        "that the guard sees")  # fmt: skip
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    given = parser.parse_args()
    chosen = given.plugins.split(",") if given.plugins else list(PLUGINS if given.isolate else SEEN)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        without = ratio(measure(folder, given)["sra"])
        print(f"{'without':18} {without[0]:.4f} [{without[1]:.4f}, {without[2]:.4f}]", flush=True)
        spoilt = False
        for name in chosen:
            whole, line = judge(name, measure(folder, given, name), without)
            spoilt = spoilt or not whole
            print(line, flush=True)
    sys.exit(1 if spoilt else 0)


if __name__ == "__main__":
    main()
