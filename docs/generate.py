"""Write what the code declares into the documentation, so that neither can differ from the other.

    python docs/generate.py           write what differs
    python docs/generate.py --check   write nothing; end with 1 and name what differs

| written | from |
|---|---|
| docs/mechanisms/, the table of mechanisms in README.md | the registry, docs/exports.json |
| docs/records.md | COLUMNS, QUANTITIES, OUTCOMES and FLAGS in attnbench/results |
| the layers in docs/architecture.md | LAYERS in tests/test_architecture.py, the folders' docstrings |
| constraints-oldest.txt | the lower bounds in pyproject.toml |

The same code gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import exports

from attnbench import registry
from attnbench.conformance.influence import influence
from attnbench.conformance.subject import Grid, Subject, text
from attnbench.measure.flops import Counts, count
from attnbench.registry import Registry, defaults
from attnbench.registry.declaration import Declaration
from attnbench.registry.variant import Variant, value_text
from attnbench.report.numbers import at_least, si
from attnbench.results.flags import FLAGS
from attnbench.results.record import COLUMN_MEANINGS, COLUMNS, MORE_COLUMNS, OUTCOMES, QUANTITIES

ROOT = Path(__file__).resolve().parent.parent
TESTED_EXTRAS = ("test", "models", "gpu", "parquet")
MADE = "<!-- made by docs/generate.py from mechanisms/{name}.py; edit that file -->"
HEADINGS = ("Paper", "Agrees", "Differs", "Shapes", "Cost")
SIDES = (14, 24, 32, 64)
CELL = 16  # pixels of a token in the diagram


def sections(docstring: str) -> dict[str, str]:
    """The docstring's first sentences under "" and its five sections by heading."""
    found: dict[str, list[str]] = {"": []}
    now = ""
    for line in inspect.cleandoc(docstring).splitlines():
        word, _, rest = line.partition(" ")
        if word in HEADINGS:
            now, line = word, " " * (len(word) + 1) + rest
            found[now] = []
        found[now].append(line)
    return {heading: inspect.cleandoc("\n" + "\n".join(lines)).strip() for heading, lines in found.items()}


def prose(words: str) -> str:
    """Text that Markdown shows as it stands."""
    for sign in ("\\", "*", "<", "|"):
        words = words.replace(sign, "\\" + sign)
    return words


def _sentence(words: str) -> str:
    """Begin large and end with a full stop."""
    return words[:1].upper() + words[1:].rstrip(".") + "."


def paper_link(declaration: Declaration) -> str:
    """A link where the paper's identifier has one."""
    paper, year = declaration.paper, declaration.year
    if paper.startswith("arXiv:"):
        paper = f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
    elif paper.startswith("http"):
        paper = f"<{paper}>"
    return ", ".join(str(word) for word in (paper, year) if word)


def counts(known: Registry, name: str, side: int) -> Counts | None:
    """Of a layer with 768 channels and 12 heads; None where it declines."""
    variant = Variant(name)
    size = known.size(variant, grid=(side, side))
    if known.declines(variant, size):
        return None
    with torch.device("meta"):
        layer = known.build(variant, size)
    return count(layer, torch.empty(1, side, side, 768, device="meta"), fvcore=False)


def diagram(known: Registry, name: str) -> tuple[str, Grid, tuple[int, int], int]:
    """An SVG of the tokens that one output token depends on, the map, that token, and how many they are."""
    subject = Subject(known, Variant(name))
    grid = subject.some((14, 14))[0]
    H, W = grid
    place = (H // 3, 2 * W // 3)
    alone = bool(known[name].coupling(subject.size(grid)))
    seen = influence(subject.layer(grid), subject.images(grid, batch=1), [place], alone=alone)[0]
    runs = [
        f"M{left * CELL + 1} {y * CELL + 1}h{(right - left) * CELL - 1}v{CELL - 1}h{1 - (right - left) * CELL}z"
        for y in range(H)
        for left, right in _runs(seen[y].tolist())
    ]
    every = [f"M0 {y * CELL}h{W * CELL}" for y in range(H + 1)] + [f"M{x * CELL} 0v{H * CELL}" for x in range(W + 1)]
    label = f"{name}: the output token at row {place[0]}, column {place[1]} depends on the coloured tokens"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {W * CELL + 2} {H * CELL + 2}" '
        f'width="{W * CELL + 2}" height="{H * CELL + 2}" role="img" aria-label="{label}">\n'
        f'<rect width="{W * CELL}" height="{H * CELL}" fill="#f4f4f4"/>\n'
        f'<path d="{"".join(runs)}" fill="#7aa6d8"/>\n'
        f'<path d="{"".join(every)}" stroke="#ffffff" fill="none"/>\n'
        f'<rect x="{place[1] * CELL}" y="{place[0] * CELL}" width="{CELL}" height="{CELL}" fill="none" '
        'stroke="#c8472f" stroke-width="2.5"/>\n</svg>\n'
    )
    return svg, grid, place, int(seen.sum())


def _runs(row: list[bool]) -> list[tuple[int, int]]:
    edges = [i for i in range(len(row) + 1) if (row[i] if i < len(row) else False) != (row[i - 1] if i else False)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def page(known: Registry, name: str, exported: exports.Answers) -> tuple[str, str]:
    """The page and the diagram of one mechanism; `exported`: of `exports.read`."""
    d = known[name]
    doc = sections(sys.modules[d.build.__module__].__doc__ or "")
    svg, grid, place, seen = diagram(known, name)
    kind, extent = d.kind.replace("fourier", "Fourier"), defaults.mixing(d).extent
    source = [words for words in (paper_link(d), d.repository and f"code: {d.repository}") if words]
    lines = [f"# {name}", "", MADE.format(name=name), "", f"**{prose(d.title)}**", ""]
    lines += [_sentence(prose(doc[""].partition(": ")[2] or doc[""])), ""]
    lines += [f"{'; '.join([*source, 'source'])}: [mechanisms/{name}.py](../../mechanisms/{name}.py)", ""]
    lines += [f"Kind: {kind}; reach: {extent}.", ""]
    lines += ["## Who attends to whom", "", f"![the tokens that one output token depends on]({name}.svg)", ""]
    how = {"global": "", "data-dependent": "; the content decides, and this is one random image"}
    reach = how[d.reach] if isinstance(d.reach, str) else ""
    lines += [
        f"On a {text(grid)} map the output token at row {place[0]}, column {place[1]} (framed) depends on "
        f"{seen} of {grid[0] * grid[1]} tokens, found by gradients{reach}.",
        "",
    ]
    for title, heading in (("Shapes", "Shapes"), ("Cost", "Cost")):
        if doc.get(heading):
            lines += [f"## {title}", "", "```text", doc[heading], "```", ""]
    lines += [f"Memory of a call grows {d.growth}ly with the number of tokens.", ""] if d.growth == "linear" else []
    lines += ["Memory of a call grows faster than the number of tokens.", ""] if d.growth == "quadratic" else []
    lines += ["| tokens, 768 channels, 12 heads | parameters | multiply-accumulates |", "|---|---:|---:|"]
    for side in SIDES:
        found = counts(known, name, side)
        least = "at least " if found and found.lower_bound else ""
        numbers = f"{found.params:,} | {least}{found.macs:,}" if found else "declined |"
        lines.append(f"| {side} x {side} | {numbers} |")
    lines += ["", *_settings(d)]
    lines += [f"Kernels: {', '.join(d.kernels)}.", "", *exports.section(exported, name)]
    for title, heading in (("What it agrees with", "Agrees"), ("What differs", "Differs")):
        if doc.get(heading):
            lines += [f"## {title}", "", _sentence(prose(doc[heading])), ""]
    coupled = d.coupling(known.size(Variant(name)))
    notes = dict(d.notes) | ({"batch": coupled} if coupled else {})
    if notes:
        lines += ["## Notes", "", *(f"- {prose(key)}: {prose(words)}" for key, words in notes.items()), ""]
    lines += ["## Try it", "", "```sh", f"attnbench check {name}"]
    lines += [f"attnbench run --mechanism {','.join(dict.fromkeys((name, 'msa')))} --protocol quick", "```", ""]
    return "\n".join(lines), svg


def _settings(d: Declaration) -> list[str]:
    strides = sorted(d.per_stride)
    if not d.defaults:
        return ["It has no settings.", ""]
    head = ["setting", "default", *(f"stride {stride}" for stride in strides)]
    rows = [
        [f"`{key}`", value_text(value), *(value_text(d.settings_at(stride)[key]) for stride in strides)]
        for key, value in d.defaults.items()
    ]
    table = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return ["## Settings", "", *table, ""]


def readme_table(known: Registry) -> str:
    """The README's table of mechanisms."""
    lines = [
        "| mechanism | idea | paper | parameters | MACs at 14 x 14 | MACs at 64 x 64 |",
        "|---|---|---|---:|---:|---:|",
    ]
    for name in known.names("layer"):
        d, small, large = known[name], counts(known, name, 14), counts(known, name, 64)
        numbers = [
            si(small.params) if small else "-",
            _macs(small),
            _macs(large),
        ]
        link = f"[{name}](docs/mechanisms/{name}.md)"
        lines.append(f"| {' | '.join([link, prose(d.title), paper_link(d), *numbers])} |")
    return "\n".join(lines)


def _macs(found: Counts | None) -> str:
    if not found:
        return "-"
    return at_least(si(found.macs), lower_bound=found.lower_bound)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    head = list(head)
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *map(list, rows))]


def records_page() -> str:
    """docs/records.md: every column, outcome and flag, with unit and meaning.

    Raises:
        KeyError: a column that record.py does not explain.
    """
    units = {"B": "bytes", "x": "ratio", "": "-"}

    def column(name: str) -> tuple[str, str, str]:
        quantity = QUANTITIES.get(name)
        unit, meaning = (quantity.unit, quantity.meaning) if quantity else COLUMN_MEANINGS[name]
        return f"`{name}`", units.get(unit, unit), meaning

    head = ("column", "unit", "meaning")
    lines = [
        "# What a record holds",
        "",
        "<!-- made by docs/generate.py from attnbench/results/record.py and flags.py; edit those files -->",
        "",
        "`attnbench export RUN` and `attnbench.load(RUN)` give one row per planned cell. The first table's columns and",
        "their order do not change within a schema version; columns of the second may be added. An empty value means",
        "that the quantity was not measured or does not apply; a dash in the tables, that the column is a count,",
        "a share or a word. [methods.md](methods.md) says how quantities are measured, [glossary.md](glossary.md)",
        "what the words mean.",
        "",
        "## Columns",
        "",
        *table(head, map(column, COLUMNS)),
        "",
        "## Further columns",
        "",
        *table(head, map(column, MORE_COLUMNS)),
        "",
        "## Outcomes",
        "",
        "Every planned cell has exactly one record, whatever happened.",
        "",
        *table(("outcome", "meaning"), ((f"`{name}`", meaning) for name, meaning in OUTCOMES.items())),
        "",
        "## Flags",
        "",
        "A flag is a warning: the number was measured, and this condition may have changed it.",
        "",
        *table(("flag", "meaning"), ((f"`{name}`", meaning) for name, meaning in FLAGS.items())),
        "",
    ]
    return "\n".join(lines)


def layers(source: str, package: Path) -> str:
    """A picture of the layers, the top one first, then what each folder is for.

    Args:
        source: the text of a module that assigns the list of lists LAYERS, the lowest layer first.
        package: the folder that holds what LAYERS names.
    """
    assigned = (node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    found: list[list[str]] = next(
        ast.literal_eval(node.value) for node in assigned if getattr(node.targets[0], "id", "") == "LAYERS"
    )
    boxes = ["   ".join(names) for names in reversed(found)]
    wide = max(map(len, boxes))
    edge = f"+{'-' * (wide + 2)}+"
    picture = [edge, *(line for box in boxes for line in (f"| {box.center(wide)} |", edge))]
    rows = []
    for name in (name for names in reversed(found) for name in names):
        file = next(f for f in (package / name / "__init__.py", package / f"{name}.py") if f.exists())
        meaning = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]
        place = f"attnbench/{name}{'' if file.stem == '__init__' and name != '__init__' else '.py'}"
        rows.append((f"`{place}`", prose(meaning)))
    return "\n".join(["```text", *picture, "```", "", *table(("where", "what"), rows)])


def oldest(project: Mapping[str, Any]) -> str:
    """constraints-oldest.txt: the lower bound of every requirement that the test suite uses.

    Raises:
        ValueError: a requirement without a lower bound.
    """
    facts: dict[str, list[str]] = {"": project["dependencies"], **project["optional-dependencies"]}
    lines = ["# Made by docs/generate.py from the lower bounds in pyproject.toml, for `make test-oldest`."]
    for extra in ("", *TESTED_EXTRAS):
        for requirement in facts[extra]:
            bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
            if bound is None:
                raise ValueError(
                    f"a requirement is written name>=version, the lowest that is tested; got {requirement}"
                )
            line = f"{bound[1]}=={bound[2]}"
            lines += [line] if line not in lines else []
    return "\n".join(lines) + "\n"


def between(text: str, mark: str, content: str) -> str | None:
    """The text with `content` between the markers `<!-- MARK:begin -->` and `end`; None where they are not there."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    return f"{before}{begin}\n{content}\n{end}{after}" if first and last else None


def wanted(known: Registry, root: Path) -> tuple[dict[Path, str], list[str]]:
    """What every generated file should hold, by path from the root, and which files lack their markers."""
    files: dict[Path, str] = {}
    exported = exports.read()
    problems = exports.lacking(exported, known.names("layer"))
    for name in (name for name in known.names("layer") if name in exported["layers"]):
        text, svg = page(known, name, exported)
        files[Path(f"docs/mechanisms/{name}.md")], files[Path(f"docs/mechanisms/{name}.svg")] = text, svg
    files[Path("docs/records.md")] = records_page()
    files[Path("attnbench/registry/defaults.json")] = defaults.text(known)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files[Path("constraints-oldest.txt")] = oldest(project)
    source = (ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8")
    for place, mark, content in (
        ("README.md", "mechanisms", readme_table(known)),
        ("docs/architecture.md", "layers", layers(source, ROOT / "attnbench")),
    ):
        file = root / place
        filled = between(file.read_text(encoding="utf-8") if file.exists() else "", mark, content)
        if filled is None:
            problems.append(f"{place} lacks the markers <!-- {mark}:begin --> and <!-- {mark}:end -->")
        else:
            files[Path(place)] = filled
    return files, problems


def main(root: Path = ROOT) -> int:
    """Write or check; 1 where something differs or cannot be written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a file differs")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    known = registry.load(entry_points=False)
    files, problems = wanted(known, root)
    for path, content in files.items():
        file = root / path
        if file.exists() and file.read_bytes() == content.encode():
            continue
        if check:
            problems.append(f"{path} differs from what docs/generate.py makes; run `make docs`")
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode())
            print(f"wrote {path}")
    folder = root / "docs" / "mechanisms"
    for file in sorted([*folder.glob("*.md"), *folder.glob("*.svg")]):
        if file.stem not in known.names("layer"):
            problems.append(f"{file.relative_to(root)} belongs to no registered mechanism; delete it")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
