"""Runs -> a table of their records, one row a cell, with the machine that each row is of. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.analysis.machines import label_machines, machine_of
from attnbench.results.collection import run_folders
from attnbench.results.garbage import search_put_off
from attnbench.results.record import COLUMNS, MORE_COLUMNS
from attnbench.results.store import Run, open_run

if TYPE_CHECKING:
    import pandas as pd


def load(*folders: Path | str) -> pd.DataFrame:
    """The records of one or more runs as a table, one row a cell.

    Columns are those of `attnbench export`, but its `flags` is called `flag_names`, since every DataFrame has an
    attribute `flags` of its own.

    Args:
        *folders: run folders, and collections of them.

    Raises:
        AttnbenchError: a folder that is no run, or is damaged.
    """
    with search_put_off():
        whole, _ = table([open_run(folder) for folder in run_folders(folders)])
    return whole.rename(columns={"flags": "flag_names"})


def table(runs: Sequence[Run]) -> tuple[pd.DataFrame, list[str]]:
    """The records of these runs as a table, and sentences on the machines that are kept apart.

    Raises:
        AttnbenchError: a line of a journal is damaged.
    """
    import pandas as pd

    labels, apart = label_machines([machine_of(run) for run in runs])
    columns: dict[str, list[object]] = {name: [] for name in (*COLUMNS, *MORE_COLUMNS)}
    for run in runs:
        for record in run.records:
            for name, value in {**record.row(), "machine": labels[run.id]}.items():
                columns[name].append(value)
    return pd.DataFrame(columns), apart
