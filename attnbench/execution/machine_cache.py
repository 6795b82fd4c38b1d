"""Ceilings measured since this machine was started, kept in the user's cache so that the next run need not repeat them.

A cache and nothing more: what cannot be read or written is measured again. ATTNBENCH_CACHE_DIR names another folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from attnbench.machine import linux
from attnbench.machine.user_cache import folder
from attnbench.results.events import Ceilings, from_line, to_line


def read(key: tuple[str | int, ...], torch_version: str) -> Ceilings | None:
    """The ceilings of this key since the machine's start; None where there are none."""
    try:
        line = json.loads(_file(key, torch_version).read_text(encoding="utf-8"))
        event = from_line(line)
    except (OSError, ValueError, RuntimeError):
        return None
    return event if isinstance(event, Ceilings) and event.key == key else None


def write(ceilings: Ceilings, torch_version: str) -> None:
    """Keep them, if the folder can be written."""
    if ceilings.macs_per_s is None:
        return
    with contextlib.suppress(OSError, RuntimeError):
        file = _file(ceilings.key, torch_version)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        fresh.write_text(json.dumps(to_line(ceilings)), encoding="utf-8")
        fresh.replace(file)


def _file(key: tuple[str | int, ...], torch_version: str) -> Path:
    boot = linux.text("/proc/sys/kernel/random/boot_id")
    if not boot:
        raise RuntimeError("this system does not say when it was started")
    words = "-".join(str(word).replace(":", "_") for word in (*key, torch_version))
    return folder() / f"ceilings-{boot[:8]}-{words}.json"
