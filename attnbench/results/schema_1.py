"""Lines of a journal of schema 1 -> lines of today, by the event's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attnbench.results.lines import decode


def _round_1(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """A round of schema 1: samples, host and queue by cell, conditions of the whole round."""
    if "samples" not in line:
        return line
    samples, host, queue = (decode(dict[str, Any], line.get(k, {}), f"round.{k}") for k in ("samples", "host", "queue"))
    turns = [
        {
            "cell": cell,
            "calls_s": calls,
            **({"host_s": host[cell]} if cell in host else {}),
            **({"queue_s": queue[cell]} if cell in queue else {}),
        }
        for cell, calls in samples.items()
    ]
    return {"round": 0, "process": 0, **line, "turns": turns}


OLDER: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {"round": _round_1}
