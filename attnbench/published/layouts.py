"""What each published table holds: its rows' partners, and per column the quantity and the conditions.

`layouts.toml` holds them; here they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.published.partners import NO_PARTNER, TABLES, Partner, around_task, partner
from attnbench.published.toml_data import build, load, one_of

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One column: what is printed, and what of ours stands beside it.

    Attributes:
        scale: our value is divided by it to have the published unit.
        quantity: of a record; empty where nothing of ours can stand here, for the reason `why_not`.
        also: quantities that stand in for it where it was not recorded.
        device: `cpu` or `gpu` for a measured quantity, empty for a count; `device_name` where it must be that one.
        names: the table of `partners.py` that knows the names in `column`; `task`: the model around the partner;
            `starred`: its setting in the rows that are starred.
        variants: our variants in place of a name; `{column}` stands for the row's value.
        resolution: (height, width) in pixels, or the column that holds the side of a square.
        over: the column whose ratio to the row `over_label` is the published value.
        published: whether the column is printed; one that is not shows ours alone.
        word: the heading of ours.
    """

    key: str
    heading: str
    unit: str = ""
    scale: float = 1.0
    quantity: str = ""
    also: tuple[str, ...] = ()
    device: str = ""
    device_name: str = ""
    batch: int = 64
    pass_: str = "forward"
    names: str = ""
    column: str = ""
    task: str = ""
    starred: str = ""
    variants: tuple[str, ...] = ()
    resolution: tuple[int, int] | str = (224, 224)
    why_not: str = ""
    over: str = ""
    over_label: str = ""
    published: bool = True
    digits: int = 5
    word: str = "measured"

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantity, then what may stand in for it."""
        return (self.quantity, *self.also)

    def resolution_of(self, row: Row) -> tuple[int, int]:
        """(height, width) in pixels of a row's images."""
        if isinstance(self.resolution, str):
            return int(row[self.resolution]), int(row[self.resolution])
        return self.resolution

    def partner_of(self, row: Row) -> Partner:
        """Scope and variants, in order of preference, of what stands beside a row; `NO_PARTNER` where nothing does."""
        if self.variants:
            return "backbone", tuple(variant.format(**row) for variant in self.variants)
        if not self.names:
            return NO_PARTNER
        found = partner(self.names, row[self.column], 224 if self.task else self.resolution_of(row)[0])
        settings = (self.starred,) if self.starred and row["starred"] == "yes" else ()
        return around_task(self.task, found, *settings) if self.task else found

    def printed(self, row: Row, rows: Sequence[Row]) -> str:
        """The published text; of a ratio, the quotient of two published numbers."""
        if not self.published:
            return ""
        text = row[self.over or self.key]
        if not self.over:
            return text
        base = next(r[self.over] for r in rows if r[self.column] == self.over_label)
        return f"{float(text) / float(base):.3f}"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A text behind the label of the rows whose `column` holds `value`."""

    column: str
    value: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One published table.

    Attributes:
        file: its CSV file, without the ending.
        row: the heading of the labels.
        label: a row's name; `{column}` stands for the row's value.
        counted_in: the file of the table that counts what this one describes, where nothing of this one is measured.
    """

    file: str
    title: str
    caption: str
    row: str
    label: str
    metrics: tuple[Metric, ...]
    mark: Mark | None = None
    notes: tuple[str, ...] = ()
    counted_in: str = ""

    def label_of(self, row: Row) -> str:
        """The name of a row."""
        mark = self.mark.text if self.mark and row[self.mark.column] == self.mark.value else ""
        return self.label.format(**row) + mark


def _layouts() -> Iterator[Layout]:
    data = load("layouts.toml")
    kinds = data["kind"]
    for table in data["table"]:
        where = f"layouts.toml, {table.get('file', 'a table without file')}"
        entry = {key: value for key, value in table.items() if key != "group"}
        if "mark" in entry:
            entry["mark"] = build(Mark, entry["mark"], where)
        entry["metrics"] = [m for group in table["group"] for m in _metrics(group, kinds, where)]
        yield build(Layout, entry, where)


def _metrics(group: Mapping[str, Any], kinds: Mapping[str, Any], where: str) -> Iterator[Metric]:
    shared = {key: value for key, value in group.items() if key != "metrics"}
    if "names" in shared:
        one_of(shared["names"], tuple(TABLES), f"{where}: names")
    for entry in group["metrics"]:
        own = {key: value for key, value in entry.items() if key != "kind"}
        if "kind" in entry:
            one_of(entry["kind"], tuple(kinds), f"{where}: kind")
        heading = {"heading": str(entry.get("key", "")).replace("_", " ")}
        yield build(Metric, {**heading, **kinds.get(entry.get("kind"), {}), **shared, **own}, where)


LAYOUTS: tuple[Layout, ...] = tuple(_layouts())
