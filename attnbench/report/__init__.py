"""Stored records -> tables, figures and one page. Nothing here imports torch or measures."""

from attnbench.report.write import write

__all__ = ["write"]
