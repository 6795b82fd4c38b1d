"""Rounds whose turns were not taken in turn: parts of several arms become one round. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from attnbench.results.events import Round


def joined(parts: Sequence[Round]) -> Round:
    """One round of parts that share their number: all turns, the sums of the seconds, the first part's conditions."""
    return replace(
        parts[0],
        turns=tuple(turn for part in parts for turn in part.turns),
        seconds=math.fsum(part.seconds for part in parts),
        forward_s=math.fsum(part.forward_s for part in parts),
        primer_s=math.fsum(part.primer_s for part in parts),
    )


def beside(shared: Round | None, alone: Sequence[Round]) -> Round:
    """One round of the shared process's part and the parts of arms in processes of their own; either may be absent."""
    whole = joined([*([shared] if shared else []), *alone])
    turns = shared.turns if shared else ()
    return replace(whole, turns=turns, alone=tuple(turn for part in alone for turn in part.turns))
