"""Every mechanism's kernels against each other, measured with the tool itself; writes docs/speed.md.

    python benchmarks/speed.py [--res 224,384,512] [--batch 1,16] [--run FOLDER] [--from-run]

A cell in which `sdpa` is slower than `eager` by more than noise wants a reason in the mechanism's declaration
(`notes={"sdpa": ...}`); the table prints it, or says that there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbench import Sweep, axes, registry, run, statistics
from attnbench.conclude import ratios
from attnbench.store import SAMPLES, Run, open_run, read_lines

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
NUMBERS = (("looks", (8,)), ("processes", 2), ("budget_s", 12.0), ("target", 0.05))


def main() -> None:
    """Measure (unless --from-run) and write the page."""
    options = argparse.ArgumentParser()
    options.add_argument("--res", default="224,384,512")
    options.add_argument("--batch", default="1,16")
    options.add_argument("--device", default="cpu")
    options.add_argument("--run", default="runs/speed")
    options.add_argument("--from-run", action="store_true")
    given = options.parse_args()
    known = registry.load()
    both = tuple(d.name for d in known if d.scope == "layer" and {"eager", "sdpa"} <= set(d.kernels))
    sweep = Sweep(
        mechanism=tuple(sorted(both)), reference="none", kernel=("eager", "sdpa"), res=axes.resolutions(given.res),
        batch=axes.whole_numbers("batch", given.batch), device=(given.device,), measure=("latency",),
        protocol="quick", overrides=NUMBERS,
    )  # fmt: skip
    folder = Path(given.run) if given.from_run else run(sweep, given.run)
    PAGE.write_text(page(open_run(folder), known))
    print(f"wrote {PAGE}")


def page(measured: Run, known: registry.Registry) -> str:
    """The table as Markdown."""
    rounds: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(measured.folder / SAMPLES)[0]:
        if line.get("kind") == "round":
            rounds.setdefault(line["group"], []).append(line)
    cells = {(c.group, c.variant, c.kernel): c for c in measured.cells}
    environment = measured.facts["environment"]
    names = ", ".join(str(v) for v in environment.get("devices", {}).values())
    text = [
        "# Kernels against each other",
        "",
        f"Made by `make speed` ({measured.facts['created'][:10]}, {names}, torch {environment['versions']['torch']}).",
        "The figure is the speed of `sdpa` over `eager`, from turns in the same rounds, with its 95 % interval;",
        "above 1 the fused call is faster. A dash: the cell was declined or failed.",
        "",
    ]
    conditions = list(dict.fromkeys((c.res_h, c.batch, c.group) for c in measured.cells))
    text += ["| mechanism | " + " | ".join(f"{r} px, batch {b}" for r, b, _ in conditions) + " | where it is slower |"]
    text += ["|---" * (len(conditions) + 2) + "|"]
    for variant in dict.fromkeys(c.variant for c in measured.cells):
        row, slower = [], []
        for res, batch, group in conditions:
            eager, sdpa = cells.get((group, variant, "eager")), cells.get((group, variant, "sdpa"))
            data = ratios(rounds.get(group, []), sdpa.id, eager.id) if eager and sdpa else []
            if not data:
                row.append("-")
                continue
            found = statistics.ratio(data)
            row.append(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]")
            if found.high < 1:
                slower.append(f"{res} px, batch {batch}")
        note = known[variant].notes.get("sdpa", "no reason is declared") if slower else ""
        why = f"{'; '.join(slower)}: {note}" if slower else ""
        text.append(f"| `{variant}` | " + " | ".join(row) + f" | {why} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
