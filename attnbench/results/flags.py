"""What disturbed a measurement: the conditions of its rounds in, warnings out. No torch, no clock.

`FLAGS` declares every word once. The words that are judged here come from conditions; the runner sets the others.
A median over rounds tolerates a few disturbed ones, so a condition that comes and goes flags a record only
when it held in more than a fifth of the rounds. What the machine does not report is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

OFTEN = 0.2  # share of the rounds
BUSY = 0.10  # share of our CPUs that others took during a round
BUSY_S = 0.05  # and at least this long: the system counts CPU time in ticks of 10 ms
CLOCK = 0.90  # of the fastest round's SM clock
SWITCHES_PER_S = 100.0  # involuntary context switches, per thread of ours that can run

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "throttled": "a CPU quota, or the GPU's power, heat or hardware guard, slowed more than a fifth of the rounds",
        "throttle_unknown": "the GPU named a throttle reason that this version of attnbench does not know",
        "swapping": "pages came from disk, swapped or mapped from files, in more than a fifth of the rounds",
        "busy_machine": "others took more than 10 % of our CPUs in more than a fifth of the rounds",
        "preempted": "our threads were interrupted over 100 times a second each in more than a fifth of the rounds",
        "clock_drop": "the GPU's clock was below 90 % of its fastest round's in more than a fifth of the rounds",
        "foreign_gpu_process": "another process computed on the same GPU",
        "processes_differ": "fresh processes differ more than their rounds explain; the interval allows for it",
        "wide": "the interval is wider than the protocol's target",
        "few_rounds": "fewer rounds than the protocol asks for",
        "one_process": "all rounds come from one process, so they share its persistent bias",
        "launch_bound": "the host queues the work more slowly than the GPU does it",
        "resumed": "the rounds come from more than one session: the run was interrupted and resumed",
        "no_interval": "one block of calls, as the papers time: no interval can be given",
        "lower_bound": "an operator is not counted, so the true MACs are at least these",
        "cpu_time_only": "the device has no clock of its own: times are the host's",
    }
)

Conditions = Mapping[str, float | str]


def flags(conditions: Sequence[Mapping[str, Any]], rounds: int | None = None) -> tuple[str, ...]:
    """The words that these rounds' conditions deserve, in the order of `FLAGS`.

    Args:
        conditions: one mapping a round, as a device's reading gives them.
        rounds: how many rounds the estimates rest on, if some have no conditions.
    """
    total = max(rounds or 0, len(conditions))
    clocks = [float(c["sm_clock_mhz"]) for c in conditions if "sm_clock_mhz" in c]
    fastest = max(clocks, default=0.0)

    def often(is_so: Callable[[Conditions], bool]) -> bool:
        return sum(map(is_so, conditions)) > OFTEN * total

    def ever(is_so: Callable[[Conditions], bool]) -> bool:
        return any(map(is_so, conditions))

    found = {
        "throttled": often(_throttled),
        "throttle_unknown": ever(lambda c: any(r.startswith("unknown") for r in _reasons(c))),
        "swapping": often(lambda c: _number(c, "swap_ins") > 0 or _number(c, "major_faults") > 0),
        "busy_machine": often(_busy),
        "preempted": often(_preempted),
        "clock_drop": often(lambda c: 0 < _number(c, "sm_clock_mhz") < CLOCK * fastest),
        "foreign_gpu_process": ever(lambda c: _number(c, "other_gpu_processes") > 0),
    }
    return tuple(word for word in FLAGS if found.get(word))


def _throttled(c: Conditions) -> bool:
    return _number(c, "throttled_periods") > 0 or any(not r.startswith("unknown") for r in _reasons(c))


def _busy(c: Conditions) -> bool:
    others = _number(c, "other_cpu_s")
    return others > BUSY_S and others > BUSY * _number(c, "wall_s") * _number(c, "cpus")


def _preempted(c: Conditions) -> bool:
    return _number(c, "involuntary_switches") > max(SWITCHES_PER_S * _number(c, "own_cpu_s"), 5)


def _reasons(c: Conditions) -> list[str]:
    return str(c.get("throttle_reasons", "")).split()


def _number(c: Conditions, name: str) -> float:
    value = c.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
