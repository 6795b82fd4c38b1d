"""Stored records -> tables, figures and one page. Nothing here imports torch or measures.

`attnbench.report(...)` is a function with this package's name, and an import of any module in here puts the package in
its place: so the package can be called too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from attnbench.report.write import write

__all__ = ["report", "write"]


def report(*runs: Path | str, out: Path | str = "reports") -> Path:
    """Draw tables, figures and one HTML page of `runs` into the folder `out`; returns the page.

    Raises:
        AttnbenchError: a folder that is no run, or one that cannot be written.
    """
    return write([Path(run) for run in runs], Path(out))[0]


class _Called(ModuleType):
    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Called
