"""What was measured of this machine since it was started, kept in the user's cache: ceilings, and how runs differ.

A cache and nothing more: what cannot be read or written is measured again, or not known. ATTNBENCH_CACHE_DIR names
another folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TypeVar

from attnbench.machine import linux
from attnbench.machine.user_cache import folder
from attnbench.results.events import BetweenRuns, Ceilings, from_line, to_line

Kept = TypeVar("Kept", Ceilings, BetweenRuns)


def read(kind: type[Kept], key: tuple[str | int, ...], torch_version: str) -> Kept | None:
    """What was kept of this kind and key since the machine's start; None where there is nothing."""
    try:
        line = json.loads(_file(kind.kind, key, torch_version).read_text(encoding="utf-8"))
        event = from_line(line)
    except (OSError, ValueError, RuntimeError):
        return None
    return event if isinstance(event, kind) and event.key == key else None


def write(event: Ceilings | BetweenRuns, torch_version: str) -> None:
    """Keep it, if the folder can be written; ceilings that were not measured are not kept."""
    if isinstance(event, Ceilings) and event.macs_per_s is None:
        return
    with contextlib.suppress(OSError, RuntimeError):
        file = _file(event.kind, event.key, torch_version)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        fresh.write_text(json.dumps(to_line(event)), encoding="utf-8")
        fresh.replace(file)


def _file(kind: str, key: tuple[str | int, ...], torch_version: str) -> Path:
    boot = linux.text("/proc/sys/kernel/random/boot_id")
    if not boot:
        raise RuntimeError("this system does not say when it was started")
    words = "-".join(str(word).replace(":", "_") for word in (*key, torch_version))
    return folder() / f"{kind}-{boot[:8]}-{words}.json"
