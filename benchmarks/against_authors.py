"""Time our layers against a folder of the authors' own, given by an adapter file; print the table, write it with --to.

    python benchmarks/against_authors.py PATH [--files FOLDER] [--res 224,512] [--batch 1,8] [--kernel eager,sdpa]
        [--runtime eager,openvino] [--protocol standard] [--mechanism LIST] [--run FOLDER,...] [--from-run]
        [--to FILE] [--page MARK]

PATH is a TOML file beside the authors' files, or for those in FOLDER; `benchmarks/comparison/authors.py` says what it
holds, and `benchmarks/adapters/` has one for the paper's own layers and one for layers of installed libraries. Their
code runs in the timing processes: read it first. All arms of a size share their rounds, so that a ratio is of turns
that lie side by side; every `theirs_...` arm is compared as its authors wrote it, in eager PyTorch, with each of our
kernels and runtimes. The first folder is measured or resumed; the table has the pairs of all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparison.authors import Theirs, read_adapter
from comparison.page import PAGE, put
from comparison.pairs import Pair, pairs, table
from comparison.plugins import authors_plugin

from attnbench import AttnbenchError, Sweep, run
from attnbench.analysis.contrasts import Contrast
from attnbench.commands.options import whole_numbers
from attnbench.planning.cell import Cell
from attnbench.planning.sizes import resolutions
from attnbench.published.suites import LAYERS
from attnbench.registry.variant import parse_variant
from attnbench.results.store import Run, open_run


def main() -> None:
    """Measure (unless --from-run) and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path, help="the adapter file")
    parser.add_argument("--files", type=Path, help="the folder of the authors' files; by default that of PATH")
    parser.add_argument("--res", default="224,512")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--kernel", default="eager", help="our kernels, a comma list that begins with eager")
    parser.add_argument("--runtime", default="eager", help="runtimes, a comma list that begins with eager")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--protocol", default="standard")
    parser.add_argument("--mechanism", default="", help="our mechanisms to compare; by default all of the adapter")
    parser.add_argument("--run", default="runs/against_authors")
    parser.add_argument("--from-run", action="store_true", help="measure nothing")
    parser.add_argument("--to", type=Path, help="write the table there too")
    parser.add_argument("--page", metavar="MARK", help=f"write it into docs/{PAGE.name} too, between these marks")
    given = parser.parse_args()
    try:
        layers = read_adapter(given.path, given.files)
        folders = [Path(folder) for folder in given.run.split(",")]
        if not given.from_run:
            wanted = [x for x in layers if parse_variant(x.ours).name in given.mechanism.split(",")]
            run(sweep(wanted if given.mechanism else layers, given, folders[0]), folders[0])
        text = page([open_run(folder) for folder in folders], layers)
        if given.page:
            put(given.page, text.rstrip("\n"))
    except AttnbenchError as error:
        sys.exit(f"against_authors: {error}")
    print(text, end="")
    if given.to:
        given.to.write_text(text, encoding="utf-8")


def sweep(layers: Sequence[Theirs], given: argparse.Namespace, folder: Path) -> Sweep:
    """Each of our variants once, and every layer of theirs."""
    plugin = authors_plugin(given.path, folder.parent / f"{folder.name}-plugins", given.files)
    ours = dict.fromkeys(layer.ours for layer in layers)
    return Sweep(
        mechanism=(*ours, *(layer.name for layer in layers)), reference="none",
        kernel=tuple(given.kernel.split(",")), runtime=tuple(given.runtime.split(",")),
        res=resolutions(given.res), batch=whole_numbers("batch", given.batch),
        device=(given.device,), measure=("latency", "params"), protocol=given.protocol, plugins=(str(plugin),),
    )  # fmt: skip


def page(runs: Sequence[Run], layers: Sequence[Theirs]) -> str:
    """The table of ratios, with what it was measured on, and pairs that are not of one size."""
    others = {layer.ours: layer.name for layer in layers}
    found = joined(pair for measured in runs for pair in pairs(measured, others))
    facts = runs[0].facts
    lines = [
        f"Our speed over that of the authors' layer, with its 95 % interval ({facts.created[:10]}, {facts.machine}, "
        f"torch {facts.environment.torch.version}); above 1 ours is faster.",
        "",
        *table(found),
        *fastest(found),
        *notes(found),
        *not_compared(layers),
    ]
    return "\n".join(lines) + "\n"


def joined(every: Iterable[Pair]) -> list[Pair]:
    """The first pair with a ratio of each variant and condition, or one without where none has it."""
    kept: dict[tuple[object, ...], Pair] = {}
    for pair in every:
        key = (pair.cell.variant, pair.condition)
        if key not in kept or kept[key].contrast is None:
            kept[key] = pair
    return list(kept.values())


def fastest(found: Sequence[Pair]) -> list[str]:
    """A table of each layer's fastest configuration at each size; none where there is one configuration."""
    if len({pair.cell.execution for pair in found}) < 2:
        return []
    best: dict[Cell, Contrast] = {}
    for pair in found:
        size = replace(pair.cell, kernel="eager", runtime="eager")
        if pair.contrast and (size not in best or pair.contrast.log_ratio > best[size].log_ratio):
            best[size] = pair.contrast
    lines = table([Pair(size, contrast, None, None) for size, contrast in best.items()])
    return ["", "The fastest of these configurations, chosen by the same figures:", "", *lines]


def notes(found: Sequence[Pair]) -> list[str]:
    """A line for each pair whose parameters differ in number: it is not one layer twice."""
    lines = {}
    for pair in found:
        if pair.ours and pair.other:
            ours, other = pair.ours.values.get("params"), pair.other.values.get("params")
            if ours != other:
                lines[pair.cell.variant] = f"`{pair.cell.variant}` has {ours} parameters, the authors' layer {other}."
    return ["", *lines.values()] if lines else []


def not_compared(layers: Sequence[Theirs]) -> list[str]:
    """A line with the layers of the paper's Table IV that the adapter lacks."""
    compared = {parse_variant(layer.ours).name for layer in layers}
    paper = dict.fromkeys(parse_variant(variant).name for variant in LAYERS)
    left = ", ".join(f"`{name}`" for name in paper if name not in compared)
    return ["", f"Not compared, of the layers of Table IV: {left}."] if left else []


if __name__ == "__main__":
    main()
