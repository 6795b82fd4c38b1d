"""Protocols: named sets of the numbers that control timing. Each number can be overridden; a run stores them all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from attnbench import inputs
from attnbench.errors import AttnbenchError
from attnbench.inputs import brief

TURNS_EACH = 16  # turns of arms that a timing process should give at least
TURNS_ALONE = 2  # turns a round of an arm in a process of its own, whose start costs more than they do
LEAST_RUNS = 3  # fewer say next to nothing of what runs differ by
LEAST_PROCESSES = 4  # fewer give no useful interval: the process is the unit of inference
SCHEDULES = ("interleaved", "sequential", "separate")
ORDERS = ("random", "fixed")
MOST_ROUNDS = 10_000
MOST_SERVERS = 64
LONGEST_S = 1e7  # of a budget or a timeout: about four months
SCREENING_PROCESSES = (2, 4, 8, 16, 32)  # after so many a run within a budget looks who leads
SCREENING_TARGET = 0.01  # half-width at which its leaders count as tied, unless the request names another
MOST_BYTES = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a comparison group is timed.

    Attributes:
        name: what --protocol takes; `meaning` describes it for people.
        looks: numbers of rounds at which the stopping rule is applied.
        processes: fresh processes that the rounds of the first look are spread over.
        servers: fork servers, started together, that a group's processes come from one after another: processes of one
            share an address-space layout, and may share a bias with it. Never more than `processes`.
        few_arms: a small group gets more rounds from each process, whose start costs more than its turns.
        calls: timed calls of one turn; more for very short calls, one for very long ones.
        turn_s: a turn with short calls gets more calls until it takes about this many seconds; 0: always `calls`.
        prime_s: seconds that untimed calls fit into before a turn; never fewer calls than `prime_calls`.
        target: timing stops when the relative half-width of the ratio's interval is at most this.
        budget_s: seconds of timing per arm and group.
        within_s: seconds of wall time for the whole run, which `screening` then divides; infinite: no such budget.
        level: confidence level of every interval.
        inference: time in eval mode without autograd; the papers' procedure uses train mode with autograd.
        batch: the default batch, if the procedure prescribes one; 0: none.
        tf32: the default precision is tf32 on a device that has it; fp32 elsewhere, and without this.
        cold: flush the caches before each timed call.
        strict: take a turn again that other programs, steal or throttling disturbed.
        schedule: which arms share a timing process: `interleaved` (all; every round gives each arm a turn),
            `sequential` (all; an arm has its turns of every round before the next arm begins), `separate` (each arm has
            a process of its own, one after another).
        order: of the arms in a process and in a round: `random` or `fixed` (that of the plan).
        timeout_s: limit for the trial of one arm, and for any single turn.
        memory_limit: bytes that a worker process may allocate on its device; 0: the free memory.
    """

    name: str
    meaning: str
    looks: tuple[int, ...]
    processes: int
    calls: int = 3
    turn_s: float = 0.015
    servers: int = 1
    prime_s: float = 0.05
    prime_calls: int = 1
    target: float = 0.02
    budget_s: float = 60.0
    within_s: float = math.inf
    level: float = 0.95
    inference: bool = True
    batch: int = 0
    tf32: bool = False
    cold: bool = False
    strict: bool = False
    timeout_s: float = 120.0
    memory_limit: int = 0
    few_arms: bool = True
    schedule: str = "interleaved"
    order: str = "random"

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("order", ORDERS)):
            if getattr(self, name) not in known:
                raise AttnbenchError(f"{name} must be one of {', '.join(known)}; got {brief(getattr(self, name))}")

    @property
    def rounds_each(self) -> int:
        """Rounds that one process times."""
        return max(1, self.looks[0] // self.processes)

    @property
    def processes_at_looks(self) -> tuple[int, ...]:
        """Processes that have given their rounds at each look."""
        return tuple(look // self.rounds_each for look in self.looks)

    @property
    def screens(self) -> bool:
        """Whether the run has a budget as a whole, and its rounds go to the arms that may lead."""
        return math.isfinite(self.within_s)

    def screening(self) -> Protocol:
        """The protocol for a run within `within_s`: looks from the second process on, no budget of a single group.

        Raises:
            AttnbenchError: the protocol times one block of calls, so that there are no rounds to give.
        """
        if self.looks[-1] == 1:
            raise AttnbenchError(
                f"within divides rounds among arms; protocol {self.name} times an arm in one block; choose another"
            )
        looks = tuple(self.rounds_each * processes for processes in SCREENING_PROCESSES)
        return replace(self, looks=looks, processes=SCREENING_PROCESSES[0], budget_s=math.inf)

    def for_arms(self, arms: int) -> Protocol:
        """The protocol of a group of so many arms: at least `TURNS_EACH` turns a process, by twice as many rounds."""
        each = min(2 * self.rounds_each, max(self.rounds_each, math.ceil(TURNS_EACH / max(arms, 1))))
        if not self.few_arms or not self.inference or each == self.rounds_each:
            return self
        return replace(self, looks=tuple(look // self.rounds_each * each for look in self.looks), few_arms=False)

    def reference_turns(self, arms: int) -> int:
        """Turns of the reference in a round of so many arms: the square root of the others (Dunnett's allocation).

        One where a single block of calls is all that an arm gets, and where arms do not take turns.
        """
        several = self.schedule == "interleaved" and self.looks[-1] > 1 and arms > 1
        return max(1, round(math.sqrt(arms - 1))) if several else 1

    def calls_in_turn(self, call_s: float) -> int:
        """The timed calls of a turn, for a layer whose call takes about `call_s` seconds."""
        if not self.turn_s or not math.isfinite(call_s) or call_s <= 0:
            return self.calls
        if call_s > 1.0:
            return 1
        return max(self.calls, min(50, math.ceil(self.turn_s / call_s)))


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            name="quick",
            meaning="a first look: 14 rounds over 7 processes",
            looks=(14,),
            processes=7,
            target=0.05,
            budget_s=8.0,
        ),
        Protocol(
            name="standard",
            meaning="for a table in a paper: 16 to 32 rounds over 8 to 16 processes",
            looks=(16, 24, 32),
            processes=8,
            target=0.02,
            budget_s=60.0,
        ),
        Protocol(
            name="rigorous",
            meaning="for small differences: 32 to 96 rounds over 16 to 48 processes",
            looks=(32, 64, 96),
            processes=16,
            servers=8,
            target=0.01,
            budget_s=600.0,
        ),
        Protocol(
            name="paper",
            meaning="the authors' procedure: batch 64, a process a layer, 30 calls in one block, no warm-up, train "
            "mode, autograd on, TF32 where the GPU has it",
            looks=(1,),
            processes=1,
            calls=30,
            turn_s=0.0,
            prime_s=0.0,
            prime_calls=0,
            inference=False,
            batch=64,
            tf32=True,
            schedule="separate",
            order="fixed",
            target=math.inf,
            budget_s=math.inf,
            timeout_s=1800.0,
        ),
    )
}
OVERRIDES = tuple(f.name for f in fields(Protocol) if f.name not in ("name", "meaning", "batch", "tf32"))


def get(name: str, overrides: Iterable[tuple[str, Any]] = ()) -> Protocol:
    """Look up a protocol and replace single numbers; `rounds` replaces all looks by one.

    Raises:
        AttnbenchError: the protocol or a number's name is unknown.
    """
    inputs.one_of("protocol", name, PROTOCOLS)
    given = dict(overrides)
    for key, value in given.items():
        if key != "rounds" and key not in OVERRIDES:
            raise AttnbenchError(f"an override must be one of rounds, {', '.join(OVERRIDES)}; got {brief(key)}")
        given[key] = _checked(key, value)
    if "rounds" in given:
        given["looks"] = (given.pop("rounds"),)
    if {"looks", "processes"} & set(given):
        given.setdefault("few_arms", False)
    if "within_s" in given:
        given.setdefault("target", SCREENING_TARGET)
    made = replace(PROTOCOLS[name], **given)
    if not made.screens:
        return made
    chosen = sorted({"looks", "processes", "budget_s"} & set(given))
    if chosen:
        raise AttnbenchError(f"within decides on rounds, processes and budgets itself; got {', '.join(chosen)} too")
    return made.screening()


def _checked(key: str, value: Any) -> Any:
    """The value of an override; raises AttnbenchError for one of the wrong type, or that no run could have."""
    if key == "looks":
        if not isinstance(value, list | tuple) or not value:
            raise AttnbenchError(f"looks must be a list of rounds; got {brief(value)}")
        looks = tuple(inputs.whole("rounds", look, most=MOST_ROUNDS) for look in value)
        if list(looks) != sorted(set(looks)):
            raise AttnbenchError(f"looks must increase; got {brief(value)}")
        return looks
    if key in _WHOLE:
        least, most = _WHOLE[key]
        return inputs.whole(key, value, least=least, most=most)
    if key in _NUMBERS:
        zero = key in _MAY_BE_ZERO and value == 0
        return 0.0 if zero else inputs.positive(key, value, most=_NUMBERS[key])
    if key in _SWITCHES and not isinstance(value, bool):
        raise AttnbenchError(f"{key} must be true or false; got {brief(value)}")
    return value


_WHOLE = {
    "rounds": (1, MOST_ROUNDS), "processes": (1, MOST_ROUNDS), "servers": (1, MOST_SERVERS),
    "calls": (1, inputs.MOST),
    "prime_calls": (0, inputs.MOST), "memory_limit": (0, MOST_BYTES),
}  # fmt: skip
_NUMBERS = {
    "target": math.inf, "budget_s": math.inf, "within_s": LONGEST_S, "timeout_s": LONGEST_S, "level": 1.0,
    "turn_s": LONGEST_S, "prime_s": LONGEST_S,
}  # fmt: skip
_MAY_BE_ZERO = ("turn_s", "prime_s")
_SWITCHES = ("inference", "cold", "strict", "few_arms")
