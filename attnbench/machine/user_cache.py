"""The folder for what can be made again: measured ceilings, exported layers."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Where it is: ATTNBENCH_CACHE_DIR, or `attnbench` in the system's cache folder of this user."""
    given = os.environ.get("ATTNBENCH_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "attnbench"
