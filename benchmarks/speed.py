"""Compare the eager and the sdpa kernel of every mechanism that has both; writes its part of docs/speed.md.

    python benchmarks/speed.py [--res 224,384,512] [--batch 1,16] [--mechanism LIST] [--run FOLDER,...] [--from-run]

The first folder is measured or resumed; if several folders hold a cell, the page uses the first. If `sdpa` is slower
than `eager` by more than noise, the mechanism's declaration should give a reason (`notes={"sdpa": ...}`); the table
prints it, or says that there is none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparison.page import PAGE, put

from attnbench import Sweep, registry, run
from attnbench.analysis.contrasts import Contrast, contrasts
from attnbench.commands.options import whole_numbers
from attnbench.planning.sizes import resolutions
from attnbench.results.store import Run, open_run, read_rounds

MIN_ROUNDS = 6  # for an interval of 95 %
OVERRIDES = (("looks", (8,)), ("processes", 4), ("budget_s", 12.0), ("target", 0.05))


def main() -> None:
    """Measure (unless --from-run) and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--res", default="224,384,512")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mechanism", default="", help="comma-separated; by default all with both kernels")
    parser.add_argument("--run", default="runs/speed")
    parser.add_argument("--from-run", action="store_true", help="measure nothing")
    given = parser.parse_args()
    known = registry.load()
    both = tuple(sorted(d.name for d in known if d.scope == "layer" and {"eager", "sdpa"} <= set(d.kernels)))
    sweep = Sweep(
        mechanism=tuple(given.mechanism.split(",")) if given.mechanism else both,
        reference="none", kernel=("eager", "sdpa"), res=resolutions(given.res),
        batch=whole_numbers("batch", given.batch), device=(given.device,), measure=("latency",),
        protocol="quick", overrides=OVERRIDES,
    )  # fmt: skip
    folders = [Path(folder) for folder in given.run.split(",")]
    if not given.from_run:
        run(sweep, folders[0])
    put("kernels", section([open_run(folder) for folder in folders], known))
    print(f"wrote {PAGE}")


@dataclass(frozen=True)
class KernelRatios:
    """The ratio of the two kernels of one layer in one run.

    Attributes:
        res: height in pixels.
        batch: images.
        variant: the layer.
        contrast: speed of sdpa over eager.
    """

    res: int
    batch: int
    variant: str
    contrast: Contrast


def kernel_ratios(measured: Run) -> Iterator[KernelRatios]:
    """Every layer and condition of a run that was timed with both kernels."""
    rounds = read_rounds(measured.folder)
    cells = {(c.group, c.variant, c.kernel): c for c in measured.cells}
    for (group, variant, kernel), eager in cells.items():
        sdpa = cells.get((group, variant, "sdpa"))
        if kernel == "eager" and sdpa:
            found = contrasts(rounds.get(group, []), [sdpa.id], eager.id).get(sdpa.id)
            if found and found.rounds >= MIN_ROUNDS:
                yield KernelRatios(eager.res_h, eager.batch, variant, found)


def section(runs: Sequence[Run], known: registry.Registry) -> str:
    """The page's part about kernels, as Markdown."""
    found: dict[tuple[int, int, str], KernelRatios] = {}
    for measured in runs:
        for pair in kernel_ratios(measured):
            found.setdefault((pair.res, pair.batch, pair.variant), pair)
    facts = runs[0].facts
    rounds = sorted({pair.contrast.rounds for pair in found.values()})
    processes = sorted({pair.contrast.processes for pair in found.values()})
    names = ", ".join(str(v) for v in facts.environment.devices.values())
    text = [
        f"Made by `make speed` ({facts.created[:10]}, {names}, torch {facts.environment.torch.version}).",
        f"Forward pass, fp32, dim 768, 12 heads, stride 16; {rounds[0]} to {rounds[-1]} rounds over {processes[0]} to",
        f"{processes[-1]} processes a cell.",
        "The figure is the speed of `sdpa` over `eager`, from turns in the same rounds, with its 95 % interval;",
        "above 1 the fused call is faster. A dash: not measured, or in fewer than "
        f"{MIN_ROUNDS} rounds. The last column",
        "names the cells whose interval lies below 1 and the reason that the mechanism declares; one interval in",
        "twenty misses its value by chance.",
        "",
    ]
    conditions = sorted({(c.res_h, c.batch) for measured in runs for c in measured.cells})
    text += ["| mechanism | " + " | ".join(f"{r} px, batch {b}" for r, b in conditions) + " | where it is slower |"]
    text += ["|---" * (len(conditions) + 2) + "|"]
    for variant in sorted({variant for _, _, variant in found}):
        row, slower = [], []
        for res, batch in conditions:
            pair = found.get((res, batch, variant))
            if pair is None:
                row.append("-")
                continue
            ratio = pair.contrast.interval()
            row.append(f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]")
            if ratio.high < 1:
                slower.append(f"{res} px, batch {batch}")
        note = known[variant].notes.get("sdpa", "no reason is declared") if slower else ""
        why = f"{'; '.join(slower)}: {note}" if slower else ""
        text.append(f"| `{variant}` | " + " | ".join(row) + f" | {why} |")
    return "\n".join(text)


if __name__ == "__main__":
    main()
