"""Time layers against their own older state, and write speed and memory of both into docs/speed.md.

    python benchmarks/rewrites.py --base REV [--mechanism LIST] [--res 224,512] [--batch 1,8] [--protocol standard]
                                  [--run FOLDER] [--from-run]

The mechanism's file of revision REV is declared as `base_NAME` by a plugin; what it imports from other files is of the
current state. Both states are arms of one comparison.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparison.page import PAGE, put
from comparison.pairs import Pair, label, memory, pairs, table
from comparison.plugins import base_plugin

from attnbench import AttnbenchError, Sweep, run
from attnbench.commands.options import whole_numbers
from attnbench.planning.sizes import resolutions
from attnbench.results.store import Run, open_run

ROOT = PAGE.parents[1]
REWRITTEN = "neighborhood,lite_mla,performer,dat,van,ss2d,focal,quadtree,bi_level"


def main() -> None:
    """Measure (unless --from-run) and write the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True, metavar="REV", help="the revision with the older state")
    parser.add_argument("--mechanism", default=REWRITTEN)
    parser.add_argument("--res", default="224,512")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--protocol", default="standard")
    parser.add_argument("--run", type=Path, default=Path("runs/rewrites"))
    parser.add_argument("--from-run", action="store_true", help="measure nothing")
    given = parser.parse_args()
    names = tuple(given.mechanism.split(","))
    try:
        if not given.from_run:
            run(sweep(names, given), given.run)
        put("rewrites", section(open_run(given.run), names, given.base))
    except AttnbenchError as error:
        sys.exit(f"rewrites: {error}")
    print(f"wrote {PAGE}")


def sweep(names: Sequence[str], given: argparse.Namespace) -> Sweep:
    """Every layer and its older state."""
    folder = given.run.parent / f"{given.run.name}-plugins"
    plugins = [base_plugin(name, source(given.base, name), folder) for name in names]
    return Sweep(
        mechanism=(*names, *(f"base_{name}" for name in names)), reference="none", res=resolutions(given.res),
        batch=whole_numbers("batch", given.batch), device=(given.device,), measure=("latency", "memory"),
        protocol=given.protocol, plugins=tuple(map(str, plugins)),
    )  # fmt: skip


def source(revision: str, name: str) -> str:
    """The text of a mechanism's file in a revision.

    Raises:
        AttnbenchError: git has no such file or revision.
    """
    command = ["git", "-C", str(ROOT), "show", "--end-of-options", f"{revision}:mechanisms/{name}.py"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise AttnbenchError(f"--base must be a revision that has mechanisms/{name}.py; {shown.stderr.strip()}")
    return shown.stdout


def section(measured: Run, names: Sequence[str], base: str) -> str:
    """Speed over the older state, and the memory of both."""
    found = list(pairs(measured, {name: f"base_{name}" for name in names}))
    facts = measured.facts
    return "\n".join(
        [
            f"Speed over the state at `{base}`, both timed in the same rounds, with its 95 % interval "
            f"({facts.created[:10]}, {facts.machine}, torch {facts.environment.torch.version};",
            "forward pass, fp32, dim 768, 12 heads, stride 16). Above 1 the present form is faster.",
            "",
            *table(found),
            "",
            "Peak memory of one call above weights and input, before -> after, MiB:",
            "",
            *memory_table(found),
        ]
    )


def memory_table(found: Sequence[Pair]) -> list[str]:
    """Lines of a Markdown table: a row for each layer, a column for each condition."""
    conditions = list(dict.fromkeys(pair.condition for pair in found))
    at = {(pair.cell.variant, pair.condition): pair for pair in found}
    lines = ["| layer | " + " | ".join(map(label, conditions)) + " |", "|---" * (len(conditions) + 1) + "|"]
    for variant in dict.fromkeys(pair.cell.variant for pair in found):
        row = [at.get((variant, condition)) for condition in conditions]
        cells = [f"{memory(p.other)} -> {memory(p.ours)}" if p else "-" for p in row]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
