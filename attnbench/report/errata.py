"""The errata as a table."""

from __future__ import annotations

from attnbench.published.errata import ERRATA
from attnbench.report.tables import Column, Table


def table() -> Table:
    """Where the papers' numbers disagree with themselves or with their models' arithmetic."""
    return Table(
        name="errata",
        title="Errata of the papers",
        caption="Printed figures that other printed figures, or the arithmetic of the model itself, speak "
        "against. MACs throughout.",
        columns=(
            Column("where", "where"),
            Column("printed", "printed"),
            Column("arithmetic", "arithmetic"),
            Column("says", "what follows"),
        ),
        rows=tuple((e.where, e.printed, e.arithmetic, e.says) for e in ERRATA),
    )
